"""Commands that show what happened: the history of an issue, and the log of all."""

from collections.abc import Iterator

import click

from grit.cli.context import ISSUE, PERSON, Context, GritCommand
from grit.cli.detail import lines_of_history, lines_of_log
from grit.cli.table import empty_list
from grit.cli.wording import activity_rows, history_rows
from grit.core.errors import InvalidArgs
from grit.core.ids import parse_number
from grit.services import listing
from grit.services.shapes import event_json
from grit.services.signatures import judged, statuses


@click.command(cls=GritCommand, name="history")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.pass_obj
def history(run: Context, issue: str) -> None:
    """Show every event of an issue: who, when, what, verified or not."""
    reader, events = listing.history(run.workspace, issue)
    run.show_rows(
        "events",
        (event_json(*one) for one in judged(reader, events)),
        EVENT_FIELDS,
        {},
        lambda: lines_of_history(history_rows(reader, events), run.terminal.screen, run.now_ms),
    )


EVENT_FIELDS = (
    "event_id", "issue_id", "actor", "ts_unix_ms", "parent", "kind", "sig", "signature", "held",
    "counted_ts",
)  # fmt: skip


@click.command(cls=GritCommand, name="log")
@click.option("--since", metavar="WHEN", help="From a date or 7d, 12h, 2w on.")
@click.option(
    "--actor", metavar="NAME", shell_complete=PERSON, help="Only what this actor did; '@me' is you."
)
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "all_", is_flag=True, help="Show everything.")
@click.option(
    "--follow",
    "-f",
    is_flag=True,
    help="Stay, and print each event when it comes; --since, -n or --all print older ones first.",
)
@click.pass_context
def log(
    ctx: click.Context,
    since: str | None,
    actor: str | None,
    limit: int,
    all_: bool,
    follow: bool,
) -> None:
    """Show what happened across all issues, newest first."""
    run: Context = ctx.obj
    since_ms = None if since is None else when_ms(since, run.now_ms)
    if follow:
        from grit.cli.follow import Old, follow_log

        # Like `tail -f`, but with nothing old unless it was asked for.
        asked = ctx.get_parameter_source("limit") is click.core.ParameterSource.COMMANDLINE
        whole = all_ or (since is not None and not asked)
        follow_log(run, Old(since_ms, None if whole else limit if asked else 0), actor)
        return
    reader, events = listing.activity(
        run.workspace, since_ms=since_ms, actor=actor, limit=None if all_ else limit
    )
    run.show_rows(
        "events",
        (event_json(event, status) for event, status in statuses(reader, events)),
        EVENT_FIELDS,
        {},
        lambda: _log_lines(
            lines_of_log(activity_rows(reader, events), run.terminal.screen, run.now_ms)
        ),
    )


def _log_lines(lines: Iterator[str]) -> Iterator[str]:
    yield next(lines, empty_list("log"))
    yield from lines


def when_ms(text: str, now_ms: int) -> int:
    """Return the time that a date, a unix time in ms or a duration before now names."""
    from grit.core.times import parse_duration_ms, parse_span

    duration = parse_duration_ms(text)
    if duration is not None:
        return max(0, now_ms - duration)
    span = parse_span(text)
    if span is not None:
        return span.first_ms
    number = parse_number(text)
    if number is not None:
        return number
    raise InvalidArgs(f"'{text}' is no time: write 7d, 12h, 2025-01-31 or 2025-01-31T10:00")
