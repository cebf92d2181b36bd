"""Identifiers: fixed-length byte strings inside, hex at the edges (spec/events.md, Identifiers)."""

from typing import Final, NewType

from grit.core.errors import InvalidArgs
from grit.core.limits import PREFIX_CHARS_MIN

IssueId = NewType("IssueId", bytes)
"""16 bytes."""
ActorId = NewType("ActorId", bytes)
"""16 bytes; BLAKE2b-128 of the public key where the actor has one."""
EventId = NewType("EventId", bytes)
"""32 bytes: BLAKE2b-256 of the event's preimage."""

_HEX: Final = frozenset("0123456789abcdef")


def parse_prefix(text: str, *, chars_max: int = 32, what: str = "issue id") -> str:
    """Return the lower-case hex prefix that a person typed.

    Raises InvalidArgs when it is not hex, too short (under 4 digits) or longer than an id.
    """
    prefix = text.strip().lower().removeprefix("#")
    if not prefix or not _HEX.issuperset(prefix):
        raise InvalidArgs(f"'{text}' is not an {what}: expected hex digits, as shown by 'grit ls'")
    if len(prefix) < PREFIX_CHARS_MIN:
        raise InvalidArgs(f"'{text}' is too short: give at least {PREFIX_CHARS_MIN} hex digits")
    if len(prefix) > chars_max:
        raise InvalidArgs(f"'{text}' is too long: an {what} has {chars_max} hex digits")
    return prefix
