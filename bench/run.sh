#!/usr/bin/env bash
# Measures a store of its own, in a temporary folder, and prints what it found: throughput, latency, and
# the ratios between them. Machines differ and are noisy; the ratios of one run say more than its numbers.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
seconds="${1:-5}"
case "$seconds" in
    -h | --help)
        printf 'Usage: bench/run.sh [SECONDS]\n\nMeasures for SECONDS each (5 by default). Needs python3 to compare.\n'
        exit 0
        ;;
    '' | *[!0-9]*)
        printf 'bench/run.sh: SECONDS is a whole number, found %s\n' "$seconds" >&2
        exit 2
        ;;
esac
command -v python3 >/dev/null || { echo 'bench/run.sh: python3 is missing; get it: apt-get install python3' >&2; exit 1; }

cd "$here"
cargo build --release --locked --quiet --workspace --bins
programs="${CARGO_TARGET_DIR:-$here/target}/release"
folder="$(mktemp -d)"
stop() {
    "$programs/sentinel" --config "$folder/config.toml" down >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT

head -n 1 catalogue.csv >"$folder/catalogue.csv"
for id in $(seq 1 1000); do
    printf '%s,Book number %s,topic %s,,,,,%s,1000000000\n' "$id" "$id" "$((id % 20))" "$((500 + id))"
done >>"$folder/catalogue.csv"

# A store with all ports chosen by the system; $1 is a line for [cache].
start() {
    cat >"$folder/config.toml" <<CONFIG
[cluster]
data_dir = "data"
[[frontend]]
id = "frontend-1"
public = "127.0.0.1:0"
internal = "127.0.0.1:0"
heartbeat = "127.0.0.1:0"
[[catalog]]
id = "catalog-1"
listen = "127.0.0.1:0"
[[catalog]]
id = "catalog-2"
listen = "127.0.0.1:0"
[[order]]
id = "order-1"
listen = "127.0.0.1:0"
[[order]]
id = "order-2"
listen = "127.0.0.1:0"
[cache]
$1
CONFIG
    "$programs/sentinel" --config "$folder/config.toml" up >/dev/null
    url="http://$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["public"])' "$folder/data/run/frontend-1.addr")"
}

load() { # name, arguments of `bookends load`
    local name="$1"
    shift
    "$programs/bookends" load --url "$url" --duration "$seconds" --json "$@" >"$folder/$name.json"
}

start 'enabled = true'
load hit-64 --connections 64 --mix lookup=1
load buy-64 --connections 64 --mix buy=1
load buy-1 --connections 1 --mix buy=1
load mixed-64 --connections 64
"$programs/sentinel" --config "$folder/config.toml" down >/dev/null
start 'enabled = false'
load miss-64 --connections 64 --mix lookup=1

python3 - "$folder" <<'REPORT'
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
names = {
    "hit-64": "cached lookups, 64 connections",
    "miss-64": "lookups without a cache, 64 connections",
    "buy-64": "buys, 64 connections",
    "buy-1": "buys, 1 connection",
    "mixed-64": "90 lookups, 5 searches, 5 buys, 64 connections",
}
found = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
print("| what | per second | p50 µs | p99 µs | errors |")
print("| --- | ---: | ---: | ---: | ---: |")
for name, what in names.items():
    report = found[name]
    latency = report["latency"]
    errors = sum(report["errors"].values())
    print(f"| {what} | {report['per_second']:.0f} | {latency['p50_us']} | {latency['p99_us']} | {errors} |")
rate = lambda name: found[name]["per_second"]
print(f"\nhit / miss: {rate('hit-64') / rate('miss-64'):.1f}    buy at 64 / buy at 1: {rate('buy-64') / rate('buy-1'):.1f}")
REPORT
