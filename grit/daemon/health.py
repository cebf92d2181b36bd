"""What the worker looks at once a minute: the disk, the log, the view (spec/daemon.md, Health)."""

import os

from grit.core.errors import GritError
from grit.core.limits import DISK_FREE_BYTES_MIN
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

Problems = dict[str, str | None]
"""What is wrong by the name of the check; None: nothing."""


def look(workspace: Workspace) -> Problems:
    """Return what is wrong; a view that is behind the log, or doubtful, is to be brought up."""
    head: str | None = None
    problems: Problems = {"disk": _disk(workspace.repository.common_dir), "log": None, "view": None}
    try:
        head = workspace.wal.head()
        if head is not None:
            _ = workspace.wal.dialect  # reads the commit
    except GritError as error:
        problems["log"] = error.message
        return problems
    if head is not None or workspace.database.exists():
        problems["view"] = _view(workspace, head)
    return problems


def _view(workspace: Workspace, head: str | None) -> str | None:
    try:
        known = ViewReader(workspace.database).place().head
    except ViewDoubt as doubt:
        return str(doubt)
    except OSError as error:
        return f"cannot open the view: {error.strerror}"
    return None if known == head else "the view is behind the log"


def _disk(path: str) -> str | None:
    try:
        found = os.statvfs(path)
    except OSError as error:
        return f"cannot ask for free space: {error.strerror}"
    if found.f_bavail * found.f_frsize < DISK_FREE_BYTES_MIN:
        return f"less than {DISK_FREE_BYTES_MIN >> 20} MiB are free for {path}"
    return None
