"""Commands that show issues: list, ready, blocked, search, show."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import click

from grit.cli.context import ISSUE, LABEL, PERSON, Context, GritCommand
from grit.cli.table import IssueRow, empty_list, list_footer, render_issue_rows
from grit.core.escape import escape
from grit.core.issue import Summary
from grit.core.limits import LIST_LIMIT_DEFAULT
from grit.core.query import SORT_NAMES
from grit.services import listing
from grit.services.listing import Asked, Page
from grit.services.shapes import SUMMARY_FIELDS, summary_json
from grit.view.reader import ViewReader

Command = Callable[..., Any]


ROWS_AT_ONCE: Final = 256
"""Rows that are looked up together: many for the speed, few for a list that flows."""


def issue_row(row: Summary, unique: int, note: str = "") -> IssueRow:
    """Return the row as the table takes it; `unique` digits of its id tell it from all others."""
    return IssueRow(
        issue_id=row.issue_id.hex()[: max(7, unique)],
        unique=unique,
        state="deleted" if row.deleted else row.state,
        title=row.title,
        updated_ts=row.updated_ts,
        labels=row.labels,
        assignees=row.assignees,
        priority=row.field("priority") or "",
        note=note,
    )


def _lines(run: Context, page: Page, noun: str, empty: str, notes: bool = False) -> Iterator[str]:
    shown = 0

    def rows() -> Iterator[IssueRow]:
        nonlocal shown
        left = iter(page.rows)
        while some := list(islice(left, ROWS_AT_ONCE)):
            uniques = page.reader.unique_chars_of(row.issue_id for row in some)
            for row, unique in zip(some, uniques, strict=True):
                shown += 1
                yield issue_row(row, unique, _waits_for(page.reader, row) if notes else "")

    screen = run.terminal.screen
    yield from render_issue_rows(rows(), screen, run.now_ms)
    if not shown:
        yield empty
    elif run.terminal.is_tty:
        yield list_footer(shown, page.total, noun, screen)
    elif LIST_LIMIT_DEFAULT == shown < page.total:
        # Who asked for fewer knows; who did not should not take a part for the whole.
        run.notice(f"{shown:,} of {page.total:,} shown; --all shows them")


def _waits_for(reader: ViewReader, row: Summary) -> str:
    waits = [
        one.issue_id.hex()[: max(7, reader.unique_chars(one.issue_id))]
        for one in listing.blockers(reader, row)
    ]
    more = f" and {len(waits) - 3} more" if len(waits) > 3 else ""
    return f"waits for {', '.join(waits[:3])}{more}"


def _print(run: Context, page: Page, noun: str, *, empty: str, notes: bool = False) -> None:
    def rows() -> Iterator[dict[str, object]]:
        for row in page.rows:
            yield summary_json(row)

    run.show_rows(
        "issues",
        rows(),
        SUMMARY_FIELDS,
        {"total": page.total},
        lambda: _lines(run, page, noun, empty, notes),
    )


class FilterCommand(GritCommand):
    """A command whose arguments are a filter, which may begin with a dash: -label:wip."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take negated terms for what they are, not for options; values of options stay so."""
        taking = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
        }
        end = args.index("--") if "--" in args else len(args)
        options: list[str] = []
        terms: list[str] = []
        is_value = False
        for word in args[:end]:
            is_term = not is_value and _NEGATED.match(word)
            (terms if is_term else options).append(word)
            is_value = not is_value and word in taking
        return super().parse_args(ctx, [*options, "--", *terms, *args[end + 1 :]])


_NEGATED: Final = re.compile(
    r'-(?:"|(?!C)[a-z][a-z_.-]*:|created:|field\.(?:"|[^\s":,\\]+:))', re.IGNORECASE
)
"""A negated phrase or key as the grammar has it (spec/query.md, Grammar); -C is an option."""


def paging_options(command: Command) -> Command:
    """Add --limit and --all."""
    command = click.option("--all", "all_", is_flag=True, help="Show all that match.")(command)
    return click.option(
        "--limit",
        "-n",
        type=click.IntRange(min=1),
        help=f"Show at most so many.  [default: {LIST_LIMIT_DEFAULT}]",
    )(command)


