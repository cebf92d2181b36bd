"""Heads that the log's ref stood at and does not hold any more: kept, named, and taken back.

Absence is never a deletion: whoever moved the ref, what it held stays reachable under
`refs/grit-lost/` until the log holds it again (spec/wal.md, Lost heads).
"""

from collections.abc import Iterator
from typing import Final

from grit.core.errors import Busy, GitFailed, IoFailed, WalDamaged
from grit.services.workspace import Workspace

LOST_REFS: Final = "refs/grit-lost/"


def keep(workspace: Workspace, known: str, head: str | None) -> None:
    """Tell that the log does not hold the head known before, and keep that from `git gc`.

    Raises WalDamaged when the ref is gone: an empty answer would be a wrong one.
    """
    from grit.git.process import run
    from grit.git.refs import swap_ref
    from grit.services.two_logs import is_kept_beside

    repository, ref = workspace.repository, workspace.wal.ref
    if run(repository.git_dir, "cat-file", "-e", f"{known}^{{commit}}").status:
        return  # a view of another repository, or nothing is left to keep
    if head is None:
        raise WalDamaged(
            f"{ref} is gone, and with it every issue; the head {known[:12]} is still there, and "
            "'grit doctor --fix' restores it",
            ref=ref,
        )
    if is_kept_beside(workspace, known):
        return  # it is not lost: another log counts now
    lost = f"{LOST_REFS}{known}"
    try:
        swap_ref(repository, lost, None, known)
        kept = f"kept as {lost}"
    except (Busy, GitFailed, IoFailed, WalDamaged):
        kept = "which 'git gc' may remove"  # a repository that cannot be written, say
    workspace.notice(
        f"{ref} was moved to {head[:12]}, which does not hold the head known before, {kept}; "
        "issues and changes that are only there are not shown"
    )


def heads(workspace: Workspace) -> list[str]:
    """Return the kept heads that the log does not hold, in the order of their names."""
    from grit.git.pitfalls import look_below
    from grit.git.process import output
    from grit.services.two_logs import is_held

    look_below(workspace.repository.common_dir, LOST_REFS)
    listed = output(
        workspace.repository.git_dir, "for-each-ref", "--format=%(objectname)", LOST_REFS
    )
    return [
        lost for lost in listed.decode(errors="replace").split() if not is_held(workspace, lost)
    ]


def take_back(workspace: Workspace) -> Iterator[str]:
    """Bring every kept head into the log again; say what was done. The caller holds its lock."""
    from grit.services.join import Other, take_in

    for lost in heads(workspace):
        try:
            done = take_in(workspace, [Other(f"{LOST_REFS}{lost}", lost)], None)
        except WalDamaged as error:
            workspace.notice(error.message)  # it stays, and stops nothing else
            continue
        for how in done:
            yield f"{workspace.wal.ref} holds {lost[:12]} again ({how})"


def take_back_all(workspace: Workspace) -> list[str]:
    """Do the same where there is anything to take back, under the log's lock."""
    from grit.git.refs import refs_below

    if not refs_below(workspace.repository, LOST_REFS).ids:
        return []
    with workspace.wal.lock():
        return list(take_back(workspace))
