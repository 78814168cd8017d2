#!/usr/bin/env bash
# Runs the commands that README.md and docs/TOUR.md show, in order: those in fenced `sh` blocks between the lines
# `<!-- test -->` and `<!-- /test -->`. They get a configuration and data of their own, so that a store that runs
# here is left alone; where a port of config.toml is taken, another one takes its place, in the commands as well.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
target="${CARGO_TARGET_DIR:-$here/target}"
case "$target" in /*) ;; *) target="$PWD/$target" ;; esac

fail() {
    printf 'tests/readme.sh: %s\n' "$1" >&2
    exit 1
}

# The commands of all marked blocks; a marker without its counterpart is a mistake, not the end.
commands_of() {
    awk '
        function wrong(why) { print FILENAME ":" FNR ": " why > "/dev/stderr"; failed = 1; exit 1 }
        $0 == "<!-- test -->" { if (marked) wrong("`<!-- test -->` within another"); marked = 1; next }
        $0 == "<!-- /test -->" { if (!marked || fenced) wrong("`<!-- /test -->` out of place"); marked = 0; next }
        marked && !fenced && $0 == "```sh" { fenced = 1; next }
        fenced && $0 == "```" { fenced = 0; next }
        fenced { print }
        END { if (!failed && (marked || fenced)) wrong("a marked block does not end") }
    ' "$1"
}

# Whether something listens on a port of this machine.
taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

pages=(README.md docs/TOUR.md)
commands=''
for page in "${pages[@]}"; do
    [ -f "$here/$page" ] || fail "there is no $page"
    shown="$(commands_of "$here/$page")" || exit 1
    [ -n "$shown" ] || fail "$page has no \`\`\`sh block between \`<!-- test -->\` and \`<!-- /test -->\`"
    commands+="$shown"$'\n'
done
command -v curl >/dev/null || fail 'curl is missing, which these pages use; get it: apt-get install curl'

place="$(mktemp -d "${TMPDIR:-/tmp}/bookends-readme.XXXXXX")"
cleanup() {
    status=$?
    if [ -x "$target/release/sentinel" ]; then
        "$target/release/sentinel" down --config "$place/config.toml" >/dev/null || status=1
    fi
    rm -rf -- "$place"
    exit "$status"
}
cp -- "$here/config.toml" "$here/catalogue.csv" "$place"
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

unset BOOKENDS_CLUSTER_SECRET BOOKENDS_ADMIN_TOKEN BOOKENDS_URL BOOKENDS_LOG BOOKENDS_LOG_FORMAT
export BOOKENDS_CONFIG="$place/config.toml"
free=20000
for port in $(grep -oE '127\.0\.0\.1:[0-9]+' "$BOOKENDS_CONFIG" | cut -d: -f2 | sort -u); do
    taken "$port" || continue
    while taken "$free"; do free=$((free + 1)); done
    sed -i "s/127\.0\.0\.1:$port\"/127.0.0.1:$free\"/" "$BOOKENDS_CONFIG"
    commands="${commands//127.0.0.1:$port/127.0.0.1:$free}"
    if [ "$port" = 8080 ]; then export BOOKENDS_URL="http://127.0.0.1:$free"; fi
    free=$((free + 1))
done
commands="${commands//target\/release\//$target/release/}"

# An answer that is an error fails the command, though curl alone would only show it.
printf 'fail\n' >"$place/.curlrc"
cd -- "$here"
if ! printf '%s\n' "$commands" | CURL_HOME="$place" bash -exu -o pipefail >"$place/output" 2>&1; then
    cat -- "$place/output" >&2
    fail 'a command that these pages show fails: the last one above'
fi
printf '%s: %s commands work\n' "${pages[*]}" "$(grep -c . <<<"$commands")"
