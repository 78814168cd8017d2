#!/usr/bin/env bash
# Measures the store and its peers on this machine and writes docs/BENCHMARKS.md. See: bench/run.sh --help
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
command -v python3 >/dev/null || { echo 'bench/run.sh: python3 is missing; get it: apt-get install python3' >&2; exit 1; }
# rustup puts cargo where a shell finds it only after the next login.
command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# Ten thousand connections need as many file descriptors, here and in the processes that are started from here.
ulimit -Sn hard
# What a shell of somebody who runs a store has set is not for these stores.
unset BOOKENDS_CONFIG BOOKENDS_CLUSTER_SECRET BOOKENDS_ADMIN_TOKEN BOOKENDS_LOG BOOKENDS_LOG_FORMAT BOOKENDS_URL

PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$here" exec python3 -m suite "$@"
