#!/usr/bin/env bash
# Builds the store and hands over to the sentinel, which does everything else.
set -euo pipefail

here="$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)"

usage() {
    cat <<'USAGE'
Usage: ./starter.sh [VERB] [--config FILE]

  up                build if needed, start every node, wait until the store is ready, say where (default)
  status            nodes, shards and replicas at a glance (--json: the JSON of /status)
  test [N]          the client's test threads (N, 2 by default) against the running store
  kill NODE         SIGKILL; the sentinel starts it again, unless --stay-down
  stop NODE         SIGTERM, and SIGKILL if it takes longer than 10 s
  start NODE        start a node that was stopped, stayed down or was given up; alone, if nothing runs
  restart NODE      stop and start
  logs [NODE]       follow the logs (--no-follow: print the last lines and end)
  down              stop everything; data stays
  clean             down, and remove the data after asking (--yes: without asking)

Examples:
  ./starter.sh                          start the store of config.toml
  ./starter.sh kill catalog-1           watch it heal: ./starter.sh status
  BOOKENDS_CONFIG=other.toml ./starter.sh up

Exit codes: 0 done, 1 failed, 2 wrong use or bad configuration.
USAGE
}

[ $# -gt 0 ] || set -- up
case "$1" in
    -h | --help | help) usage; exit 0 ;;
    up | test | -*) build=always ;;
    # What looks at a store or stops it must work also while the sources don't compile.
    status | kill | stop | start | restart | logs | down | clean) build=missing ;;
    *)
        printf 'starter.sh: there is no verb `%s`\n\n' "$1" >&2
        usage >&2
        exit 2
        ;;
esac

# Relative paths are the caller's, also where cargo runs in another directory.
target="${CARGO_TARGET_DIR:-$here/target}"
case "$target" in /*) ;; *) target="$PWD/$target" ;; esac
export CARGO_TARGET_DIR="$target"
export BOOKENDS_CONFIG="${BOOKENDS_CONFIG:-$here/config.toml}"

built() {
    local program
    for program in sentinel catalog order frontend bookends; do
        [ -x "$target/release/$program" ] || return 1
    done
}

# rustup puts cargo where a shell finds it only after the next login.
command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

missing=()
command -v cargo >/dev/null || missing+=("cargo is missing: see https://rustup.rs")
command -v cc >/dev/null || missing+=("a C compiler is missing: apt-get install build-essential")

if [ ${#missing[@]} -gt 0 ]; then
    if ! built; then
        printf -v all '%s; ' "${missing[@]}"
        printf 'starter.sh: %s\n' "${all%; }" >&2
        exit 1
    fi
    # Built before, here or elsewhere: that is good enough to run.
elif [ "$build" = always ] || ! built; then
    # Cargo knows best what to do; the stamp only tells whether it is worth showing.
    stamp="$target/release/.starter-built"
    quiet=()
    if built && [ -e "$stamp" ]; then
        changed="$(find "$here" \( -path "$target" -o -path "$here/target" -o -name .git \) -prune -o \
            -type f \( -name '*.rs' -o -name 'Cargo.*' \) -newer "$stamp" -print -quit)"
        [ -n "$changed" ] || quiet=(--quiet)
    fi
    if ! (cd -- "$here" && cargo build --release --locked --bins ${quiet[@]+"${quiet[@]}"} >&2); then
        echo 'starter.sh: the build failed' >&2
        exit 1
    fi
    touch -- "$stamp"
fi

exec "$target/release/sentinel" "$@"
