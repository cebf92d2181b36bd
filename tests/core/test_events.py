"""The table of kinds: what a payload may hold, by field, and what is refused (spec/events.md)."""

import pytest

from grit.core import events as kinds
from grit.core import limits
from grit.core.errors import InvalidEvent
from grit.core.events import KINDS, Payload, Value, check_payload, kind_name
from tests.core.builders import EXAMPLES, event

LONG = "x" * (limits.LABEL_CHARS_MAX + 1)
LONGER = "x" * (limits.VALUE_CHARS_MAX + 1)
LONGEST = "x" * (limits.TEXT_BYTES_MAX + 1)
WIDE = "\N{CRAB}" * (limits.TEXT_BYTES_MAX // 4)
SYMBOL = ("f", "function", 1, 2)

BAD: list[tuple[int, int, Value]] = [
    (kinds.ISSUE_CREATED, 0, ""),
    (kinds.ISSUE_CREATED, 0, LONGER),
    (kinds.ISSUE_CREATED, 0, None),
    (kinds.ISSUE_CREATED, 1, None),
    (kinds.ISSUE_CREATED, 1, LONGEST),
    (kinds.ISSUE_CREATED, 1, WIDE + "x"),
    (kinds.ISSUE_CREATED, 2, None),
    (kinds.ISSUE_CREATED, 2, "bug"),
    (kinds.ISSUE_CREATED, 2, ("b", "a")),
    (kinds.ISSUE_CREATED, 2, ("a", "")),
    (kinds.ISSUE_CREATED, 2, ("a", 1)),
    (kinds.ISSUE_CREATED, 2, tuple(f"{n:04}" for n in range(limits.LABELS_MAX + 1))),
    (kinds.ISSUE_UPDATED, 0, ""),
    (kinds.ISSUE_UPDATED, 1, 5),
    (kinds.LABEL_ADDED, 0, LONG),
    (kinds.LABEL_REMOVED, 0, ""),
    (kinds.STATE_CHANGED, 0, "done"),
    (kinds.STATE_CHANGED, 0, ("open",)),
    (kinds.LINK_ADDED, 0, ""),
    (kinds.LINK_ADDED, 1, LONGER),
    (kinds.ATTACHMENT_ADDED, 1, bytes(31)),
    (kinds.ATTACHMENT_ADDED, 1, "x" * 32),
    (kinds.ATTACHMENT_ADDED, 2, LONG),
    (kinds.DEPENDENCY_ADDED, 0, bytes(15)),
    (kinds.DEPENDENCY_ADDED, 1, "duplicates"),
    (kinds.CONTEXT_UPDATED, 2, None),
    (kinds.CONTEXT_UPDATED, 2, (SYMBOL,) * (limits.SYMBOLS_MAX + 1)),
    (kinds.CONTEXT_UPDATED, 2, ("f",)),
    (kinds.CONTEXT_UPDATED, 2, (("f", "function", 1),)),
    (kinds.CONTEXT_UPDATED, 2, ((1, "function", 1, 2),)),
    (kinds.CONTEXT_UPDATED, 2, (("f", LONG, 1, 2),)),
    (kinds.CONTEXT_UPDATED, 2, (("f", "function", -1, 2),)),
    (kinds.CONTEXT_UPDATED, 2, (("f", "function", 1, 2**32),)),
    (kinds.CONTEXT_UPDATED, 2, (("f", "function", 1, "2"),)),
    (kinds.ACTOR_ANNOUNCED, 3, bytes(31)),
    (kinds.FIELD_SET, 0, ""),
    (kinds.FIELD_SET, 1, 5),
    (kinds.COMMENT_EDITED, 0, bytes(16)),
    (kinds.COMMENT_REDACTED, 1, None),
]

GOOD: list[tuple[int, int, Value]] = [
    (kinds.ISSUE_CREATED, 0, "x" * limits.TITLE_CHARS_MAX),
    (kinds.ISSUE_CREATED, 1, ""),
    (kinds.ISSUE_CREATED, 1, WIDE),
    (kinds.ISSUE_CREATED, 1, "x" * limits.TEXT_BYTES_MAX),
    (kinds.ISSUE_CREATED, 2, ()),
    (kinds.ISSUE_CREATED, 2, ("Z", "a", "é", "\N{CRAB}")),
    (kinds.ISSUE_UPDATED, 0, None),
    (kinds.LINK_ADDED, 1, None),
    (kinds.CONTEXT_UPDATED, 2, ()),
    (kinds.ACTOR_ANNOUNCED, 3, None),
    (kinds.FIELD_SET, 1, None),
    (kinds.FIELD_SET, 1, ""),
]


def _changed(tag: int, at: int, value: Value) -> Payload:
    fields = list(event(tag, *EXAMPLES[tag]).payload)
    fields[at] = value
    return tuple(fields)


def test_every_kind_has_a_name_fields_and_an_example() -> None:
    """The table is complete, names are unique, and the shared kinds are 1 to 14."""
    assert set(EXAMPLES) == set(KINDS)
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    assert {tag for tag in KINDS if tag <= kinds.SHARED_TAG_MAX} == set(range(1, 15))
    assert [kind_name(tag) for tag in KINDS] == [kind.name for kind in KINDS.values()]
    assert kind_name(4242) == "Unknown"


@pytest.mark.parametrize("tag", KINDS, ids=kind_name)
def test_examples_pass_and_other_shapes_do_not(tag: int) -> None:
    """A payload is a tuple of exactly the fields of its kind, none of a foreign type."""
    payload = event(tag, *EXAMPLES[tag]).payload
    check_payload(tag, payload)
    for shape in (payload[:-1], (*payload, None), (), None, "text", b"bytes", 7, list(payload)):
        with pytest.raises(InvalidEvent, match=f"{kind_name(tag)} needs {len(payload)} fields"):
            check_payload(tag, shape)  # type: ignore[arg-type]
    for at, (name, _) in enumerate(KINDS[tag].fields):
        for wrong in (1.5, True, {}, [], object()):
            with pytest.raises(InvalidEvent, match=f"^{kind_name(tag)}: bad {name}$"):
                check_payload(tag, _changed(tag, at, wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(("tag", "at", "value"), BAD, ids=lambda value: repr(value)[:20])
def test_values_out_of_bounds_are_refused(tag: int, at: int, value: Value) -> None:
    """Each bound of limits.py holds, and the message names the first field that breaks one."""
    name = KINDS[tag].fields[at][0]
    with pytest.raises(InvalidEvent, match=f"bad {name}"):
        check_payload(tag, _changed(tag, at, value))


@pytest.mark.parametrize(("tag", "at", "value"), GOOD, ids=lambda value: repr(value)[:20])
def test_values_at_the_bound_pass(tag: int, at: int, value: Value) -> None:
    """What is exactly at a bound is valid: emptiness, absence and greatest lengths."""
    check_payload(tag, _changed(tag, at, value))


def test_the_first_bad_field_is_named() -> None:
    """With two bad fields the message names the first."""
    with pytest.raises(InvalidEvent, match="IssueCreated: bad title"):
        check_payload(kinds.ISSUE_CREATED, ("", None, None))


def test_fault_18_unknown_kinds_pass_whatever_they_hold() -> None:
    """A kind of a later version is not judged, as long as its payload is an array."""
    check_payload(4242, ())
    check_payload(4242, ("anything", 7, (None, b"\x00")))
    for payload in (None, "text", b"bytes", 7):
        with pytest.raises(InvalidEvent, match="unknown kind 4242"):
            check_payload(4242, payload)


def test_an_event_knows_its_place() -> None:
    """The order is time, then actor, then id."""
    one = event(kinds.COMMENT_ADDED, "text", ts=7)
    assert one.order == (7, one.actor_id, one.event_id)


@pytest.mark.parametrize("value", [1.5, ("x", (2.5,)), {}])
def test_an_unknown_kind_holds_what_has_one_encoding(value: object) -> None:
    """Floats and maps have several encodings: not even an unknown kind may hold them."""
    with pytest.raises(InvalidEvent, match="unknown kind 4242 is not canonical"):
        kinds.check_payload(4242, (value,))  # type: ignore[arg-type]
    kinds.check_payload(4242, (None, True, 1, b"", ("x",)))
