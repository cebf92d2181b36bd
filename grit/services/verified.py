"""What was verified already: a record beside the view, so that a rebuild need not repeat it.

It says: of the log up to `head`, every signed event whose key the log knows is valid, except these.
It is believed under the same conditions as a view is opened (spec/view.md, Trust), and only for a
log that contains that head; so a stale or shipped one costs time and changes no answer.
"""

from typing import Final, NamedTuple, cast

from grit.core.codec import pack, unpack
from grit.core.errors import InvalidEvent
from grit.core.ids import EventId
from grit.services.workspace import Workspace
from grit.view.trust import trusted_record, vouch

_RECORD: Final = "verified"
_MARK: Final = "verified-mark"
_VERSION: Final = 2
"""Goes up with the rules of decoding too: what could not be read was not verified."""
_WRONG_MAX: Final = 100_000
"""With more wrong signatures than this, nothing is recorded."""


class Verified(NamedTuple):
    """How far the log was verified, and the events whose best copy has a wrong signature."""

    head: str
    wrong: frozenset[EventId]


def load(workspace: Workspace) -> Verified | None:
    """Return the record, or None when there is none that can be believed."""
    try:
        with workspace.repository.private.open() as folder:
            data = trusted_record(folder, _RECORD, _MARK)
        if data is None:
            return None
        version, head, wrong = cast(tuple[int, str, tuple[EventId, ...]], unpack(data))
    except (OSError, InvalidEvent, TypeError, ValueError):
        return None
    return Verified(head, frozenset(wrong)) if version == _VERSION else None


def save(workspace: Workspace, head: str, wrong: list[EventId]) -> None:
    """Replace the record; where it cannot be written, the next rebuild verifies again.

    The caller holds the lock of the view's writers.
    """
    if len(wrong) > _WRONG_MAX:
        return
    try:
        with workspace.repository.private.open() as folder:
            vouch(folder, _RECORD, _MARK, pack((_VERSION, head, tuple(sorted(wrong)))))
    except OSError:
        return
