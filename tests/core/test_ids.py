"""Ids as people type them: hex prefixes, and nothing else (spec/events.md, Identifiers)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.errors import InvalidArgs
from grit.core.ids import (
    ActorId,
    id_digits,
    is_name,
    name_or_id,
    parse_prefix,
    plain,
    user_name,
)


@given(st.binary(min_size=2, max_size=16))
def test_any_prefix_of_hex_is_an_id(data: bytes) -> None:
    """Four to 32 hex digits are taken in either case, with blanks or a '#' around them."""
    text = data.hex()
    assert parse_prefix(text) == text
    assert parse_prefix(f" #{text.upper()} ") == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected hex"),
        ("#", "expected hex"),
        ("    ", "expected hex"),
        ("xyz", "expected hex"),
        ("0x1234", "expected hex"),
        ("-1234", "expected hex"),
        ("12 34", "expected hex"),
        ("abcg", "expected hex"),
        ("１２３４", "expected hex"),
        ("a\x00bc", "expected hex"),
        ("abc", "too short"),
        ("0" * 33, "too long"),
    ],
)
def test_what_is_no_id_is_refused(text: str, reason: str) -> None:
    """Anything but hex digits of a fitting number is refused, and the message says why."""
    with pytest.raises(InvalidArgs, match=reason):
        parse_prefix(text)


def test_the_length_and_the_noun_can_be_chosen() -> None:
    """Ids of events are longer, and errors call the thing by its name."""
    assert parse_prefix("0" * 64, chars_max=64) == "0" * 64
    with pytest.raises(InvalidArgs, match="an event id has 64"):
        parse_prefix("0" * 65, chars_max=64, what="event id")


ALIKE = {
    "as it is": "abcd1234",
    "capitals": "ABCD1234",
    "a '#' and blanks": " #abcd1234 ",
    "blanks of other kinds": "\u00a0abcd\u20031234\u3000\u2800",
    "drawn as nothing": "ab\u200bcd\ufeff12\u200d34\ufe0f\u00ad",
    "direction marks": "\u202aabcd\u202c1234",
    "controls": "abcd\x001234\x7f",
    "full width": "ａｂｃｄ１２３４",
}


@pytest.mark.parametrize("text", ALIKE.values(), ids=ALIKE)
def test_what_looks_like_an_id_is_one(text: str) -> None:
    """Case, width, blanks and what is not seen do not make a name of an id."""
    assert plain(text).removeprefix("#") == "abcd1234"
    assert id_digits(text) == "abcd1234"
    assert not is_name(text)


@pytest.mark.parametrize(
    ("text", "digits", "name"),
    [
        ("", "", False),
        (" \u200b", "", False),
        ("@me", "", False),
        ("@ME\u200b", "", False),
        ("me", "", True),
        ("none", "", True),
        ("abc", "", True),
        ("Ebba", "ebba", True),
        ("facade", "facade", True),
        ("acceded", "acceded", False),
        ("abc1", "abc1", False),
        ("1234", "1234", False),
        ("0" * 32, "0" * 32, False),
        ("0" * 64, "0" * 64, False),
        ("0x1234", "", True),
        ("Ann Example", "", True),
        ("-abcd1234", "", True),
        ("été", "", True),
    ],
)
def test_what_may_be_a_name(text: str, digits: str, name: bool) -> None:
    """Four hex digits or more may be an id; seven, or one that is no letter, are never a name."""
    assert id_digits(text) == digits
    assert is_name(text) == name


@given(st.text(max_size=20))
def test_what_is_shown_or_assigned_is_no_false_id(text: str) -> None:
    """An actor's claimed name stands for it only where it is a name; else its own id does."""
    actor_id = ActorId(bytes(range(16)))
    assert is_name(user_name(text, actor_id)) or user_name(text, actor_id) == actor_id.hex()
    assert name_or_id(text, actor_id) in (text, actor_id.hex()[:8])
