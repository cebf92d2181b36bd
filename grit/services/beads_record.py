"""One issue of a beads export as plain values: times, texts, fields, edges (spec/exchange.md)."""

import json
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from grit.core.documents import NotJson, parse_json
from grit.core.errors import InvalidArgs
from grit.core.ids import parse_number
from grit.core.limits import (
    LABEL_CHARS_MAX,
    TEXT_BYTES_MAX,
    TITLE_CHARS_MAX,
    TS_UNIX_MS_MAX,
    VALUE_CHARS_MAX,
)
from grit.core.times import MINUTE_MS, parse_span

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
TIMES_END_MS: Final = 4_102_444_800_000
"""The year 2100: a time from then on is a slip of the source, whatever the clock says."""
Json = dict[str, object]
Note = Callable[[str, bool], None]
"""Takes a reason, and whether something of the source was left out."""

SECTIONS: Final = (
    ("design", "Design"),
    ("acceptance_criteria", "Acceptance criteria"),
    ("notes", "Notes"),
)
_PLAIN_FIELDS: Final = (
    ("issue_type", "type"), ("priority", "priority"), ("owner", "owner"),
    ("external_ref", "external_ref"), ("due_at", "due"), ("estimated_minutes", "estimate"),
)  # fmt: skip
_MAPPED: Final = frozenset(
    {
        "id", "title", "description", "status", "created_at", "updated_at", "closed_at",
        "created_by", "assignee", "labels", "comments", "dependencies", "close_reason",
        *(key for key, _ in SECTIONS), *(key for key, _ in _PLAIN_FIELDS),
    }
)  # fmt: skip
_TOMBSTONE_KEYS: Final = frozenset({"deleted_at", "deleted_by", "delete_reason"})
_COMMENT_KEYS: Final = frozenset({"id", "issue_id", "author", "text", "created_at"})
_EDGE_KEYS: Final = frozenset({"issue_id", "depends_on_id", "type", "created_at", "created_by"})
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-](\d\d):(\d\d))?", re.ASCII
)


class Comment(NamedTuple):
    """A comment of the source."""

    ts_unix_ms: int
    author: str
    text: str


class Edge(NamedTuple):
    """A dependency of the source: this issue on `target`, in the source's words."""

    target: str
    kind: str
    ts_unix_ms: int
    author: str


class Record(NamedTuple):
    """One issue of the source; authors are "" where the source names nobody."""

    source_id: str
    title: str
    body: str
    author: str
    assignee: str
    labels: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    closed: bool
    close_reason: str
    created_ts: int
    updated_ts: int
    closed_ts: int
    deletion: Comment | None
    """When, by whom and why it was deleted."""
    comments: tuple[Comment, ...]
    edges: tuple[Edge, ...]


