"""Ids as people type them: hex prefixes, and nothing else (spec/events.md, Identifiers)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.errors import InvalidArgs
from grit.core.ids import parse_prefix


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
