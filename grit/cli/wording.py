"""Events as words, for histories that people read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from grit.cli.detail import HistoryRow
from grit.cli.names import name_of, short
from grit.cli.terminal import absolute_time
from grit.core.events import KINDS, Event, Value
from grit.core.ids import IssueId
from grit.services.issues import SHORT
from grit.services.signatures import judged
from grit.view.reader import ViewReader


def _quoted(text: Value, chars_max: int = 60) -> str:
    line = " ".join(str(text).split())
    return f'"{line if len(line) <= chars_max else line[: chars_max - 1] + "…"}"'


def _hex(value: Value, chars: int = SHORT) -> str:
    return value.hex()[:chars] if isinstance(value, bytes) else str(value)


def _listed(names: Sequence[str], count_max: int = 20) -> str:
    more = len(names) - count_max
    return ", ".join(names[:count_max]) + (f" and {more} more" if more > 0 else "")


_WORDS: Final[dict[str, Callable[..., str]]] = {
    "IssueCreated": lambda title, body, labels: (
        f"created {_quoted(title)}" + (f" with {_listed(labels)}" if labels else "")
    ),
    "IssueUpdated": lambda title, body: (
        " and ".join(
            filter(
                None,
                (
                    f"set the title to {_quoted(title)}" if title is not None else "",
                    "changed the body" if body is not None else "",
                ),
            )
        )
        or "changed nothing"
    ),
    "CommentAdded": lambda body: f"commented {_quoted(body)}",
    "LabelAdded": lambda label: f"added label {label}",
    "LabelRemoved": lambda label: f"removed label {label}",
    "StateChanged": lambda state: "closed it" if state == "closed" else "opened it",
    "LinkAdded": lambda url, note: f"linked {url}",
    "AssigneeAdded": lambda user: f"assigned {user}",
    "AssigneeRemoved": lambda user: f"unassigned {user}",
    "AttachmentAdded": lambda name, sha256, mime: f"attached {name}",
    "DependencyAdded": lambda target, dep_type: f"added {dep_type} {_hex(target)}",
    "DependencyRemoved": lambda target, dep_type: f"removed {dep_type} {_hex(target)}",
    "ContextUpdated": lambda path, *_: f"described {path}",
    "ProjectContextUpdated": lambda key, *_: f"set context {key}",
    "ActorAnnounced": lambda label, name, email, public_key: f"announced {label or name}",
    "FieldSet": lambda key, value: (
        f"cleared {key}" if value is None else f"set {key} to {_quoted(value)}"
    ),
    "CommentEdited": lambda comment, body: f"edited a comment to {_quoted(body)}",
    "CommentRedacted": lambda comment, reason: "redacted a comment",
    "IssueDeleted": lambda reason: "deleted it",
    "IssueRestored": lambda reason: "restored it",
    "TimeOverruled": lambda events: f"overruled the time of {_listed(tuple(map(_hex, events)), 3)}",
}


_TITLES_KEPT: Final = 1_000


def words_of(event: Event) -> str:
    """Return what the event did, in words; not yet made safe for a terminal."""
    kind = KINDS.get(event.tag)
    if kind is None:
        return f"did something that this version does not know (kind {event.tag})"
    return _WORDS[kind.name](*event.payload)


def history_rows(
    reader: ViewReader, history: Iterable[tuple[Event, str | None]]
) -> Iterator[HistoryRow]:
    """Yield the rows of one issue's history; what does not count says so."""
    for event, status, held, counted in judged(reader, history):
        text = words_of(event) if held is None else f"(held back) {words_of(event)}"
        if counted is not None and counted != event.ts_unix_ms:
            text = f"(counts as of {absolute_time(counted)}) {text}"
        yield HistoryRow(
            event.event_id.hex()[:SHORT],
            event.ts_unix_ms,
            name_of(reader, event.actor_id),
            text,
            status,
        )


def activity_rows(reader: ViewReader, events: Iterable[Event]) -> Iterator[HistoryRow]:
    """Yield the rows of the log of all issues; signatures are not checked here."""
    known: dict[IssueId, tuple[str, int, str]] = {}
    for event in events:
        if event.issue_id not in known:
            # A summary can be large, and the next event is often of the same issue.
            if len(known) >= _TITLES_KEPT:
                known.clear()
            row = reader.summary(event.issue_id)
            unique = reader.unique_chars(event.issue_id)
            known[event.issue_id] = short(reader, event.issue_id), unique, row.title if row else ""
        yield HistoryRow(
            event.event_id.hex()[:SHORT],
            event.ts_unix_ms,
            name_of(reader, event.actor_id),
            words_of(event),
            "",
            *known[event.issue_id],
        )
