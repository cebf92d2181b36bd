"""Shell completion: the scripts, and what ids, labels and people there are."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from grit.cli.context import Context, GritCommand
from grit.core.errors import GritError, InvalidArgs

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")
ROWS_MAX = 500
"""Recently changed issues that completion looks at."""


@click.command(cls=GritCommand, name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_obj
def completion(run: Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash: eval "$(grit completion bash)" in ~/.bashrc;
    zsh: eval "$(grit completion zsh)" in ~/.zshrc;
    fish: grit completion fish > ~/.config/fish/completions/grit.fish
    """
    from click.shell_completion import get_completion_class

    from grit.cli.main import PROGRAM

    found = get_completion_class(shell)
    if found is None:
        raise InvalidArgs(f"no completion for '{shell}'; known: {', '.join(SHELLS)}")
    script = found(PROGRAM, {}, "grit", "_GRIT_COMPLETE").source()
    run.show({"shell": shell, "script": script}, script.splitlines)


def items(kind: str, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
    """Return what completes `incomplete` as an issue, a label or a person; nothing on failure."""
    from click.shell_completion import CompletionItem

    from grit.core.escape import escape

    run = ctx.find_object(Context) or Context()
    try:
        found = dict(_KINDS[kind](run, incomplete))
    except GritError:
        return []
    return [
        CompletionItem(value, help=escape(text))
        for value, text in found.items()
        if value.startswith(incomplete)
    ]


def _issues(run: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    from grit.cli.names import short
    from grit.services import listing

    page = listing.page(run.workspace, listing.Asked(limit=ROWS_MAX), default_state="")
    for row in page.rows:
        if row.issue_id.hex().startswith(incomplete):
            yield short(page.reader, row.issue_id), row.title


def _labels(run: Context, _incomplete: str) -> Iterator[tuple[str, str]]:
    from grit.services import listing

    page = listing.page(run.workspace, listing.Asked(limit=ROWS_MAX), default_state="")
    for row in page.rows:
        for label in row.labels:
            yield label, ""


def _people(run: Context, _incomplete: str) -> Iterator[tuple[str, str]]:
    from grit.services import listing

    page = listing.page(run.workspace, listing.Asked(limit=ROWS_MAX), default_state="")
    yield "@me", "you"
    for person in page.reader.actors():
        yield person.label or person.name, person.email
    for row in page.rows:
        for user in row.assignees:
            yield user, ""


_KINDS: dict[str, Callable[[Context, str], Iterator[tuple[str, str]]]] = {
    "issue": _issues,
    "label": _labels,
    "person": _people,
}
