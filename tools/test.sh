#!/bin/sh
# Everything that CI runs, from a bare checkout: sh tools/test.sh [--quick] [-- PYTEST_FLAGS]
# Needs git, Python 3.11 or later and pip; the rest goes into .venv.
set -eu
cd "$(dirname "$0")/.."
. tools/environment.sh

quick=no
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=yes ;;
        --) shift; break ;;
        -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
        *) die "unknown option '$1'; flags for pytest come after --" ;;
    esac
    shift
done

times=""
step_started=$(date +%s)
failed=""
# step NAME COMMAND...: run it, remember how long it took and whether it failed.
step() {
    name=$1
    shift
    say "== $name"
    step_started=$(date +%s)
    "$@" || failed="$failed $name"
    times="$times $name $(($(date +%s) - step_started)) s,"
}

finish() {
    say "time:${times%,}"
    [ -z "$failed" ] || die "failed:$failed"
    say "all checks passed"
}

prepare() {
    command -v git >/dev/null 2>&1 || die "git is needed"
    make_venv .venv "-e .[dev]" pyproject.toml
    need_deb strace strace
    need_deb tmux tmux
    need_deb less less
    need_deb vim-tiny vi
    need_deb openssh-client ssh
    need_deb openssh-server sshd
    need_deb lighttpd lighttpd
    need_deb zsh zsh
    need_deb fish fish
    need_deb faketime faketime
    if [ "$quick" = no ] && [ ! -e .venv/.fuzz-tried ]; then
        .venv/bin/python -m pip install -q --disable-pip-version-check "atheris>=3.0" 2>/dev/null ||
            say "note: Atheris cannot be installed here; fuzzing falls back to blind mutations"
        touch .venv/.fuzz-tried
    fi
}

pytest_all() {
    if [ "$quick" = yes ]; then
        set -- -m "not slow" "$@"
    fi
    "$bin/python" -m pytest -n 2 -q "$@"
}

# Only core must be covered whole, by its own tests: tracing the rest would double the time of all.
core_covered() {
    "$bin/coverage" erase
    "$bin/python" -m pytest -n 2 -q tests/core --cov=grit.core --cov-report= &&
        "$bin/coverage" report --include='grit/core/*' --fail-under=100
}

step environment prepare
[ -z "$failed" ] || finish
bin=.venv/bin
PATH=$PWD/$bin:$PATH
export PATH

step ruff "$bin/ruff" check .
step format "$bin/ruff" format --check .
step mypy "$bin/mypy" --strict grit
step imports "$bin/lint-imports"
if [ "$quick" = no ]; then
    step fuzz sh fuzz/run.sh 5
fi
if [ $# -eq 0 ] && [ "$quick" = no ]; then
    step core core_covered
    set -- --ignore=tests/core
fi
step pytest pytest_all "$@"
finish
