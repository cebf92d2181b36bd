"""Commands for snapshots of the log: create, list, verify, gc."""

from collections.abc import Sequence
from typing import Final

import click

from grit.cli.context import REMOTE, SNAPSHOT, Context, GritCommand, TalkingCommand
from grit.cli.main import LazyGroup
from grit.cli.table import counted
from grit.core.escape import escape
from grit.core.times import format_ms
from grit.services import snapshots as service
from grit.services.snapshot_record import MADE
from grit.services.snapshots import Listed

FAILED: Final = 1


def _json(one: Listed) -> dict[str, object]:
    commit, refs, _, manifest = one.snapshot
    return {
        "refs": list(refs),
        "commit": commit,
        "status": one.status,
        "usable": one.usable,
        "created_ts": manifest.created_ts if manifest else None,
        "wal_head": manifest.wal_head if manifest else None,
        "event_count": manifest.event_count if manifest else None,
    }


def _places(one: Listed) -> tuple[str, str]:
    """Return the names of a snapshot, and where it is: "here" or a remote."""
    names: dict[str, None] = {}
    places: dict[str, None] = {}
    for ref in one.snapshot.refs:
        place, _, name = ref.partition("/snapshots/")
        names[name] = places[place.removeprefix("refs/grit-remotes/")] = None
    words = ["here" if place == "refs/grit" else place for place in places]
    return ", ".join(map(escape, names)), ", ".join(map(escape, words))


def _table(rows: Sequence[Listed]) -> list[str]:
    from tabulate import tabulate

    if not rows:
        return ["no snapshots"]
    cells = []
    for one in rows:
        manifest = one.snapshot.manifest
        cells.append(
            (
                *_places(one),
                format_ms(manifest.created_ts)[:16].replace("T", " ") if manifest else "",
                str(manifest.event_count) if manifest else "",
                manifest.wal_head[:12] if manifest else "",
                escape(one.status),
            )
        )
    heads = ("snapshot", "at", "made (UTC)", "events", "head", "status")
    align = ("left", "left", "left", "right", "left", "left")
    return str(tabulate(cells, heads, "plain", disable_numparse=True, colalign=align)).split("\n")


@click.command(cls=GritCommand, name="create")
@click.pass_obj
def create(run: Context) -> None:
    """Make a snapshot of the log: few large chunks, for a fast rebuild."""
    made = service.create(run.workspace)
    row = _json(Listed(made, MADE))
    events = counted(made.manifest.event_count if made.manifest else 0, "event")
    run.show({"snapshot": row}, lambda: [f"made {escape(made.refs[0])}: {events}"])


@click.command(cls=GritCommand, name="list")
@click.pass_obj
def list_(run: Context) -> None:
    """List the snapshots that are here or were seen at a remote."""
    found = service.listing(run.workspace)
    run.show({"snapshots": [_json(one) for one in found]}, lambda: _table(found))


@click.command(cls=GritCommand, name="verify")
@click.argument("snapshot", required=False, shell_complete=SNAPSHOT)
@click.pass_obj
def verify(run: Context, snapshot: str | None) -> int:
    """Compare one snapshot, or all, with the log; exit status 1 when one does not agree."""
    commits = None if snapshot is None else [service.find(run.workspace, snapshot)]
    found = service.verify(run.workspace, commits)
    run.show({"snapshots": [_json(one) for one in found]}, lambda: _table(found))
    return 0 if all(one.usable for one in found) else FAILED


@click.command(cls=TalkingCommand, name="gc")
@click.option(
    "--remote",
    "-r",
    metavar="REMOTE",
    shell_complete=REMOTE,
    help="Remove superfluous snapshots of this remote too.",
)
@click.pass_obj
def gc(run: Context, remote: str | None) -> None:
    """Remove snapshots that newer ones make superfluous; the log is never touched."""
    done = service.clear(run.workspace)
    if remote is not None:
        from grit.services.places import choose
        from grit.services.snapshot_upkeep import clear_remote

        place = choose(run.workspace, remote, run.directory)
        done.removed.extend(clear_remote(run.workspace, place))

    def lines() -> list[str]:
        return [*(f"removed {escape(ref)}" for ref in done.removed)] or ["nothing removed"]

    run.show({"removed": done.removed, "kept": done.kept}, lines)


_HERE: Final = "grit.cli.snapshot"
snapshot: Final = LazyGroup(
    "snapshot",
    commands_at={
        "create": f"{_HERE}:create",
        "list": f"{_HERE}:list_",
        "verify": f"{_HERE}:verify",
        "gc": f"{_HERE}:gc",
    },
    help="Snapshots of the log, for a fast rebuild.",
    no_args_is_help=True,
)
