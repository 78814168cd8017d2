#!/usr/bin/env bash
# Tests everything: form, lints, all tests, the documentation, and what README.md and docs/TOUR.md show.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"

usage() {
    cat <<'USAGE'
Usage: ./test.sh [quick]

  (nothing)   formatting, lints, the release build, all tests (also with real processes that are killed),
              the proofs without one safeguard at a time, the documentation, and the commands of README.md and docs/TOUR.md
  quick       formatting, lints and the unit tests of all crates

Exit codes: 0 all is well, 1 something is not, 2 wrong use.
USAGE
}

case "${1-}" in
    '' | quick) ;;
    -h | --help | help) usage; exit 0 ;;
    *) printf 'test.sh: there is no `%s`\n\n' "$1" >&2; usage >&2; exit 2 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

# rustup puts cargo where a shell finds it only after the next login.
command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

missing=0
packages=()
# need WHAT HOW-TO-GET-IT CHECK…
need() {
    "${@:3}" >/dev/null 2>&1 && return
    printf 'test.sh: %s is missing; get it: %s\n' "$1" "$2" >&2
    missing=1
}
# need_package WHAT PACKAGE CHECK…: as root, Debian's package is installed.
need_package() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        need "$1" "apt-get install $2" "${@:3}"
    elif ! "${@:3}" >/dev/null 2>&1; then
        packages+=("$2")
    fi
}
need cargo 'https://rustup.rs' cargo --version
need rustfmt 'rustup component add rustfmt' cargo fmt --version
need clippy 'rustup component add clippy' cargo clippy --version
need_package 'a C compiler' build-essential cc --version
if [ "${1-}" != quick ]; then
    need_package curl curl curl --version
    need_package ssh openssh-client sh -c 'command -v ssh && command -v ssh-keygen'
    need_package sshd openssh-server test -x /usr/sbin/sshd
fi
[ "$missing" = 0 ] || exit 1
if [ ${#packages[@]} -gt 0 ]; then
    printf 'test.sh: installing %s\n' "${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${packages[@]}"; } >/dev/null; then
        printf 'test.sh: that failed; get them: apt-get install %s\n' "${packages[*]}" >&2
        exit 1
    fi
fi

step() {
    local name="$1" begin=$SECONDS
    shift
    printf '%s== %s: %s%s\n' "$bold" "$name" "$*" "$plain"
    if ! "$@"; then
        printf '%s== %s: failed after %s s%s\n' "$bold" "$name" "$((SECONDS - begin))" "$plain" >&2
        exit 1
    fi
    printf '%s== %s: done in %s s%s\n' "$bold" "$name" "$((SECONDS - begin))" "$plain"
}

cd -- "$here"
# What a shell of somebody who runs a store has set is not for the tests.
unset BOOKENDS_CONFIG BOOKENDS_CLUSTER_SECRET BOOKENDS_ADMIN_TOKEN BOOKENDS_LOG BOOKENDS_LOG_FORMAT BOOKENDS_URL

# All but the mutants in one profile: what it needs from elsewhere, SQLite above all, is compiled once.
step 'formatting' cargo fmt --check
step 'lints' cargo clippy --release --workspace --all-targets --locked -- -D warnings
if [ "${1-}" = quick ]; then
    step 'unit tests' cargo test --release --locked --workspace --lib
    exit 0
fi
step 'build' cargo build --release --locked --workspace --bins
step 'tests' cargo test --release --locked --workspace
step 'mutants' cargo test --profile proof --features mutants --locked -p bookends-sim --test mutants --test rerun
step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --workspace
step 'README.md' tests/readme.sh
printf '%sall is well, after %s s%s\n' "$bold" "$SECONDS" "$plain"
