"""Use case: other heads of the log, fetched or lost, come into it; nothing ever leaves it.

Whoever fetched them, grit or a plain `git fetch`, the next command takes them in (spec/sync.md).
"""

from collections.abc import Iterable
from contextlib import nullcontext, suppress
from typing import NamedTuple

from grit.core.errors import Busy, GitFailed, IoFailed, WalDamaged
from grit.core.limits import APPEND_RETRIES_MAX, HEADS_TAKEN_MAX, READER_WAIT_MS_MAX
from grit.services.workspace import Workspace
from grit.view.reader import Place


class Other(NamedTuple):
    """A head to take in, and whose it is, for messages."""

    name: str
    head: str


def take_in(workspace: Workspace, others: Iterable[Other], wait_ms_max: int | None) -> list[str]:
    """Move the log forward until it holds all heads; return how, a word for each that moved it.

    `wait_ms_max`: for the log's lock; None says that the caller holds it.
    Raises Busy, IoFailed, GitFailed, and WalDamaged for a head that is not one of a log; those
    before it stay joined.
    """
    lock = nullcontext() if wait_ms_max is None else workspace.wal.lock(wait_ms_max)
    with lock:
        return [how for other in others if (how := _take_in(workspace, other)) is not None]


def _take_in(workspace: Workspace, other: Other) -> str | None:
    from grit.git.wal import HeadMoved

    notices: list[str] = []
    try:
        for _ in range(APPEND_RETRIES_MAX):
            try:
                return workspace.wal.join(other.head, notices)
            except HeadMoved:
                continue
            except WalDamaged as error:
                told = f"{other.name}: {error.message}; not joined"
                raise type(error)(told, **error.details) from error
    finally:
        for notice in notices:
            workspace.notice(notice)
    raise Busy("the log moved too often while joining; try again")


class News(NamedTuple):
    """What a look at the remote-tracking refs found."""

    others: list[Other]
    """Heads that were not compared with the log yet."""
    heads: list[str]
    """All that are recorded."""
    packed: str


def look(workspace: Workspace, head: str | None, place: Place) -> News | None:
    """Return what the remote-tracking refs hold when any of it is new; a few file operations."""
    from grit.git.tracking import tracked_heads

    repository, ref = workspace.repository, workspace.wal.ref
    tracked = tracked_heads(repository, ref, place.packed)
    known = place.joined | {head}
    if known.issuperset(tracked.heads.values()) and tracked.packed == place.packed:
        return None
    if tracked.packed == place.packed:
        tracked = tracked_heads(repository, ref)  # those in packed-refs stay recorded
    others = [
        Other(name, oid)
        for name, oid in sorted(tracked.heads.items())
        if oid not in known and _is_remote(workspace, name)
    ]
    return News(others, sorted({*tracked.heads.values()}), tracked.packed)


def _is_remote(workspace: Workspace, name: str) -> bool:
    """Return whether that is a remote, and not a folder of refs beside the log of one.

    `refs/grit/x/wal` of origin is recorded where the log of a remote named origin/x would be.
    """
    from grit.git.remotes import list_remotes

    return "/" not in name or name in list_remotes(workspace.wal.config)


def _independent(workspace: Workspace, others: list[Other]) -> list[Other]:
    """Leave out heads that others hold, and order the rest by id.

    So that clones that fetch from each other, without a common remote, soon make the same joins.
    """
    if len(others) < 2:
        return others
    from grit.git.process import run

    ids = sorted({other.head for other in others})
    done = run(workspace.repository.git_dir, "merge-base", "--independent", *ids)
    kept = set(done.stdout.decode().split() if done.status == 0 else ids)
    named = {other.head: other for other in others}
    return [named[oid] for oid in ids if oid in kept]


def _there(workspace: Workspace, others: list[Other]) -> list[Other]:
    """Leave out heads that are not in the repository, or in the log: of many, in one look each."""
    from grit.git.kept import present
    from grit.git.process import run, text_lines

    repository, head = workspace.repository, workspace.wal.head()
    here = {other.head for other in others}
    if repository.promisor is None:
        here.intersection_update(present(repository, here))
    if missing := sum(other.head not in here for other in others):
        workspace.notice(f"{missing} recorded heads of other places are missing and passed over")
    asked = "".join(f"{oid}\n" for oid in (*here, *(() if head is None else (f"^{head}",))))
    with suppress(GitFailed):  # it says too much
        done = run(repository.git_dir, "rev-list", "--stdin", stdin=asked.encode())
        if done.status == 0:
            here.intersection_update(text_lines(done.stdout))
    return [other for other in others if other.head in here]


def take_in_news(workspace: Workspace, news: News, *, locked: bool) -> bool:
    """Take in what can be; return whether everything was looked at, and need not be again.

    What goes wrong is told and harms nothing: the log stays as it is, and complete. Raises
    GitFailed where there is none yet and a shallow or partial clone left out what it would hold:
    an empty answer would be a wrong one.
    """
    from grit.git.joins import HeadIncomplete
    from grit.services.partial import check_log

    others = news.others
    if len(others) > HEADS_TAKEN_MAX:
        others = _there(workspace, others)
    complete = len(others) <= HEADS_TAKEN_MAX
    for other in _independent(workspace, others[:HEADS_TAKEN_MAX]):
        try:
            check_log(workspace.repository, other.head, workspace.wal.head())
            take_in(workspace, [other], None if locked else READER_WAIT_MS_MAX)
        except WalDamaged as error:
            workspace.notice(error.message)
            complete &= not isinstance(error, HeadIncomplete)
        except Busy:
            complete = False
        except (GitFailed, IoFailed) as error:
            if isinstance(error, GitFailed) and workspace.wal.head() is None:
                raise
            workspace.notice(f"what was fetched from {other.name} waits: {error.message}")
            complete = False
    return complete
