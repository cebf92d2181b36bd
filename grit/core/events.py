"""Events: the record, the table of kinds, and what makes one valid (spec/events.md)."""

import operator
from collections.abc import Callable, Iterable
from itertools import starmap
from typing import Final, NamedTuple, cast

from grit.core import limits
from grit.core.errors import InvalidEvent
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Order
from grit.core.long_text import Long

Value = str | bytes | int | Long | None | tuple["Value", ...]
"""What a payload may hold once decoded."""
Payload = tuple[Value, ...]


class Event(NamedTuple):
    """One sealed event, in the field order of the stored record."""

    event_id: EventId
    issue_id: IssueId
    actor_id: ActorId
    ts_unix_ms: int
    parent: EventId | None
    tag: int
    payload: Payload
    sig: bytes | None

    @property
    def order(self) -> Order:
        """The event's place among the events of its issue."""
        return (self.ts_unix_ms, self.actor_id, self.event_id)


class Draft(NamedTuple):
    """What a decision asks for: an event without actor, time, parent, id and signature."""

    issue_id: IssueId
    tag: int
    payload: Payload


ISSUE_CREATED: Final = 1
ISSUE_UPDATED: Final = 2
COMMENT_ADDED: Final = 3
LABEL_ADDED: Final = 4
LABEL_REMOVED: Final = 5
STATE_CHANGED: Final = 6
LINK_ADDED: Final = 7
ASSIGNEE_ADDED: Final = 8
ASSIGNEE_REMOVED: Final = 9
ATTACHMENT_ADDED: Final = 10
DEPENDENCY_ADDED: Final = 11
DEPENDENCY_REMOVED: Final = 12
CONTEXT_UPDATED: Final = 13
PROJECT_CONTEXT_UPDATED: Final = 14
ACTOR_ANNOUNCED: Final = 100
FIELD_SET: Final = 101
COMMENT_EDITED: Final = 102
COMMENT_REDACTED: Final = 103
ISSUE_DELETED: Final = 104
ISSUE_RESTORED: Final = 105
TIME_OVERRULED: Final = 115

NO_ISSUE: Final = frozenset({CONTEXT_UPDATED, PROJECT_CONTEXT_UPDATED, ACTOR_ANNOUNCED})
"""Tags of events that belong to no issue."""

SHARED_TAG_MAX: Final = 14
"""Tags up to this one are read by every implementation of the format."""

STATES: Final = ("open", "closed")
DEPENDENCY_TYPES: Final = ("blocks", "depends_on", "related_to")

Check = Callable[[Value], bool]


def _text(chars_max: int, chars_min: int = 0) -> Check:
    def check(value: Value) -> bool:
        return type(value) is str and chars_min <= len(value) <= chars_max

    return check


def _body(value: Value) -> bool:
    if type(value) is not str:
        return False
    size = len(value)
    if size * 4 <= limits.TEXT_BYTES_MAX:
        return True
    return size <= limits.TEXT_BYTES_MAX and len(value.encode()) <= limits.TEXT_BYTES_MAX


def _bytes(size: int) -> Check:
    def check(value: Value) -> bool:
        return type(value) is bytes and len(value) == size

    return check


def _optional(check: Check) -> Check:
    def optional(value: Value) -> bool:
        return value is None or check(value)

    return optional


def _one_of(words: tuple[str, ...]) -> Check:
    def check(value: Value) -> bool:
        return value in words

    return check


def _labels(value: Value) -> bool:
    if type(value) is not tuple or len(value) > limits.LABELS_MAX:
        return False
    return all(map(_LABEL, value)) and _sorted([str(label).encode() for label in value])


def _sorted(keys: list[bytes]) -> bool:
    return all(left <= right for left, right in zip(keys, keys[1:], strict=False))


def _event_ids(value: Value) -> bool:
    if type(value) is not tuple or not 0 < len(value) <= limits.OVERRULED_MAX:
        return False
    ids = cast(list[bytes], list(value))
    return all(map(_EVENT_ID, value)) and all(map(operator.lt, ids, ids[1:]))


def _line(value: Value) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _symbols(value: Value) -> bool:
    if type(value) is not tuple or len(value) > limits.SYMBOLS_MAX:
        return False
    return all(map(_symbol, value))


def _symbol(value: Value) -> bool:
    if type(value) is not tuple or len(value) != 4:
        return False
    name, kind, start, end = value
    return _VALUE(name) and _LABEL0(kind) and _line(start) and _line(end)


_TITLE: Final = _text(limits.TITLE_CHARS_MAX, 1)
_LABEL: Final = _text(limits.LABEL_CHARS_MAX, 1)
_LABEL0: Final = _text(limits.LABEL_CHARS_MAX)
_VALUE: Final = _text(limits.VALUE_CHARS_MAX)
_VALUE1: Final = _text(limits.VALUE_CHARS_MAX, 1)
_ID: Final = _bytes(limits.ID_BYTES)
_EVENT_ID: Final = _bytes(limits.EVENT_ID_BYTES)
_SHA256: Final = _bytes(limits.SHA256_BYTES)
_DEPENDENCY: Final = _one_of(DEPENDENCY_TYPES)


class Kind(NamedTuple):
    """One row of the table of kinds: its name, and its payload's fields with their checks."""

    name: str
    fields: tuple[tuple[str, Check], ...]


