"""Commands that take issues in and out: export, import, batch."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import click

from grit.cli.context import JSON_VERSION, Context, GritCommand
from grit.cli.main import LazyGroup
from grit.core.errors import InvalidArgs, IoFailed
from grit.core.escape import escape

EXPORT_FORMATS: Final = ("json", "md", "csv", "html")
REASONS_SHOWN: Final = 20
SET_ASIDE: Final = 1
"""Exit status when something of the source was set aside; the rest is stored."""


@click.command(cls=GritCommand)
@click.option("--format", "-f", "format_", type=click.Choice(EXPORT_FORMATS), help="Default: json.")
@click.option("--since", metavar="WHEN", help="From a time, an event id, or 7d ago on.")
@click.option("--attachments", is_flag=True, help="Let JSON carry the contents of attachments.")
@click.option("--output", "-o", metavar="FILE", help="Write here; '-' is stdout.")
@click.pass_obj
def export(
    run: Context, format_: str | None, since: str | None, attachments: bool, output: str | None
) -> None:
    """Write all issues as JSON, Markdown, CSV or a static HTML page."""
    from grit.services import export as service

    format_ = format_ or "json"
    if attachments and format_ != "json":
        raise InvalidArgs("only JSON carries attachments; leave --attachments out")
    asked = service.Asked(format_, since, attachments)
    pieces = service.export(run.workspace, asked)
    if output not in (None, "-"):
        size_bytes = service.save(str(output), pieces)
        data = {"path": output, "format": format_, "size_bytes": size_bytes}
        run.show(data, lambda: [f"wrote {escape(str(output))}"])
        return
    if run.json and format_ != "json":
        raise InvalidArgs(f"--json and --format {format_} on one stdout: add -o FILE")
    out = sys.stdout.buffer
    if run.json:
        out.write(f'{{"schema_version": {JSON_VERSION}, "ok": true, "data": '.encode())
    for piece in pieces:
        out.write(piece.encode())
    if run.json:
        out.write(b"}\n")
    out.flush()


import_: Final = LazyGroup(
    "import",
    commands_at={
        "json": "grit.cli.exchange:import_json",
        "beads": "grit.cli.exchange:import_beads",
        "log": "grit.cli.exchange:import_log",
    },
    help="Take issues in; a second time adds nothing.",
    no_args_is_help=True,
)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; only opening may fail like this
    except OSError as error:
        raise IoFailed(f"cannot read '{path}': {error.strerror}") from error
    with file:
        yield file


@click.command(cls=GritCommand, name="json")
@click.argument("path", metavar="FILE")
@click.pass_obj
def import_json(run: Context, path: str) -> int:
    """Store the events of an export of grit; '-' is stdin."""
    from grit.services import import_json as service

    with _opened(path) as file:
        found = service.import_json(run.workspace, file)
    data: dict[str, object] = {
        "events": found.events,
        "added": found.added,
        "wal_head": found.head,
        "set_aside": [one._asdict() for one in found.refusals],
        "set_aside_count": found.refused,
    }

    def lines() -> Iterator[str]:
        yield f"imported {found.added} new events of {found.events}"
        for one in found.refusals[:REASONS_SHOWN]:
            yield f"set aside: {one.what}[{one.position}]: {escape(one.reason)}"
        if found.refused > REASONS_SHOWN:
            which = "them all" if found.refused == len(found.refusals) else f"{len(found.refusals)}"
            yield f"... {found.refused - REASONS_SHOWN} more: --json lists {which}"

    run.show(data, lines)
    return SET_ASIDE if found.refusals else 0


@click.command(cls=GritCommand, name="beads")
@click.argument("path", metavar="FILE")
@click.pass_obj
def import_beads(run: Context, path: str) -> int:
    """Bring the log up to a beads JSONL export; '-' is stdin."""
    from grit.services import import_beads as service

    with _opened(path) as file:
        found = service.import_beads(run.workspace, file)
    told = found.translation
    added = len(found.written.events)
    data: dict[str, object] = {
        "lines": told.lines,
        "issues": told.issues,
        "comments": told.comments,
        "dependencies": told.dependencies,
        "added": added,
        "wal_head": found.written.head,
        "findings": [one._asdict() for one in told.findings],
    }

    def lines() -> Iterator[str]:
        yield (
            f"read {told.issues} issues, {told.comments} comments, {told.dependencies} "
            f"dependencies; {added} new events"
        )
        counts = Counter((one.dropped, one.reason) for one in told.findings)
        first = {(one.dropped, one.reason): one for one in reversed(told.findings)}
        for (dropped, reason), count in counts.most_common(REASONS_SHOWN):
            one = first[dropped, reason]
            place = f"line {one.line}" + (f" ({one.source_id})" if one.source_id else "")
            times = f", {count} times" if count > 1 else ""
            word = "left out" if dropped else "note"
            yield f"{word}: {escape(reason)}: {escape(place)}{times}"
        if len(counts) > REASONS_SHOWN:
            yield f"... {len(counts) - REASONS_SHOWN} more reasons: --json lists them all"

    run.show(data, lines)
    return SET_ASIDE if found.dropped else 0


@click.command(cls=GritCommand, name="log")
@click.argument("ref", metavar="REF")
@click.pass_obj
def import_log(run: Context, ref: str) -> int:
    """Store the events of another log of this repository: a ref or a commit.

    Logs of two dialects are never joined; this brings the events over as they are, with their
    signatures and attachments.
    """
    from grit.services import import_log as service

    found = service.import_log(run.workspace, ref)
    data: dict[str, object] = {
        "source": found.source,
        "events": found.events,
        "added": found.added,
        "attachments": found.attachments,
        "attachments_lacking": found.lacking,
        "wal_head": found.head,
        "set_aside": [{"reason": key, "count": count} for key, count in found.refusals.items()],
    }

    def lines() -> Iterator[str]:
        yield f"imported {found.added} new events of {found.events}"
        if found.attachments:
            yield f"contents of attachments: {found.attachments}"
        if found.lacking:
            yield f"named, but in neither log: contents of {found.lacking} attachments"
        for reason, count in found.refusals.items():
            yield f"set aside: {count}: {escape(reason)}"

    run.show(data, lines)
    return SET_ASIDE if found.refusals else 0


@click.command(cls=GritCommand)
@click.argument("path", metavar="[-]", default="-")
@click.pass_obj
def batch(run: Context, path: str) -> None:
    """Run many commands, JSON lines from stdin or a file, in one append: all or nothing."""
    from grit.services.batch import run_batch

    with _opened(path) as file:
        outcomes, written = run_batch(run.workspace, file)
    results: list[dict[str, object]] = [
        {
            "op": one.op,
            "issue_id": one.change.issue_id.hex(),
            "event_id": one.change.event_id.hex() if one.change.event_id else None,
        }
        for one in outcomes
    ]
    run.show(
        {"results": results, "wal_head": written.head},
        lambda: [escape(one.change.subject) for one in outcomes],
    )
