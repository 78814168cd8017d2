#!/usr/bin/env bash
# Tests everything: form, lints, all tests, the documentation, and what README.md shows.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"

usage() {
    cat <<'USAGE'
Usage: ./test.sh [quick]

  (nothing)   formatting, lints, the release build, all tests (also with real processes that are killed),
              the proofs without one safeguard at a time, the documentation, and the commands of README.md
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
need() {
    if ! "${@:2}" >/dev/null 2>&1; then
        printf 'test.sh: %s\n' "$1" >&2
        missing=1
    fi
}
need 'cargo is missing; get it: https://rustup.rs' cargo --version
need 'rustfmt is missing; get it: rustup component add rustfmt' cargo fmt --version
need 'clippy is missing; get it: rustup component add clippy' cargo clippy --version
need 'a C compiler is missing; get it: apt-get install build-essential' cc --version
if [ "${1-}" != quick ]; then
    need 'curl is missing; get it: apt-get install curl' curl --version
    need 'ssh is missing; get it: apt-get install openssh-client' ssh -V
    need 'ssh-keygen is missing; get it: apt-get install openssh-client' sh -c 'command -v ssh-keygen'
    need 'sshd is missing; get it: apt-get install openssh-server' test -x /usr/sbin/sshd
fi
[ "$missing" = 0 ] || exit 1

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
step 'mutants' cargo test --profile proof --features mutants --locked -p bookends-sim --test mutants
step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --workspace
step 'README.md' tests/readme.sh
printf '%sall is well, after %s s%s\n' "$bold" "$SECONDS" "$plain"
