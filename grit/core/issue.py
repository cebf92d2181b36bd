"""What a fold yields: an issue's summary row, and the whole issue (spec/projection.md)."""

from typing import Literal, NamedTuple

from grit.core.ids import ActorId, EventId, IssueId
from grit.core.long_text import Text

DependencyType = Literal["blocks", "depends_on", "related_to"]
Order = tuple[int, ActorId, EventId]
"""(ts_unix_ms, actor_id, event_id): the total order of an issue's events."""


class Dependency(NamedTuple):
    """An edge as its own issue states it; `related_to` orders nothing."""

    target: IssueId
    dep_type: str


class Summary(NamedTuple):
    """What a list shows and an index needs; small however long the issue's history is."""

    issue_id: IssueId
    title: str
    state: str
    labels: tuple[str, ...]
    assignees: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    author: ActorId
    created_ts: int
    comment_count: int
    deleted: bool
    dependencies: tuple[Dependency, ...]
    event_count: int
    last: Order
    """The last event in the order, by the times that the events bear."""
    settled_ts: int | None = None
    """When it was updated by the times that count; None where no TimeOverruled says otherwise."""

    @property
    def updated_ts(self) -> int:
        """Time of the last event, unix milliseconds, as it counts."""
        return self.last[0] if self.settled_ts is None else self.settled_ts

    def field(self, key: str) -> str | None:
        """Return the field's value, or None when it is not set."""
        for name, value in self.fields:
            if name == key:
                return value
        return None


class Comment(NamedTuple):
    """A comment; a redacted one has an empty body and the reason."""

    event_id: EventId
    actor: ActorId
    ts_unix_ms: int
    body: Text
    edited_ts: int | None
    redacted: str | None


class Link(NamedTuple):
    """A URL with an optional note."""

    event_id: EventId
    actor: ActorId
    ts_unix_ms: int
    url: str
    note: str | None


class Attachment(NamedTuple):
    """A file whose contents the log keeps under its SHA-256."""

    event_id: EventId
    actor: ActorId
    ts_unix_ms: int
    name: str
    sha256: bytes
    mime: str


class Issue(NamedTuple):
    """A whole issue: its summary and everything that grows with its history."""

    summary: Summary
    body: Text
    comments: tuple[Comment, ...]
    links: tuple[Link, ...]
    attachments: tuple[Attachment, ...]