def parse_ms(text: object) -> int | None:
    """Return the unix milliseconds of an RFC 3339 time with any offset and fraction, or None."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    span = parse_span(found[1])
    hours, minutes = parse_number(found[4] or "0"), parse_number(found[5] or "0")
    if span is None or hours is None or minutes is None or hours > 23 or minutes > 59:
        return None
    ahead_ms = (hours * 60 + minutes) * MINUTE_MS
    ts_unix_ms = span.first_ms + (ahead_ms if (found[3] or "").startswith("-") else -ahead_ms)
    ts_unix_ms += parse_number((found[2] or ".0")[1:4].ljust(3, "0")) or 0
    return ts_unix_ms if ts_unix_ms >= 0 else None


def parse_line(line: bytes) -> Json:
    """Return the JSON object of a line; raise ValueError with the reason."""
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes")
    try:
        shape = parse_json(line)
    except NotJson as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(shape, dict):
        raise ValueError("not a JSON object")
    if not isinstance(shape.get("id"), str) or not shape["id"].strip():
        raise ValueError("without an id")
    return shape


def clean_id(shape: Json) -> str:
    """Return the source's id, or "" where it has none that is text."""
    value = shape.get("id")
    return value.strip().encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def read_record(shape: Json, note: Note, latest_ms: int = TS_UNIX_MS_MAX) -> Record:
    """Return the issue; what does not fit is told to `note`, and never stops the rest.

    Raises InvalidArgs for a time after `latest_ms` that a clock can have, and ValueError when the
    object is nested too deeply to be kept.
    """
    source = _Source(shape, note, latest_ms)
    created = source.time("created_at", None)
    updated = max(created, source.time("updated_at", created, known="updated_at" in shape))
    status = source.text("status") or "open"
    tombstone = status == "tombstone"
    closed = status == "closed" or (tombstone and bool(shape.get("closed_at")))
    deletion = None
    if tombstone:
        deleted_at = source.time("deleted_at", updated)
        reason = _cut(source.text("delete_reason"), VALUE_CHARS_MAX, "delete_reason", source.note)
        deletion = Comment(deleted_at, source.name("deleted_by"), reason)
    closed_ts = source.time("closed_at", updated, known="closed_at" in shape) if closed else updated
    return Record(
        source_id=source.id,
        title=_title(source),
        body=_body(source),
        author=source.name("created_by") or source.name("owner"),
        assignee=source.name("assignee"),
        labels=_labels(source),
        fields=tuple(_fields(source, status, closed, tombstone).items()),
        closed=closed,
        close_reason=source.text("close_reason"),
        created_ts=created,
        updated_ts=updated,
        closed_ts=closed_ts,
        deletion=deletion,
        comments=tuple(_comments(source, created)),
        edges=tuple(_edges(source, created)),
    )


