"""One run of the worker: the view is brought up to the log (spec/daemon.md, Worker)."""

import shutil
from hashlib import blake2b
from typing import NamedTuple

from grit.core.errors import GritError, IoFailed, ViewFailed
from grit.git.repository import Repository
from grit.git.watch import positions
from grit.services.workspace import Workspace
from grit.view.trust import ViewDoubt


class Warmed(NamedTuple):
    """What a run found."""

    head: str | None
    """The head that the view stands for."""
    answered: str
    """Stamp of the positions of refs that this run took in; others are news."""
    record: str | None
    """The recorded head of the remote to sync with; None without one, or when nobody asked."""
    unsent: bool
    """Whether that remote lacks something, as far as is known here."""


def stamp(lines: list[str]) -> str:
    """Return what tells positions of refs from others."""
    return blake2b("\n".join(lines).encode(errors="replace"), digest_size=16).hexdigest()


def news_stamp(repository: Repository) -> str:
    """Return the stamp of where the refs are now."""
    return stamp(positions(repository))


def warm(workspace: Workspace, *, syncs: bool) -> Warmed:
    """Bring the view up to the log; `syncs`: look at the remote's record too.

    Raises GritError or OSError when the view cannot be brought up, or stored.
    """
    before = positions(workspace.repository)
    old = workspace.wal.head()
    head = _bring_up(workspace)
    ref = workspace.wal.ref
    # What the run itself stored is no news: the log moved to the head that the view has.
    answered = [f"{ref} {head}" if line == f"{ref} {old}" else line for line in before]
    record, unsent = _compare(workspace, head) if syncs else (None, False)
    return Warmed(head, stamp(answered), record, unsent)


def _bring_up(workspace: Workspace) -> str | None:
    """Return the head that the view stands for now."""
    from grit.services.refresh import rebuild, refresh

    database = workspace.database
    try:
        head = refresh(workspace).head()
    except ViewDoubt:
        try:
            head = rebuild(workspace).head()
        except ViewDoubt as doubt:
            raise ViewFailed(f"the view cannot be rebuilt: {doubt}") from doubt
    if workspace.database is not database:
        # A view for this run alone, which is over.
        directory = workspace.database.directory
        workspace.close()
        shutil.rmtree(directory, ignore_errors=True)
        if head is not None:
            raise IoFailed("the view cannot be stored, so that every command builds its own")
    return head


def _compare(workspace: Workspace, head: str | None) -> tuple[str | None, bool]:
    """Return the recorded head of the remote to sync with, and whether it lacks `head`."""
    from grit.git.refs import read_ref
    from grit.git.tracking import tracking_ref
    from grit.services.places import choose

    try:
        remote = choose(workspace)
        ref = tracking_ref(remote.tracking, workspace.wal.ref)
        record = read_ref(workspace.repository, ref)
    except GritError:
        return None, head is not None  # the sync says in its own words what is wrong
    return record, head is not None and head != record and not remote.bundle