KINDS: Final[dict[int, Kind]] = {
    ISSUE_CREATED: Kind("IssueCreated", (("title", _TITLE), ("body", _body), ("labels", _labels))),
    ISSUE_UPDATED: Kind("IssueUpdated", (("title", _optional(_TITLE)), ("body", _optional(_body)))),
    COMMENT_ADDED: Kind("CommentAdded", (("body", _body),)),
    LABEL_ADDED: Kind("LabelAdded", (("label", _LABEL),)),
    LABEL_REMOVED: Kind("LabelRemoved", (("label", _LABEL),)),
    STATE_CHANGED: Kind("StateChanged", (("state", _one_of(STATES)),)),
    LINK_ADDED: Kind("LinkAdded", (("url", _VALUE1), ("note", _optional(_VALUE)))),
    ASSIGNEE_ADDED: Kind("AssigneeAdded", (("user", _LABEL),)),
    ASSIGNEE_REMOVED: Kind("AssigneeRemoved", (("user", _LABEL),)),
    ATTACHMENT_ADDED: Kind(
        "AttachmentAdded", (("name", _VALUE1), ("sha256", _SHA256), ("mime", _LABEL0))
    ),
    DEPENDENCY_ADDED: Kind("DependencyAdded", (("target", _ID), ("dep_type", _DEPENDENCY))),
    DEPENDENCY_REMOVED: Kind("DependencyRemoved", (("target", _ID), ("dep_type", _DEPENDENCY))),
    CONTEXT_UPDATED: Kind(
        "ContextUpdated",
        (
            ("path", _VALUE1),
            ("language", _LABEL0),
            ("symbols", _symbols),
            ("summary", _body),
            ("sha256", _SHA256),
        ),
    ),
    PROJECT_CONTEXT_UPDATED: Kind("ProjectContextUpdated", (("key", _VALUE1), ("value", _body))),
    ACTOR_ANNOUNCED: Kind(
        "ActorAnnounced",
        (
            ("label", _LABEL0),
            ("name", _LABEL0),
            ("email", _LABEL0),
            ("public_key", _optional(_bytes(limits.PUBLIC_KEY_BYTES))),
        ),
    ),
    FIELD_SET: Kind("FieldSet", (("key", _LABEL), ("value", _optional(_VALUE)))),
    COMMENT_EDITED: Kind("CommentEdited", (("comment", _EVENT_ID), ("body", _body))),
    COMMENT_REDACTED: Kind("CommentRedacted", (("comment", _EVENT_ID), ("reason", _VALUE))),
    ISSUE_DELETED: Kind("IssueDeleted", (("reason", _VALUE),)),
    ISSUE_RESTORED: Kind("IssueRestored", (("reason", _VALUE),)),
    TIME_OVERRULED: Kind("TimeOverruled", (("events", _event_ids),)),
}

_CHECKS: Final = {tag: tuple(check for _, check in kind.fields) for tag, kind in KINDS.items()}


def _plain(value: Value) -> bool:
    """Whether a value has one encoding only; floats, maps and tags have several."""
    if type(value) is tuple:
        return all(map(_plain, value))
    return value is None or type(value) in (str, bytes, int, bool)


def kind_name(tag: int) -> str:
    """Return the kind's name, or `Unknown` for a tag of a later version."""
    kind = KINDS.get(tag)
    return "Unknown" if kind is None else kind.name


def payloads_hold(tags: Iterable[int], payloads: Iterable[object]) -> bool:
    """Return whether all payloads obey their kinds, as `check_payload` would find; fast for many.

    False too when a kind is unknown.
    """
    by_tag: dict[int, list[object]] = {}
    for tag, payload in zip(tags, payloads, strict=True):
        by_tag.setdefault(tag, []).append(payload)
    return all(starmap(_all_hold, by_tag.items()))


def _all_hold(tag: int, payloads: list[object]) -> bool:
    checks = _CHECKS.get(tag)
    if checks is None or set(map(type, payloads)) != {tuple}:
        return False
    rows = cast(list[Payload], payloads)
    if set(map(len, rows)) != {len(checks)}:
        return False
    return all(
        all(map(check, column))
        for check, column in zip(checks, zip(*rows, strict=True), strict=True)
    )


def check_payload(tag: int, payload: Value) -> None:
    """Raise InvalidEvent unless the payload obeys its kind; unknown kinds pass.

    The payload must be a tuple with the kind's fields in order (spec/events.md, Kinds).
    """
    checks = _CHECKS.get(tag)
    if checks is None:
        if type(payload) is not tuple:
            raise InvalidEvent(f"the payload of unknown kind {tag} is not an array")
        if not _plain(payload):
            raise InvalidEvent(f"the payload of unknown kind {tag} is not canonical CBOR")
        return
    if type(payload) is not tuple or len(payload) != len(checks):
        raise InvalidEvent(f"the payload of {KINDS[tag].name} needs {len(checks)} fields")
    for check, value in zip(checks, payload, strict=True):
        if not check(value):
            names = [
                name
                for (name, test), v in zip(KINDS[tag].fields, payload, strict=True)
                if not test(v)
            ]
            raise InvalidEvent(f"{KINDS[tag].name}: bad {names[0]}")
