"""Shell completion: the command that prints a script, and which names there are."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from grit.cli.context import Context, GritCommand
from grit.core.errors import GritError
from grit.core.escape import escape

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from grit.services.listing import Page
    from grit.services.who import Known

SHELLS: Final = ("bash", "zsh", "fish")
ROWS_MAX: Final = 500
"""Recently changed issues that completion looks at."""
ITEMS_MAX: Final = 500
VALUE_CHARS_MAX: Final = 256
"""What is longer is no name that somebody would have completed."""
HELP_CHARS_MAX: Final = 80
Pairs = Iterable[tuple[str, str]]


@click.command(cls=GritCommand, name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_obj
def completion(run: Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash: eval "$(grit completion bash)" in ~/.bashrc;
    zsh: eval "$(grit completion zsh)" in ~/.zshrc, after compinit;
    fish: grit completion fish > ~/.config/fish/completions/grit.fish
    """
    from grit.cli.shells import SCRIPTS

    script = SCRIPTS[shell]
    run.show({"shell": shell, "script": script}, script.splitlines)


def items(kind: str, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
    """Return what completes `incomplete` as a name of that kind; nothing on failure."""
    from click.shell_completion import CompletionItem

    run = ctx.find_object(Context) or Context()
    try:
        found: dict[str, str] = {}
        for value, text in KINDS[kind](run, incomplete):
            if value.startswith(incomplete) and is_offered(value):
                found.setdefault(value, text)
            if len(found) == ITEMS_MAX:
                break
    except GritError:
        return []
    return [
        CompletionItem(value, help=escape(text[:HELP_CHARS_MAX])) for value, text in found.items()
    ]


def is_offered(value: str) -> bool:
    """Return whether a value may stand on a command line: no option, nothing that is not seen."""
    return 0 < len(value) <= VALUE_CHARS_MAX and value[0] != "-" and escape(value) == value


def _page(run: Context) -> "Page":
    from grit.services import listing

    return listing.page(run.workspace, listing.Asked(limit=ROWS_MAX), default_state="")


def _issues(run: Context, incomplete: str) -> Iterator[tuple[str, str]]:
    from grit.cli.names import short

    page = _page(run)
    for row in page.rows:
        if row.issue_id.hex().startswith(incomplete):
            yield short(page.reader, row.issue_id), row.title


def _labels(run: Context, _incomplete: str) -> Pairs:
    return ((label, "") for row in _page(run).rows for label in row.labels)


def _milestones(run: Context, _incomplete: str) -> Pairs:
    return ((row.field("milestone") or "", "") for row in _page(run).rows)


def _people(run: Context, _incomplete: str) -> Iterator[tuple[str, str]]:
    from grit.core.ids import is_name
    from grit.services.who import of_log

    page = _page(run)
    yield "@me", "you"
    yield from _callable(of_log(page.reader))
    for row in page.rows:
        yield from ((user, "") for user in islice(row.assignees, ITEMS_MAX) if is_name(user))


def _known(run: Context, _incomplete: str) -> Iterator[tuple[str, str]]:
    from grit.git.actors import list_actors
    from grit.services.refresh import refresh
    from grit.services.who import everybody

    yield "@me", "you"
    workspace = run.workspace
    yield from _callable(everybody(refresh(workspace), list_actors(workspace.repository)))


def _actors(run: Context, _incomplete: str) -> Pairs:
    from grit.git.actors import list_actors
    from grit.services.who import of_file

    return _callable([*map(of_file, list_actors(run.workspace.repository))])


def _callable(known: "list[Known]") -> Iterator[tuple[str, str]]:
    """Yield for each actor what means it alone: its label, or else its id."""
    from bisect import bisect_left
    from collections import Counter

    from grit.core.ids import id_digits, is_name, plain
    from grit.services.who import told_apart

    known = told_apart(known)
    claims = Counter(name for one in known for name in set(map(plain, one.names)))
    ids = sorted(one.actor_id.hex() for one in known)
    for one in known:
        seen = plain(one.label)
        at = bisect_left(ids, seen)
        is_id = bool(id_digits(one.label)) and at < len(ids) and ids[at].startswith(seen)
        alone = is_name(one.label) and claims[seen] == 1 and not is_id
        yield (one.label if alone else one.actor_id.hex()), f"{one.actor_id.hex()[:12]} {one.email}"


def _remotes(run: Context, _incomplete: str) -> Pairs:
    from grit.git.remotes import list_remotes

    return ((name, "") for name in list_remotes(run.workspace.wal.config))


def _snapshots(run: Context, _incomplete: str) -> Pairs:
    from grit.git.snapshots import list_snapshots

    known = list_snapshots(run.workspace.repository)
    return ((ref, "") for one in known for ref in one.refs)


KINDS: Final[dict[str, Callable[[Context, str], Pairs]]] = {
    "issue": _issues,
    "label": _labels,
    "person": _people,
    "known": _known,
    "actor": _actors,
    "milestone": _milestones,
    "remote": _remotes,
    "snapshot": _snapshots,
}
