"""The fold: a set of events in their order becomes an issue (spec/projection.md)."""

from collections.abc import Callable, Iterable
from typing import Final, cast

from grit.core import events as kinds
from grit.core.events import Event
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Attachment, Comment, Dependency, Issue, Link, Order, Summary


class _Folding:
    """The registers and sets while events are applied, in order."""

    __slots__ = (
        "assignees", "attachments", "author", "body", "comment_count", "comments", "count",
        "created_ts", "deleted", "dependencies", "edits", "fields", "issue_id", "labels",
        "last", "links", "redactions", "state", "title",
    )  # fmt: skip

    def __init__(self) -> None:
        self.issue_id: IssueId | None = None
        """None until the creation was applied."""
        self.title = ""
        self.body = ""
        self.state = "open"
        self.labels: set[str] = set()
        self.assignees: set[str] = set()
        self.fields: dict[str, str] = {}
        self.author = ActorId(b"")
        self.created_ts = 0
        self.deleted = False
        self.dependencies: set[Dependency] = set()
        self.comment_count = 0
        self.comments: list[Event] = []
        self.edits: dict[EventId, Event] = {}
        self.redactions: dict[EventId, Event] = {}
        self.links: list[Event] = []
        self.attachments: list[Event] = []
        self.count = 0
        self.last: Order | None = None

    def apply(self, events: Iterable[Event]) -> None:
        last: Event | None = None
        for event in events:
            rule = _RULES.get(event.tag)
            if rule is not None:
                rule(self, event)
            self.count += 1
            last = event
        if last is not None:
            self.last = last.order

    def summary(self) -> Summary | None:
        if self.issue_id is None or self.last is None:
            return None
        return Summary(
            self.issue_id,
            self.title,
            self.state,
            tuple(sorted(self.labels)),
            tuple(sorted(self.assignees)),
            tuple(sorted(self.fields.items())),
            self.author,
            self.created_ts,
            self.comment_count,
            self.deleted,
            tuple(sorted(self.dependencies)),
            self.count,
            self.last,
        )


def summarise(events: Iterable[Event]) -> Summary | None:
    """Return the summary of one issue's events in their order; None without a creation."""
    folding = _Folding()
    folding.apply(events)
    return folding.summary()


def advance(summary: Summary, events: Iterable[Event]) -> Summary:
    """Return the summary after events of that issue that all sort after `summary.last`.

    Equal to `summarise` of all the issue's events, without reading them.
    """
    folding = _Folding()
    folding.issue_id = summary.issue_id
    folding.title = summary.title
    folding.state = summary.state
    folding.labels = set(summary.labels)
    folding.assignees = set(summary.assignees)
    folding.fields = dict(summary.fields)
    folding.author = summary.author
    folding.created_ts = summary.created_ts
    folding.comment_count = summary.comment_count
    folding.deleted = summary.deleted
    folding.dependencies = set(summary.dependencies)
    folding.count = summary.event_count
    folding.last = summary.last
    folding.apply(events)
    advanced = folding.summary()
    assert advanced is not None
    return advanced


def fold(events: Iterable[Event]) -> Issue | None:
    """Return the whole issue of one issue's events in their order; None without a creation."""
    folding = _Folding()
    folding.apply(events)
    summary = folding.summary()
    if summary is None:
        return None
    return Issue(
        summary,
        folding.body,
        tuple(_comment(folding, event) for event in folding.comments),
        tuple(
            Link(e.event_id, e.actor_id, e.ts_unix_ms, *cast(tuple[str, str | None], e.payload))
            for e in folding.links
        ),
        tuple(
            Attachment(
                e.event_id, e.actor_id, e.ts_unix_ms, *cast(tuple[str, bytes, str], e.payload)
            )
            for e in folding.attachments
        ),
    )


