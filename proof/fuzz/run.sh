#!/usr/bin/env bash
# Fuzzes the parsers of foreign bytes, one after the other.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
results="${CARGO_TARGET_DIR:-$here/../../target}/fuzz"

usage() {
    cat <<'USAGE'
Usage: proof/fuzz/run.sh [SECONDS] [TARGET…]

  SECONDS   how long each target is fuzzed (60 if it is not said)
  TARGET    which ones (all of them if none is named); `proof/fuzz/run.sh list` lists them

Each begins with valid inputs and goes on from what it found the last time. What it learns and what it finds is
kept in target/fuzz: TARGET/corpus, TARGET/finds, TARGET/log. An input that breaks a target is shown and kept; put
it into proof/fuzz/regressions/TARGET, and every run of the tests tries it again.

Exit codes: 0 nothing was found, 1 something was, 2 wrong use or something is missing.
USAGE
}

fail() {
    printf 'run.sh: %s\n' "$1" >&2
    exit 2
}

all=()
for file in "$here"/fuzz/fuzz_targets/*.rs; do
    all+=("$(basename -- "$file" .rs)")
done

case "${1-}" in
    -h | --help | help) usage; exit 0 ;;
    list) printf '%s\n' "${all[@]}"; exit 0 ;;
esac
seconds=60
if [[ "${1-}" =~ ^[0-9]+$ ]]; then
    seconds="$1"
    shift
fi
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
    [ -f "$here/fuzz/fuzz_targets/$target.rs" ] || fail "there is no target \`$target\`; \`run.sh list\` shows which there are"
done

# rustup puts cargo where a shell finds it only after the next login.
command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
cargo --version >/dev/null 2>&1 || fail 'cargo is missing; get it: https://rustup.rs'
cargo fuzz --version >/dev/null 2>&1 || fail 'cargo-fuzz is missing; get it: cargo install cargo-fuzz --locked'
c++ --version >/dev/null 2>&1 || fail 'a C++ compiler is missing; get it: apt-get install build-essential'

cd -- "$here"
# Some targets write small files for each input.
[ -n "${TMPDIR-}" ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm
cargo run --quiet --release --locked -p bookends-fuzz -- "$results/valid"
# The fuzzers are of what the store is made of, to the version.
cp ../../Cargo.lock fuzz/Cargo.lock
# cargo-fuzz passes a flag that only nightly compilers take by themselves; nothing else of them is used.
export RUSTC_BOOTSTRAP=1

found=0
for target in "${targets[@]}"; do
    mkdir -p "$results/$target/corpus" "$results/$target/finds"
    options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0
        -artifact_prefix="$results/$target/finds/")
    [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
    inputs=("$results/$target/corpus" "$results/valid/$target")
    [ ! -d "regressions/$target" ] || inputs+=("regressions/$target")
    printf '%s: %s s\n' "$target" "$seconds"
    if cargo fuzz run --sanitizer none --target-dir "$results/build" "$target" "${inputs[@]}" -- "${options[@]}" \
        >"$results/$target/log" 2>&1; then
        sed -n 's/^stat::number_of_executed_units: */  executions: /p' "$results/$target/log"
    else
        tail -n 20 "$results/$target/log"
        found=1
    fi
done
exit "$found"
