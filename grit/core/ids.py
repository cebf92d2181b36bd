"""Identifiers: fixed-length byte strings inside, hex at the edges (spec/events.md, Identifiers).

Also the one way from digits to a number (spec/encoding.md, What comes from outside).
"""

from typing import Final, NewType

from grit.core.errors import InvalidArgs
from grit.core.limits import NUMBER_DIGITS_MAX, PREFIX_CHARS_MIN, SHORT_ID_CHARS_MIN

IssueId = NewType("IssueId", bytes)
"""16 bytes."""
ActorId = NewType("ActorId", bytes)
"""16 bytes; BLAKE2b-128 of the public key where the actor has one."""
EventId = NewType("EventId", bytes)
"""32 bytes: BLAKE2b-256 of the event's preimage."""

ACTOR_CHARS_MIN: Final = 8
"""Fewest hex digits of an actor's id that are shown."""
_HEX: Final = frozenset("0123456789abcdef")
_BLANKS: Final = "\ufffc\U0001d159"
"""Symbols that are drawn as nothing."""
_OCTAL: Final = frozenset("01234567")


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


def plain(text: str) -> str:
    """Return the text as the eye compares it: no case, width, blanks, or what is drawn as nothing.

    For comparing alone: texts that look alike are equal here, and some that do not.
    """
    if text.isascii() and text.isprintable():
        return text.replace(" ", "").lower()
    from grit.core.escape import without_unseen

    return without_unseen(text)


def id_digits(text: str) -> str:
    """Return the digits of what may be an id or its beginning, else "" (spec/trust.md, Names)."""
    digits = _without_marks(plain(text)).removeprefix("#")
    return digits if len(digits) >= PREFIX_CHARS_MIN and _HEX.issuperset(digits) else ""


def _without_marks(text: str) -> str:
    """Return the text without marks, fillers and the like: on a digit few fonts draw them."""
    if text.isascii():
        return text
    from grit.core.characters import category

    return "".join(char for char in text if category(char)[0] not in "CMZ" and char not in _BLANKS)


def is_name(text: str) -> bool:
    """Return whether the text may stand for a person: it is not blank, no id and not "@me".

    A few letters may be both an id's beginning and a name, as Ebba is.
    """
    digits = id_digits(text)
    if digits:
        return digits.isalpha() and len(digits) < SHORT_ID_CHARS_MIN
    return plain(text) not in ("", "@me")


def name_or_id(name: str, actor_id: ActorId) -> str:
    """Return how an actor is shown: by the name it claims, else by the first digits of its id."""
    return name if is_name(name) else actor_id.hex()[:ACTOR_CHARS_MIN]


def user_name(name: str, actor_id: ActorId) -> str:
    """Return the user name under which issues are assigned to the actor."""
    return name if is_name(name) else actor_id.hex()


def parse_number(
    text: str | bytes,
    digits_max: int = NUMBER_DIGITS_MAX,
    *,
    octal: bool = False,
    signed: bool = False,
) -> int | None:
    """Return the whole number that plain ASCII digits say, or None for anything else.

    The one way from text to a number: Python's own takes digits of every script, signs and blanks,
    and raises for 5,000 digits.
    """
    if signed and text[:1] in ("-", b"-"):
        number = parse_number(text[1:], digits_max)
        return None if number is None else -number
    if not (text.isascii() and text.isdigit() and len(text) <= digits_max):
        return None
    if not octal:
        return int(text)
    return int(text, 8) if isinstance(text, str) and _OCTAL.issuperset(text) else None


def parse_hex(text: object, size: int) -> bytes | None:
    """Return the bytes that exactly `size` times two hex digits say, or None for anything else.

    The one way from hex to bytes: Python's own takes blanks too, and raises for all else.
    """
    if not isinstance(text, str) or len(text) != 2 * size or not _HEX.issuperset(text.lower()):
        return None
    return bytes.fromhex(text)
