"""Commands that show what hangs on an issue: attachments and dependencies."""

import sys
from collections.abc import Iterator

import click

from grit.cli.context import ISSUE, Context, GritCommand
from grit.cli.read import issue_row
from grit.cli.table import render_issue_rows
from grit.services import listing
from grit.services.listing import Relation
from grit.services.shapes import summary_json


@click.command(cls=GritCommand, name="list")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.pass_obj
def attachment_list(run: Context, issue: str) -> None:
    """List the attachments of an issue."""
    from grit.core.escape import escape
    from grit.services.shapes import issue_json

    known = listing.whole_issue(run.workspace, issue)
    run.show(
        {"attachments": issue_json(known, [], [])["attachments"]},
        lambda: (
            [f"{escape(one.name)}  {escape(one.mime)}" for one in known.attachments]
            or ["No attachments."]
        ),
    )


@click.command(cls=GritCommand, name="get")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.argument("name")
@click.option("--output", "-o", metavar="FILE", help="Write here; '-' is stdout.")
@click.pass_obj
def attachment_get(run: Context, issue: str, name: str, output: str | None) -> None:
    """Write an attachment to a file, by default under its own name."""
    from grit.core.escape import escape
    from grit.services.attachments import content_of, save

    found, content = content_of(run.workspace, issue, name)
    if output == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    path = save(found.name, content, output)
    data = {"name": found.name, "sha256": found.sha256.hex(), "path": path}
    run.show(data, lambda: [f"wrote {escape(path)}"])


@click.command(cls=GritCommand, name="list")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.option("--reverse", is_flag=True, help="What depends on this issue instead.")
@click.pass_obj
def dep_list(run: Context, issue: str, reverse: bool) -> None:
    """List the dependencies of an issue."""
    from grit.cli import page

    shown = listing.show(run.workspace, issue)
    relations: list[Relation] = shown.dependents if reverse else shown.dependencies
    name = "dependents" if reverse else "dependencies"
    run.show(
        {name: page.relations_json(relations)},
        lambda: page.relation_lines(run, shown, relations, reverse) or ["No dependencies."],
    )


@click.command(cls=GritCommand, name="topo")
@click.pass_obj
def dep_topo(run: Context) -> None:
    """List open issues in an order in which they can be done, and any cycles."""
    found = listing.topological(run.workspace)
    cycles = [[issue_id.hex() for issue_id in cycle] for cycle in found.cycles]

    def lines() -> Iterator[str]:
        rows = (issue_row(row, found.reader.unique_chars(row.issue_id)) for row in found.rows)
        yield from render_issue_rows(rows, run.terminal.screen, run.now_ms)
        for cycle in cycles:
            yield f"cycle: {' -> '.join(issue_id[:7] for issue_id in cycle)}"

    run.show(
        {
            "issues": [summary_json(row) for row in found.rows],
            "order": "topological",
            "cycles": cycles,
        },
        lines,
    )
