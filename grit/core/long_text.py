"""Texts that are too long to be held everywhere: how much of them is (spec/view.md, Long texts)."""

from typing import Final

from grit.core.ids import EventId
from grit.core.limits import TEXT_KEPT_BYTES

WHOLE_PAYLOAD: Final = -1


class Long:
    """A text, or a whole payload, of which no more than the beginning was read.

    It is no text, so that nothing takes the beginning for all of it.
    """

    __slots__ = ("event_id", "field", "head", "place", "size")

    def __init__(self, event_id: EventId, field: int, head: str, size: int, place: bytes) -> None:
        """Say which field of which event it is (WHOLE_PAYLOAD: all), its bytes, and its place.

        A place names a blob of the log, or a row of the view (`long_rows`).
        """
        self.event_id = event_id
        self.field = field
        self.head = head
        self.size = size
        self.place = place

    def __eq__(self, other: object) -> bool:
        """Whether both are one text of one event, read as far from one place."""
        return isinstance(other, Long) and self._parts() == other._parts()

    def __hash__(self) -> int:
        """Return what equal ones have in common."""
        return hash(self._parts())

    def _parts(self) -> tuple[EventId, int, str, int, bytes]:
        return self.event_id, self.field, self.head, self.size, self.place

    def __str__(self) -> str:
        """Return the beginning."""
        return self.head


Text = str | Long
"""A body or a comment as the view gives it."""


def utf8_bytes(text: str) -> int:
    """Return how many bytes a text takes."""
    return len(text) if text.isascii() else len(text.encode())


def whole_bytes(text: Text) -> int:
    """Return how many bytes the whole of a text takes."""
    return text.size if isinstance(text, Long) else utf8_bytes(text)


def beginning(text: Text, bytes_max: int = TEXT_KEPT_BYTES) -> str:
    """Return what a view keeps of a text, at most so many bytes of it."""
    if isinstance(text, Long):
        text = text.head
    if len(text) * 4 <= bytes_max:
        return text
    return text[:bytes_max].encode()[:bytes_max].decode(errors="ignore")