@click.command(cls=FilterCommand, name="list")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@click.option("--state", "-s", type=click.Choice(["open", "closed", "all"]), help="[default: open]")
@click.option(
    "--label",
    "-l",
    "labels",
    multiple=True,
    shell_complete=LABEL,
    help="Has this label; repeatable.",
)
@click.option("--assignee", "-a", shell_complete=PERSON, help="Is assigned to; '@me' is you.")
@click.option("--author", shell_complete=PERSON, help="Was created by; '@me' is you.")
@click.option("--search", metavar="TEXT", help="Has these words.")
@click.option("--sort", type=click.Choice(SORT_NAMES), help="[default: updated]")
@click.option("--reverse", is_flag=True, help="Turn the order around.")
@paging_options
@click.pass_obj
def list_(
    run: Context,
    words: tuple[str, ...],
    state: str | None,
    labels: tuple[str, ...],
    assignee: str | None,
    author: str | None,
    search: str | None,
    sort: Any,
    reverse: bool,
    limit: int | None,
    all_: bool,
) -> None:
    """List issues, the last changed first.

    FILTER narrows them: label:bug -label:wip assignee:ann author:bob state:all
    is:ready is:blocked type:bug priority:<2 updated:>7d created:2025-01-01..2025-02-01
    no:assignee parent:ID "exact words" crash sort:created.
    """
    asked = Asked(
        _filter_text(words),
        state,
        labels,
        assignee,
        author,
        search,
        sort,
        reverse,
        _rows_max(limit, all_),
    )
    page = listing.page(run.workspace, asked)
    filtered = bool(words or labels or assignee or author or search)
    everything = state is not None or "state:" in asked.filter_text
    empty = empty_list("ls", filtered=filtered, everything=everything)
    remote = None if page.total else listing.remote_not_synced(run.workspace)
    if remote is not None:
        empty = (
            "No issues here yet. 'grit new' creates one; 'grit sync' brings those of "
            f"{escape(remote)}, if it has any."
        )
    noun = {"closed": "closed issue", "all": "issue"}.get(state or "", "open issue")
    _print(run, page, "match" if words else noun, empty=empty)


def _rows_max(limit: int | None, all_: bool) -> int | None:
    return None if all_ else LIST_LIMIT_DEFAULT if limit is None else limit


def _filter_text(words: Iterable[str]) -> str:
    return " ".join(words)


def _edge_command(name: str, term: Any, noun: str, summary: str) -> click.Command:
    @click.command(cls=FilterCommand, name=name, help=summary)
    @click.argument("words", nargs=-1, metavar="[FILTER]...")
    @paging_options
    @click.pass_obj
    def command(run: Context, words: tuple[str, ...], limit: int | None, all_: bool) -> None:
        asked = Asked(_filter_text(words), terms=(term,), sort=None, limit=_rows_max(limit, all_))
        page = listing.page(run.workspace, asked)
        empty = empty_list(name, everything=bool(words))
        _print(run, page, noun, empty=empty, notes=name == "blocked")

    return command


ready: Final = _edge_command(
    "ready", listing.READY, "ready issue", "Show what can be worked on now, most urgent first."
)
blocked: Final = _edge_command(
    "blocked", listing.BLOCKED, "blocked issue", "Show what waits for what."
)


@click.command(cls=GritCommand, name="search")
@click.argument("words", nargs=-1, required=True, metavar="TEXT...")
@click.option(
    "--state", "-s", type=click.Choice(["open", "closed", "all"]), default="all", show_default=True
)
@paging_options
@click.pass_obj
def search(run: Context, words: tuple[str, ...], state: str, limit: int | None, all_: bool) -> None:
    """Find words in titles, bodies and comments; a word also finds longer ones."""
    asked = Asked(search=" ".join(words), state=state, limit=_rows_max(limit, all_))
    page = listing.page(run.workspace, asked)
    _print(run, page, "match", empty=empty_list("search", everything=state == "all"))


@click.command(cls=GritCommand, name="show")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.option("--events", is_flag=True, help="Add every event, with its signature's status.")
@click.pass_obj
def show(run: Context, issue: str, events: bool) -> None:
    """Show one issue: what it says, how it relates, who said what."""
    from grit.cli import page

    shown = listing.show(run.workspace, issue)
    if run.json or run.jsonl:
        run.show(page.shown_json(shown, events), lambda: ())
        return
    run.show(None, lambda: page.shown_lines(run, shown, events))