class _Source:
    """A JSON object of the source, read with complaints instead of exceptions."""

    def __init__(self, shape: Json, note: Note, latest_ms: int) -> None:
        self.shape = shape
        self.note = note
        self.latest_ms = latest_ms
        self.id = clean_id(shape)

    def text(self, key: str) -> str:
        value = self.shape.get(key)
        if value is None:
            return ""
        if isinstance(value, str):
            return _unicode(value, self.note)
        self.note(f"{key} is not text; kept as JSON", False)
        return _unicode(_dump(value), self.note)

    def name(self, key: str) -> str:
        return _cut(" ".join(self.text(key).split()), LABEL_CHARS_MAX, key, self.note)

    def time(self, key: str, default: int | None, known: bool = True) -> int:
        value = self.shape.get(key)
        ts_unix_ms = parse_ms(value)
        if ts_unix_ms is not None and ts_unix_ms <= self.latest_ms:
            return ts_unix_ms
        if ts_unix_ms is not None and ts_unix_ms < TIMES_END_MS:
            # Another clone, whose clock is right, uses it: two answers would double what they say.
            raise InvalidArgs(
                f"{key} of '{self.id}' is over a day ahead of this machine's clock; set the clock "
                "right, or that time, and try again: nothing was imported",
                key=key,
            )
        if ts_unix_ms is not None:
            self.note(f"{key} lies beyond the year 2099, and is not used", False)
            return default or 0
        if known and (value or default is None):
            self.note(f"{key} is missing or no time", False)
        return default or 0

    def items(self, key: str) -> list[object]:
        value = self.shape.get(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        self.note(f"{key} is not a list", True)
        return []

    def objects(self, key: str, known: frozenset[str]) -> list["_Source"]:
        found: list[_Source] = []
        for item in self.items(key):
            if not isinstance(item, dict):
                self.note(f"{key} holds something that is not an object", True)
                continue
            for name in sorted(set(item) - known):
                if item[name] not in (None, "", [], {}):
                    self.note(f"key '{name}' within {key} is not kept", True)
            found.append(_Source(item, self.note, self.latest_ms))
        return found


def _title(source: _Source) -> str:
    title = " ".join(source.text("title").split())
    if not title:
        source.note("without a title", False)
        return "(no title)"
    if len(title) > TITLE_CHARS_MAX:
        source.note("title cut; the whole one begins the body", False)
        return title[: TITLE_CHARS_MAX - 1] + "…"
    return title


def _body(source: _Source) -> str:
    parts = [source.text("description")]
    title = " ".join(source.text("title").split())
    if len(title) > TITLE_CHARS_MAX:
        parts.insert(0, title)
    for key, heading in SECTIONS:
        text = source.text(key)
        if text.strip():
            parts.append(f"## {heading}\n\n{text}")
    body = "\n\n".join(part for part in parts if part)
    return _bounded(body, "body", source.note)


def _bounded(text: str, what: str, note: Note) -> str:
    data = text.encode()
    if len(data) <= TEXT_BYTES_MAX:
        return text
    note(f"{what} of {len(data)} bytes cut to {TEXT_BYTES_MAX}", True)
    return data[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


def _labels(source: _Source) -> tuple[str, ...]:
    names: list[str] = []
    for item in source.items("labels"):
        text = " ".join(_unicode(item, source.note).split()) if isinstance(item, str) else ""
        if not 0 < len(text) <= LABEL_CHARS_MAX:
            source.note("a label is empty, too long or not text", True)
            continue
        names.append(text)
    return tuple(dict.fromkeys(names))


def _fields(source: _Source, status: str, closed: bool, tombstone: bool) -> dict[str, str]:
    shape = source.shape
    found: dict[str, object] = {}
    if not tombstone and status not in ("open", "closed"):
        found["status"] = status
    for key, name in _PLAIN_FIELDS:
        found[name] = shape.get(key)
    if not closed:
        found["beads.closed_at"] = shape.get("closed_at")
    for key, value in shape.items():
        if key not in _MAPPED and not (tombstone and key in _TOMBSTONE_KEYS):
            found[f"beads.{_unicode(key, source.note)}"] = value
    fields: dict[str, str] = {"source": f"beads:{source.id}"}
    for name, value in found.items():
        text = _scalar(value, source.note)
        if text == "":
            continue
        if len(name) > LABEL_CHARS_MAX or len(text) > VALUE_CHARS_MAX:
            source.note(f"'{name[:40]}' is too long for a field", True)
            continue
        fields[name] = text
    return fields


def _scalar(value: object, note: Note) -> str:
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, str):
        return _unicode(value, note).strip()
    return _unicode(_dump(value), note)


def _dump(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _comments(source: _Source, created: int) -> list[Comment]:
    found: list[Comment] = []
    known: set[tuple[object, Comment]] = set()
    for one in source.objects("comments", _COMMENT_KEYS):
        text = _bounded(one.text("text"), "comment", source.note)
        comment = Comment(one.time("created_at", created), one.name("author"), text)
        # The same comment twice has one id; two comments that say the same have two, or none.
        named = one.shape.get("id"), comment
        if isinstance(named[0], (str, int)) and named in known:
            continue
        if isinstance(named[0], (str, int)):
            known.add(named)
        found.append(comment)
    return found


def _edges(source: _Source, created: int) -> list[Edge]:
    found: list[Edge] = []
    for one in source.objects("dependencies", _EDGE_KEYS):
        target, owner = one.text("depends_on_id").strip(), one.text("issue_id").strip()
        if not target or target == source.id or owner not in ("", source.id):
            source.note("a dependency without a target, on itself or of another issue", True)
            continue
        kind = one.text("type").strip() or "blocks"
        found.append(Edge(target, kind, one.time("created_at", created), one.name("created_by")))
    return found


def _unicode(text: str, note: Note) -> str:
    """Return the text with lone surrogates, which no UTF-8 can hold, replaced."""
    if text.isascii():
        return text
    clean = text.encode("utf-8", "replace").decode()
    if clean != text:
        note("invalid Unicode replaced by '?'", False)
    return clean


def _cut(text: str, chars_max: int, what: str, note: Note) -> str:
    if len(text) <= chars_max:
        return text
    note(f"{what} cut to {chars_max} characters", True)
    return text[: chars_max - 1] + "…"
