"""Partial clones: what a filter left out is fetched when the user talks, never by reading.

A read that lacks objects refuses (spec/wal.md, Reading); a sync, or a command about leases, makes
whole what it fetches.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from grit.core.errors import GitFailed
from grit.git.remotes import Remote
from grit.git.repository import Repository
from grit.services.workspace import Workspace


def check_log(repository: Repository, head: str, ours: str | None) -> None:
    """Raise GitFailed when a log to be taken in, beyond what is in `ours`, was left out in part.

    Nothing is looked at where the clone is not partial, or the head is no log.
    """
    if repository.promisor is None:
        return
    from grit.git.joins import HeadIncomplete, why_not_log
    from grit.git.log_reader import check_fetched

    with suppress(HeadIncomplete):
        if why_not_log(repository, head) is not None:
            return
    check_fetched(repository, head, ours)


def complete_log(workspace: Workspace, remote: Remote, heads: Iterable[str | None]) -> None:
    """Fetch what the logs at these heads lack, from the remote or else from the one that promised.

    A head that is no log is left alone: its history could be that of the code. Raises GitFailed
    when something cannot be had; nothing is done where the clone is not partial.
    """
    if workspace.repository.promisor is None:
        return
    from grit.git.joins import HeadIncomplete, why_not_log
    from grit.git.log_reader import absent_objects

    logs = []
    for head in filter(None, heads):
        try:
            wrong = why_not_log(workspace.repository, head)
        except HeadIncomplete as lacking:
            # Its own tree is not there: with that it can be told what it is.
            _fetch(workspace, remote, [str(lacking.details["object"])])
            wrong = why_not_log(workspace.repository, head)
        if wrong is None:
            logs.append(head)
    if logs:
        _fetch(workspace, remote, absent_objects(workspace.repository, logs))


def complete_commits(workspace: Workspace, remote: Remote, commits: Iterable[str]) -> None:
    """Fetch the trees and files that these commits lack, and nothing of their ancestors'."""
    named = sorted({*commits})
    if workspace.repository.promisor is None or not named:
        return
    from grit.git.log_reader import absent_objects

    _fetch(workspace, remote, absent_objects(workspace.repository, named, walk=False))


def _fetch(workspace: Workspace, remote: Remote, missing: Sequence[str]) -> None:
    if not missing:
        return
    from grit.git.transport import fetch_objects

    ports, promisor = workspace.ports, workspace.repository.promisor
    words = None
    for address in dict.fromkeys((remote.address, promisor)):
        if address is None:
            continue
        done = fetch_objects(workspace.repository, address, missing, ports.environ, ports.progress)
        for notice in done.removed:
            workspace.notice(notice)
        if done.failed is None:
            return
        words = words or done.failed
    raise GitFailed(
        f"this partial clone lacks {len(missing)} objects of the log, and they cannot be fetched "
        f"from {remote.name}: {words}",
        remote=remote.name,
    )
