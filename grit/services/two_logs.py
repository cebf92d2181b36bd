"""Two logs in one repository, or here and at a remote: which one counts, and what to do.

Logs of two dialects are never joined (spec/sync.md, Two dialects).
"""

import os
from collections.abc import Callable
from typing import Final

from grit.core.errors import Busy, Conflict, GitFailed, IoFailed, WalDamaged
from grit.git.refs import GRIT_REF, GRITE_REF
from grit.git.remotes import Remote
from grit.git.repository import Repository
from grit.services.workspace import Workspace

IMPORTED_REFS: Final = "refs/grit-imported/"
"""Below it stand heads of other logs whose events were brought over, by their ids."""

SET_BY: Final = "refs/grit-other/"
"""Below it a user keeps a log that counts no more."""


_ASKED_MAX: Final = 16
"""How many heads, or remotes, are looked at one by one: a repository may bring thousands."""


def other_ref(ref: str) -> str:
    """Return the ref where the log of the other dialect would stand."""
    return GRITE_REF if ref == GRIT_REF else GRIT_REF


def is_held(workspace: Workspace, oid: str) -> bool:
    """Return whether the log holds what that head does, by its commits or by an import."""
    from grit.git.refs import refs_below

    wal = workspace.wal
    head = wal.head()
    if head is not None and wal.contains(head, oid):
        return True
    imported = {*refs_below(workspace.repository, IMPORTED_REFS).ids.values()}
    return oid in imported or any(wal.contains(one, oid) for one in sorted(imported)[:_ASKED_MAX])


def note_imported(workspace: Workspace, head: str) -> None:
    """Remember that all events of a head were brought over; without it they are only told again."""
    from grit.git.refs import swap_ref

    try:
        swap_ref(workspace.repository, f"{IMPORTED_REFS}{head}", None, head)
    except (Busy, Conflict, GitFailed, IoFailed, WalDamaged) as error:
        workspace.notice(f"brought over, but not noted: {error.message}")


def find_log(repository: Repository, fetch: Callable[[str], str | None]) -> str | None:
    """Return the ref of a remote's log that counts; None when it has none.

    `fetch` records one and returns its head. As for two logs here: that of grit's own dialect,
    else the one where the other tools look for it now (spec/wal.md, Dialects).
    """
    from grit.git.detection import is_grite_log

    first = fetch(GRIT_REF)
    if first is not None and not is_grite_log(repository, first):
        return GRIT_REF
    if fetch(GRITE_REF) is not None:
        return GRITE_REF
    return None if first is None else GRIT_REF


def others(workspace: Workspace, *, fetched: bool) -> list[str]:
    """Return the refs of other logs that are not held: of the one here, and of fetched ones."""
    from grit.git.refs import read_ref
    from grit.git.tracking import tracked_heads, tracking_ref

    wal, other = workspace.wal, other_ref(workspace.wal.ref)
    if wal.head() is None:
        return []
    found = {other: read_ref(workspace.repository, other)} if wal.hidden_ref else {}
    if fetched:
        heads = tracked_heads(workspace.repository, other).heads
        found.update((tracking_ref(one, other), heads[one]) for one in sorted(heads)[:_ASKED_MAX])
    return [ref for ref, head in found.items() if head and not is_held(workspace, head)]


def is_kept_beside(workspace: Workspace, oid: str) -> bool:
    """Return whether another log here holds that commit: the hidden one, or one that was set by."""
    from grit.git.refs import read_ref, refs_below

    wal, repository = workspace.wal, workspace.repository
    beside = sorted({*refs_below(repository, SET_BY).ids.values()})[:_ASKED_MAX]
    hidden = read_ref(repository, wal.hidden_ref) if wal.hidden_ref else None
    return any(wal.contains(head, oid) for head in (*beside, *([hidden] if hidden else ())))


def is_other_dialect(workspace: Workspace, head: str) -> bool:
    """Return whether a head is of another dialect than the log here."""
    from grit.git.detection import is_grite_log

    return is_grite_log(workspace.repository, head) != workspace.wal.dialect.shared


