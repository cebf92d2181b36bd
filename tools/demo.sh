#!/bin/sh
# Shows the whole of grit in a scratch repository: sh tools/demo.sh [TRACKER.jsonl]
# Needs git, Python 3.11 or later and pip; the rest goes into .venv-demo. Exits non-zero when
# anything fails. TRACKER.jsonl is a beads tracker to import.
set -eu
tracker=""
if [ $# -gt 0 ]; then
    tracker=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
    [ -r "$tracker" ] || { echo "demo: cannot read $1" >&2; exit 2; }
fi
cd "$(dirname "$0")/.."
. tools/environment.sh

command -v git >/dev/null 2>&1 || die "git is needed"
make_venv .venv-demo "-e ." pyproject.toml
PATH=$PWD/.venv-demo/bin:$PATH
export PATH

scratch=$(mktemp -d)
trap 'cd /; rm -rf "$scratch"' EXIT
export HOME="$scratch/home" GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat GRIT_PAGER=cat
mkdir "$HOME"

# show COMMAND...: print the command, then run it.
show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# same FIRST SECOND WHAT: fail unless two files are equal.
same() {
    cmp -s "$1" "$2" || { diff "$1" "$2" | head -n 20 >&2; die "$3 changed"; }
    say "  -- $3: the same, byte for byte"
}

# The JSON document of an export without what must differ: the time it was made at.
export_to() {
    grit export --format json >"$1.raw"
    [ -s "$1.raw" ] || die "the export is empty"
    sed 's/"generated_ts": *[0-9]*//' "$1.raw" >"$1"
}

id_of() {
    sed -n 's/.*"issue_id": *"\([0-9a-f]\{32\}\)".*/\1/p' | head -n 1
}

create() {
    printf '\n$ grit issue create --title "%s" ...\n' "$2" >&2
    id=$(grit issue create --title "$2" --body "$3" --label "$4" --json | id_of)
    [ ${#id} -eq 32 ] || die "create gave no id"
    say "  -> $id" >&2
    eval "$1=$id"
}

view_survives() {
    grit ls --state all --all --json >"$scratch/list.before"
    export_to "$scratch/export.before"
    show rm -rf .git/grit/view
    grit ls --state all --all --json >"$scratch/list.after"
    export_to "$scratch/export.after"
    same "$scratch/list.before" "$scratch/list.after" "list after the view was deleted"
    same "$scratch/export.before" "$scratch/export.after" "export after the view was deleted"
    show grit rebuild
    export_to "$scratch/export.rebuilt"
    same "$scratch/export.before" "$scratch/export.rebuilt" "export after rebuild"
}

say "== a fresh repository"
git init -q "$scratch/repository"
cd "$scratch/repository"
git config user.name "Ann Example"
git config user.email ann@example.org
show grit init
show grit init
create race "Fix race in WAL append" "Two writers, one ref." bug
create docs "Write the five-minute tour" "For people in a hurry." docs
create speed "List 100,000 issues fast" "A page is a page." performance
show grit issue list
show grit issue show "$race"
show grit issue comment "$race" --body "Reproduced with eight processes."
show grit issue dep add "$docs" --target "$race" --type depends_on
show grit ready
show grit blocked
show grit issue close "$race" --comment "Fixed by compare-and-swap."
show grit ready
show grit issue list --state all
show grit issue history "$race"
show grit search eight
show grit export --format md
show git log --oneline refs/grit/wal
view_survives
show grit doctor
[ -z "$(git status --porcelain)" ] || die "the working tree was touched"
say "  -- the working tree and the index are untouched"

say
say "== two clones that meet"
git init -q --bare "$scratch/meet.git"
git remote add origin "$scratch/meet.git"
show grit sync
git init -q "$scratch/colleague"
git -C "$scratch/colleague" remote add origin "$scratch/meet.git"
git -C "$scratch/colleague" config user.name "Bob Example"
git -C "$scratch/colleague" config user.email bob@example.org
show grit -C "$scratch/colleague" sync
show grit -C "$scratch/colleague" issue comment "$docs" --body "Written offline."
show grit issue comment "$speed" --body "Also written offline."
show grit sync
show grit -C "$scratch/colleague" sync
show git fetch -q origin
export_to "$scratch/export.here"
(cd "$scratch/colleague" && export_to "$scratch/export.there")
same "$scratch/export.here" "$scratch/export.there" "export of both clones"
show grit issue claim "$docs"
if show grit -C "$scratch/colleague" issue claim "$docs"; then die "two clones won one claim"; fi
show grit snapshot create
show grit rebuild --from-snapshot
show grit doctor

if [ -n "$tracker" ]; then
    say
    say "== a real tracker"
    git init -q "$scratch/imported"
    cd "$scratch/imported"
    git config user.name "Ann Example"
    git config user.email ann@example.org
    show grit init
    show grit import beads "$tracker"
    commits=$(git rev-list --count refs/grit/wal)
    events=$(git rev-parse refs/grit/wal)
    say "  -- $commits commits"
    show grit issue list --limit 15
    show grit search sync --limit 5
    show grit ready --limit 10
    show grit import beads "$tracker"
    [ "$(git rev-parse refs/grit/wal)" = "$events" ] || die "a second import added events"
    say "  -- the second import added nothing"
    view_survives
fi
say
say "demo: everything worked"
