#!/bin/sh
# Fuzz every target for a while: sh fuzz/run.sh [SECONDS [TARGET...]]; 0 replays the corpus only.
set -eu
cd "$(dirname "$0")/.."
python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python
seconds=${1:-0}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(cd fuzz/corpus && ls)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in "$@"; do
    "$python" fuzz/run.py "$target" 0
    [ "$seconds" = 0 ] && continue
    if "$python" fuzz/run.py "$target" "$seconds" >"$log" 2>&1; then
        grep -a "blind mutations" "$log" || echo "$target: fuzzed for $seconds s, nothing found"
    else
        cat "$log"
        exit 1
    fi
done