def ways_out(workspace: Workspace, name: str) -> str:
    """Return what to do about another log, known here by that name: a ref, or an id."""
    ref, head = workspace.wal.ref, workspace.wal.head()
    keep = f"{SET_BY}{head[:12]}" if head else SET_BY
    return (
        f"'grit import log {name}' brings its events into {ref}. To go on with that log instead: "
        f"'git update-ref {keep} {ref} && git update-ref -d {ref}' sets the one here by, 'grit "
        f"sync' takes the other over, and 'grit import log {keep}' brings the events over"
    )


def explained(workspace: Workspace, error: WalDamaged, tracking: str) -> WalDamaged | None:
    """Return the error of a remote's head of another dialect, with both ways out.

    None for any other error. `tracking`: under which name the remote is recorded.
    """
    from grit.git.detection import has_meta
    from grit.git.joins import OtherDialect
    from grit.git.tracking import tracking_ref

    if not isinstance(error, OtherDialect):
        return None
    head, wal = str(error.details["object"]), workspace.wal
    if has_meta(workspace.repository, head) == wal.dialect.shared:
        return error  # a mixture: nobody should let that count
    record = tracking_ref(tracking, wal.ref)
    return OtherDialect(f"{error.message}\n{ways_out(workspace, record)}", object=head)


def not_beside(workspace: Workspace, place: Remote, theirs: str) -> str | None:
    """Tell of a remote that has only a log of another dialect, whose head is recorded.

    Return why the one here is not sent there; None where it may be.
    """
    from grit.git.tracking import tracking_ref

    remote, ref = place.name, workspace.wal.ref
    other = other_ref(ref)
    record = tracking_ref(place.tracking, other)
    if is_held(workspace, theirs):
        return None
    if ref == GRITE_REF and not is_other_dialect(workspace, theirs):
        return None  # what the other tools left behind when they went on to this ref
    workspace.notice(
        f"{remote} holds another log at {other}, which is not joined with {ref}, the log that "
        "counts here: its issues are not shown"
    )
    return (
        f"{remote} has no log at {ref}, and to send this one would begin a second one beside that "
        f"at {other}. {ways_out(workspace, record)}"
    )


def refuse_second(workspace: Workspace) -> None:
    """Raise Conflict where a first write would begin a log beside one of other tools.

    Nobody is asked. Looked at are remotes that are folders of this machine, and refs that a
    refspec of the user's own has brought.
    """
    from grit.git.refs import refs_below

    wal, repository = workspace.wal, workspace.repository
    if wal.ref != GRIT_REF or wal.head() is not None:
        return
    folder, _, name = GRITE_REF.removeprefix("refs/").partition("/")
    fetched = refs_below(repository, "refs/remotes/", named=name).ids
    for ref in fetched:
        if ref.endswith(f"/{folder}/{name}"):
            raise _second(ref)
    for remote, place in _local_remotes(workspace):
        if _holds_other(repository, place):
            raise _second(remote)


def _second(where: str) -> Conflict:
    return Conflict(
        f"{where} holds a log of other tools, and there is none here yet: 'grit init' takes it "
        "over; to write now would begin a second one, and two dialects are never joined"
    )


def _local_remotes(workspace: Workspace) -> list[tuple[str, str]]:
    from grit.git.leftovers import local_remote
    from grit.git.remotes import list_remotes

    remotes = list_remotes(workspace.wal.config)[:_ASKED_MAX]
    found = ((remote, local_remote(workspace.repository, remote)) for remote in remotes)
    return [(remote, os.path.realpath(place)) for remote, place in found if place is not None]


def _holds_other(repository: Repository, place: str) -> bool:
    """Return whether a repository on this machine has a log of other tools, and none of grit's."""
    from grit.git.detection import is_grite_log
    from grit.git.refs import read_ref

    theirs = repository._replace(common_dir=place, git_dir=place, ref_storage="files")
    try:
        first = read_ref(theirs, GRIT_REF)
        if first is not None:
            # A clone from a folder has its objects; where it has not, the sync will see.
            return is_grite_log(repository, first)
        return read_ref(theirs, GRITE_REF) is not None
    except (GitFailed, IoFailed, WalDamaged):
        return False
