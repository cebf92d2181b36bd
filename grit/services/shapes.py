"""JSON shapes of summaries, issues and events, and events back from them (spec/json.md)."""

from typing import Final, cast

from grit.core import codec
from grit.core.errors import InvalidArgs, InvalidEvent
from grit.core.events import KINDS, Draft, Event, Payload, Value, check_payload
from grit.core.ids import ActorId, EventId, IssueId, parse_hex
from grit.core.issue import Issue, Summary
from grit.core.long_text import WHOLE_PAYLOAD, Long

Json = dict[str, object]
_TAGS: Final = {kind.name: tag for tag, kind in KINDS.items()}
_BYTES_FIELDS: Final = frozenset({"sha256", "target", "public_key", "comment"})
_BYTES_LISTS: Final = frozenset({"events"})


def summary_json(row: Summary) -> Json:
    """Return the row of a list: ids in hex, times in unix milliseconds."""
    return {
        "issue_id": row.issue_id.hex(),
        "title": row.title,
        "state": row.state,
        "labels": list(row.labels),
        "assignees": list(row.assignees),
        "fields": dict(row.fields),
        "author": row.author.hex(),
        "created_ts": row.created_ts,
        "updated_ts": row.updated_ts,
        "comment_count": row.comment_count,
    }


SUMMARY_FIELDS: Final = (
    "issue_id", "title", "state", "labels", "assignees", "fields", "author", "created_ts",
    "updated_ts", "comment_count",
)  # fmt: skip


def issue_json(issue: Issue, dependencies: list[Json], dependents: list[Json]) -> Json:
    """Return the whole issue; the edges come with titles and states already looked up."""
    return {
        **summary_json(issue.summary),
        "deleted": issue.summary.deleted,
        "body": issue.body,
        "comments": [
            {
                "event_id": one.event_id.hex(),
                "actor": one.actor.hex(),
                "ts_unix_ms": one.ts_unix_ms,
                "body": one.body,
                "edited_ts": one.edited_ts,
                "redacted": one.redacted,
            }
            for one in issue.comments
        ],
        "links": [
            {
                "event_id": one.event_id.hex(),
                "actor": one.actor.hex(),
                "ts_unix_ms": one.ts_unix_ms,
                "url": one.url,
                "note": one.note,
            }
            for one in issue.links
        ],
        "attachments": [
            {
                "event_id": one.event_id.hex(),
                "actor": one.actor.hex(),
                "ts_unix_ms": one.ts_unix_ms,
                "name": one.name,
                "sha256": one.sha256.hex(),
                "mime": one.mime,
            }
            for one in issue.attachments
        ],
        "dependencies": dependencies,
        "dependents": dependents,
    }


def event_json(
    event: Event,
    signature: str | None = None,
    held: str | None = None,
    counted: int | None = None,
) -> Json:
    """Return the event; `signature` is its status, left out where it was not checked.

    `held` says why the event does not count, `counted` when it does.
    """
    shape: Json = {
        "event_id": event.event_id.hex(),
        "issue_id": event.issue_id.hex(),
        "actor": event.actor_id.hex(),
        "ts_unix_ms": event.ts_unix_ms,
        "parent": event.parent.hex() if event.parent else None,
        "kind": _left_out(event) or kind_json(event.tag, event.payload),
        "sig": event.sig.hex() if event.sig else None,
    }
    if signature is not None:
        shape["signature"] = signature
        shape["held"] = held
        shape["counted_ts"] = counted
    return shape


def _left_out(event: Event) -> Long | None:
    first = event.payload[0] if event.payload else None
    return first if isinstance(first, Long) and first.field == WHOLE_PAYLOAD else None


def kind_json(tag: int, payload: Payload) -> Json:
    """Return {name: {field: value}}; an unknown kind keeps its payload as hex of CBOR.

    Texts that were not read whole stand in it as they are: see `long_texts.LongTexts.json`.
    """
    kind = KINDS.get(tag)
    if kind is None:
        return {"Unknown": {"tag": tag, "payload": codec.pack(payload).hex()}}
    pairs = zip(kind.fields, payload, strict=True)
    return {kind.name: {name: _plain(value) for (name, _), value in pairs}}


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def event_from_json(shape: object) -> Event:
    """Return the event of `event_json`, its id recomputed and compared.

    Raises InvalidArgs naming what is wrong.
    """
    try:
        return _event_from_json(cast(Json, shape))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidEvent) as error:
        raise InvalidArgs(f"not an event: {error}") from error


def _event_from_json(shape: Json) -> Event:
    ((name, fields),) = cast(dict[str, dict[str, object]], shape["kind"]).items()
    tag, payload = _payload_from_json(name, fields)
    check_payload(tag, payload)
    parent, sig = shape["parent"], shape.get("sig")
    draft = Draft(IssueId(_bytes(shape["issue_id"])), tag, payload)
    event = codec.seal(
        draft,
        ActorId(_bytes(shape["actor"])),
        cast(int, shape["ts_unix_ms"]),
        None if parent is None else EventId(_bytes(parent)),
    )._replace(sig=None if sig is None else _bytes(sig))
    if event.event_id.hex() != shape["event_id"]:
        raise ValueError(f"event_id {shape['event_id']} is not the hash of the event")
    return event


def _payload_from_json(name: str, fields: dict[str, object]) -> tuple[int, Payload]:
    if name == "Unknown":
        payload = codec.unpack(_bytes(fields["payload"]))
        return cast(int, fields["tag"]), cast(Payload, payload)
    tag = _TAGS[name]
    return tag, tuple(_value(field, fields[field]) for field, _ in KINDS[tag].fields)


def _value(name: str, value: object) -> Value:
    if name in _BYTES_FIELDS and isinstance(value, str):
        return _bytes(value)
    if name in _BYTES_LISTS and isinstance(value, list):
        return tuple([_bytes(one) for one in value])
    return _tupled(value)


def _bytes(value: object) -> bytes:
    found = parse_hex(value, len(value) // 2) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{str(value)[:40]!r} is no hex")
    return found


def _tupled(value: object) -> Value:
    if isinstance(value, list):
        return tuple(_tupled(one) for one in value)
    return cast(Value, value)