def _comment(folding: _Folding, event: Event) -> Comment:
    edit = folding.edits.get(event.event_id)
    redaction = folding.redactions.get(event.event_id)
    return Comment(
        event.event_id,
        event.actor_id,
        event.ts_unix_ms,
        "" if redaction else _str((edit or event).payload[-1]),
        edit.ts_unix_ms if edit else None,
        _str(redaction.payload[1]) if redaction else None,
    )


def _str(value: kinds.Value) -> str:
    return cast(str, value)


def _created(folding: _Folding, event: Event) -> None:
    if folding.issue_id is not None:
        return
    title, body, labels = cast(tuple[str, str, tuple[str, ...]], event.payload)
    folding.issue_id = event.issue_id
    folding.author = event.actor_id
    folding.created_ts = event.ts_unix_ms
    folding.title = title
    folding.body = body
    folding.labels.update(labels)


def _updated(folding: _Folding, event: Event) -> None:
    title, body = cast(tuple[str | None, str | None], event.payload)
    if title is not None:
        folding.title = title
    if body is not None:
        folding.body = body


def _commented(folding: _Folding, event: Event) -> None:
    folding.comment_count += 1
    folding.comments.append(event)


def _label_added(folding: _Folding, event: Event) -> None:
    folding.labels.add(_str(event.payload[0]))


def _label_removed(folding: _Folding, event: Event) -> None:
    folding.labels.discard(_str(event.payload[0]))


def _state_changed(folding: _Folding, event: Event) -> None:
    folding.state = _str(event.payload[0])


def _link_added(folding: _Folding, event: Event) -> None:
    folding.links.append(event)


def _assignee_added(folding: _Folding, event: Event) -> None:
    folding.assignees.add(_str(event.payload[0]))


def _assignee_removed(folding: _Folding, event: Event) -> None:
    folding.assignees.discard(_str(event.payload[0]))


def _attachment_added(folding: _Folding, event: Event) -> None:
    folding.attachments.append(event)


def _dependency_added(folding: _Folding, event: Event) -> None:
    folding.dependencies.add(Dependency(*cast(tuple[IssueId, str], event.payload)))


def _dependency_removed(folding: _Folding, event: Event) -> None:
    folding.dependencies.discard(Dependency(*cast(tuple[IssueId, str], event.payload)))


def _field_set(folding: _Folding, event: Event) -> None:
    key, value = cast(tuple[str, str | None], event.payload)
    if value is None:
        folding.fields.pop(key, None)
    else:
        folding.fields[key] = value


def _comment_edited(folding: _Folding, event: Event) -> None:
    folding.edits[EventId(cast(bytes, event.payload[0]))] = event


def _comment_redacted(folding: _Folding, event: Event) -> None:
    folding.redactions[EventId(cast(bytes, event.payload[0]))] = event


def _issue_deleted(folding: _Folding, _event: Event) -> None:
    folding.deleted = True


def _issue_restored(folding: _Folding, _event: Event) -> None:
    folding.deleted = False


_RULES: Final[dict[int, Callable[[_Folding, Event], None]]] = {
    kinds.ISSUE_CREATED: _created,
    kinds.ISSUE_UPDATED: _updated,
    kinds.COMMENT_ADDED: _commented,
    kinds.LABEL_ADDED: _label_added,
    kinds.LABEL_REMOVED: _label_removed,
    kinds.STATE_CHANGED: _state_changed,
    kinds.LINK_ADDED: _link_added,
    kinds.ASSIGNEE_ADDED: _assignee_added,
    kinds.ASSIGNEE_REMOVED: _assignee_removed,
    kinds.ATTACHMENT_ADDED: _attachment_added,
    kinds.DEPENDENCY_ADDED: _dependency_added,
    kinds.DEPENDENCY_REMOVED: _dependency_removed,
    kinds.FIELD_SET: _field_set,
    kinds.COMMENT_EDITED: _comment_edited,
    kinds.COMMENT_REDACTED: _comment_redacted,
    kinds.ISSUE_DELETED: _issue_deleted,
    kinds.ISSUE_RESTORED: _issue_restored,
}
"""Kinds that are not here (contexts, announcements, unknown ones) do not change an issue."""
