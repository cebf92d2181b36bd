"""What was verified already: a record beside the view, so that a rebuild need not repeat it.

It says: of the log up to `head`, every signed event whose key the log knows is valid, except these.
It is believed under the same conditions as a view is opened (spec/view.md, Trust), and only for a
log that contains that head; so a stale or shipped one costs time and changes no answer.
"""

import os
from typing import Final, NamedTuple, cast

from grit.core.codec import pack, unpack
from grit.core.errors import InvalidEvent
from grit.core.ids import EventId
from grit.services.workspace import Workspace
from grit.view.trust import look, read_mark, write_mark

_VERSION: Final = 1
"""Goes up with the rules of decoding too: what could not be read was not verified."""
_WRONG_MAX: Final = 100_000
"""With more wrong signatures than this, nothing is recorded."""


class Verified(NamedTuple):
    """How far the log was verified, and the events whose best copy has a wrong signature."""

    head: str
    wrong: frozenset[EventId]


def load(workspace: Workspace) -> Verified | None:
    """Return the record, or None when there is none that can be believed."""
    path, mark_path = _paths(workspace)
    try:
        seen = look(path)
        if seen is None or seen != read_mark(mark_path):
            return None
        with open(path, "rb") as file:
            version, head, wrong = cast(tuple[int, str, tuple[EventId, ...]], unpack(file.read()))
    except (OSError, InvalidEvent, TypeError, ValueError):
        return None
    return Verified(head, frozenset(wrong)) if version == _VERSION else None


def save(workspace: Workspace, head: str, wrong: list[EventId]) -> None:
    """Replace the record; where it cannot be written, the next rebuild verifies again.

    The caller holds the lock of the view's writers.
    """
    path, mark_path = _paths(workspace)
    if len(wrong) > _WRONG_MAX:
        return
    temporary = f"{path}.{os.getpid()}.new"
    try:
        with open(temporary, "wb") as file:
            file.write(pack((_VERSION, head, tuple(sorted(wrong)))))
        write_mark(mark_path, None)
        os.replace(temporary, path)
        write_mark(mark_path, look(path))
    except OSError:
        return


def _paths(workspace: Workspace) -> tuple[str, str]:
    folder = workspace.repository.grit_dir
    return f"{folder}/verified", f"{folder}/verified-mark"
