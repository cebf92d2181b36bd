"""Numbers, hex and JSON from outside: the one way in takes plain forms and raises nothing else."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.documents import NotJson, parse_json
from grit.core.ids import parse_hex, parse_number
from grit.core.limits import JSON_DEPTH_MAX, NUMBER_DIGITS_MAX

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.integers(0, 10**NUMBER_DIGITS_MAX - 1))
def test_plain_digits_are_numbers(number: int) -> None:
    """Digits within the bound are their number, as text and as bytes, with a sign if asked."""
    assert parse_number(str(number)) == number
    assert parse_number(b"%d" % number) == number
    assert parse_number(f"-{number}", signed=True) == -number
    assert parse_number(b"-%d" % number, signed=True) == -number
    assert parse_number(oct(number)[2:], 21, octal=True) == number


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "+1", "-1", "1_0", "²", "١", "１", "0x1", "1.0", "9" * 19, "9" * 5_000]
)
def test_nothing_else_is_a_number(text: str) -> None:
    """Signs, blanks, digits of other scripts and too many digits are no number."""
    assert parse_number(text) is None
    assert parse_number(text.encode()) is None
    assert parse_number(f"-{text}", signed=True) is None or text == "-1"


def test_octal_is_octal() -> None:
    """An 8 is no octal digit."""
    assert parse_number("660", octal=True) == 0o660
    assert parse_number("680", octal=True) is None


@given(st.binary(max_size=40))
def test_hex_of_the_right_size(data: bytes) -> None:
    """Hex in either case is its bytes when it has exactly the size."""
    assert parse_hex(data.hex(), len(data)) == data
    assert parse_hex(data.hex().upper(), len(data)) == data
    assert parse_hex(data.hex(), len(data) + 1) is None


@pytest.mark.parametrize("value", [None, 7, b"00", "0g", " 0", "0", "００", "0\n", ["00"]])
def test_nothing_else_is_hex(value: object) -> None:
    """What is no text, and text with anything but hex digits, is none."""
    assert parse_hex(value, 1) is None


@given(JSON)
def test_json_comes_back(value: object) -> None:
    """Any document that Python writes is read as it was, strictly or not."""
    text = json.dumps(value)
    assert parse_json(text) == value
    assert parse_json(text.encode(), strict=True) == value


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("write", [str, str.encode])
def test_depth_is_bounded(write: Callable[[str], str | bytes]) -> None:
    """Lists and objects lie JSON_DEPTH_MAX deep at most; how many there are does not count."""
    assert parse_json(write(_nested(JSON_DEPTH_MAX)))
    assert parse_json(write("[" + ",".join(["[{}]"] * 1_000) + "]"))
    mixed = '{"a":[' * (JSON_DEPTH_MAX // 2) + "[]" + "]}" * (JSON_DEPTH_MAX // 2)
    for text in (_nested(JSON_DEPTH_MAX + 1), mixed, _nested(100_000), "[" * 100_000):
        with pytest.raises(NotJson):
            parse_json(write(text))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" + b"9" * 5_000 + b"]", b"{} {}"])
def test_what_is_no_json(data: bytes) -> None:
    """Text that is cut off, bytes that are no UTF-8, and numbers of 5,000 digits are refused."""
    with pytest.raises(NotJson) as caught:
        parse_json(data)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', "[NaN]", "[-Infinity]", "[1e999]"])
def test_strict_refuses_what_does_not_go_out_again(text: str) -> None:
    """A key twice, and numbers that JSON cannot write, are taken by the lenient reader alone."""
    assert parse_json(text)
    with pytest.raises(NotJson):
        parse_json(text, strict=True)
