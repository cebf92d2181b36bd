"""Bring the view up to the log: catch up, or rebuild when in doubt."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from grit.core.codec import decode_chunk
from grit.core.errors import Busy, GitFailed, IoFailed
from grit.core.events import Event
from grit.services.workspace import Workspace
from grit.view.database import Database, ViewDoubt
from grit.view.reader import ViewReader
from grit.view.writer import Aside

BATCH_EVENTS = 50_000
"""Events held in memory before they go into the view."""


def refresh(workspace: Workspace) -> ViewReader:
    """Return a reader whose head is the log's head.

    A view that is missing, damaged, of another version or of another log is rebuilt; one that
    cannot be written is built in a temporary place, with a notice. While another process is
    bringing the view up to date, the state before that is served, with a notice.
    """
    head = workspace.wal.head()
    try:
        reader = workspace.database.reader()
        old = reader.head()
        if old == head:
            return reader
    except ViewDoubt:
        old = None
        reader = None
    try:
        return _catch_up(workspace, head, old)
    except Busy as busy:
        if reader is None or old is None:
            raise
        workspace.notice(f"{busy.message}; showing the state as of {old[:12]}")
        return reader
    except IoFailed as failure:
        workspace.notice(f"the view cannot be written ({failure.message}); built in memory")
        workspace.use_database(Database.temporary())
        return _catch_up(workspace, head, None)


def rebuild(workspace: Workspace) -> ViewReader:
    """Build the view anew from the log, whatever it holds."""
    return _catch_up(workspace, workspace.wal.head(), None)


def _catch_up(workspace: Workspace, head: str | None, old: str | None) -> ViewReader:
    from grit.git.wal import HeadUnknown

    if old is not None and head is not None:
        try:
            if workspace.wal.contains(head, old):
                _feed(workspace, head, old)
                return workspace.database.reader()
        except (ViewDoubt, HeadUnknown):
            pass
    _feed(workspace, head, None)
    return workspace.database.reader()
