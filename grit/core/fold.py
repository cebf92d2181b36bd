"""The fold: a set of events in their order becomes an issue (spec/projection.md)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import merge
from typing import Final, cast

from grit.core import events as kinds
from grit.core.events import Event
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Attachment, Comment, Dependency, Issue, Link, Order, Summary
from grit.core.limits import OVERRULED_MAX, OVERRULED_WRITE_MAX
from grit.core.long_text import Text


class _Folding:
    """The registers and sets while events are applied, in order."""

    __slots__ = (
        "assignees", "attachments", "author", "body", "comment_count", "comments", "count",
        "created_ts", "deleted", "dependencies", "edits", "fields", "issue_id", "labels",
        "last", "links", "overruled", "redactions", "settled_ts", "state", "title",
    )  # fmt: skip

    def __init__(self) -> None:
        self.issue_id: IssueId | None = None
        """None until the creation was applied."""
        self.title = ""
        self.body: Text = ""
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
        self.settled_ts: int | None = None
        self.overruled: dict[EventId, int] = {}
        """By event: the earliest time of a TimeOverruled that names it."""

    def apply(self, events: Iterable[Event]) -> None:
        event: Event | None = None
        for event in events:
            rule = _RULES.get(event.tag)
            if rule is not None:
                rule(self, event)
            self.count += 1
        if event is not None:
            self.last = event.order

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
            self.settled_ts,
        )


def overruled_times(events: Iterable[Event]) -> dict[EventId, int]:
    """Return, by event that a TimeOverruled names, the earliest time of those that do."""
    times: dict[EventId, int] = {}
    for event in events:
        if event.tag == kinds.TIME_OVERRULED:
            _note_overruled(times, event)
    return times


def counted_ts(event: Event, times: Mapping[EventId, int]) -> int:
    """Return the time at which an event counts, by the issue's `overruled_times`."""
    return min(event.ts_unix_ms, times.get(event.event_id, event.ts_unix_ms))


def split_ahead(
    events: Sequence[Event], latest_ms: int
) -> tuple[int | None, list[tuple[EventId, ...]]]:
    """Return the latest time up to `latest_ms`, and what counts after it as TimeOverruled names it.

    Each tuple is for one event, the later ones for later ones: so all keep their order.
    """
    times = overruled_times(events)
    place = _place(times)
    near = [ts for ts in (place(event)[0] for event in events) if ts <= latest_ms]
    ahead = sorted((event for event in events if place(event)[0] > latest_ms), key=place)
    runs: list[list[EventId]] = []
    last: Order | None = None
    for event in ahead[:OVERRULED_WRITE_MAX]:
        # Among those that one event names, the times that they bear decide.
        if last is None or event.order < last or len(runs[-1]) == OVERRULED_MAX:
            runs.append([])
        runs[-1].append(event.event_id)
        last = event.order
    return max(near, default=None), [tuple(sorted(run)) for run in runs]


def _place(times: Mapping[EventId, int]) -> Callable[[Event], tuple[int, Order]]:
    """Return the order by the times that count; without any overruled it is the order itself."""
    return lambda event: (counted_ts(event, times), event.order)


def _note_overruled(times: dict[EventId, int], event: Event) -> None:
    ts_unix_ms = event.ts_unix_ms
    for event_id in cast(tuple[EventId, ...], event.payload[0]):
        times[event_id] = min(times.get(event_id, ts_unix_ms), ts_unix_ms)


def _folded(events: Iterable[Event]) -> _Folding:
    """Fold events in their order; a second time by the times that count where some differ."""
    folding = _Folding()
    folding.apply(events)
    times = folding.overruled
    if not times:
        return folding
    again = _Folding()
    again.overruled = times
    place = _place(times)
    moved = sorted((one for one in events if place(one)[0] < one.ts_unix_ms), key=place)
    staying = (one for one in events if place(one)[0] == one.ts_unix_ms)
    again.apply(merge(staying, moved, key=place))
    # Lists keep the order of the times that events bear: nobody moves what another has said.
    for events_listed in (again.comments, again.links, again.attachments):
        events_listed.sort(key=lambda event: event.order)
    assert again.last is not None
    ts_unix_ms, _, event_id = again.last
    again.settled_ts = min(ts_unix_ms, times.get(event_id, ts_unix_ms))
    again.last = folding.last
    return again


def summarise(events: Iterable[Event]) -> Summary | None:
    """Return the summary of one issue's events in their order; None without a creation.

    `events` may be gone through more than once.
    """
    return _folded(events).summary()


def follows(summary: Summary, events: Sequence[Event]) -> bool:
    """Return whether `advance` gives what `summarise` would: events in order, all of them later.

    No time may be overruled, neither before nor by them.
    """
    if summary.settled_ts is not None:
        return False
    if events and events[0].order <= summary.last:
        return False
    return all(event.tag != kinds.TIME_OVERRULED for event in events)


def advance(summary: Summary, events: Iterable[Event]) -> Summary:
    """Return the summary after events of that issue that follow it, as `follows` tells.

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
    """Return the whole issue of one issue's events in their order; None without a creation.

    `events` may be gone through more than once.
    """
    folding = _folded(events)
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
        "" if redaction else cast(Text, (edit or event).payload[-1]),
        edit.ts_unix_ms if edit else None,
        _str(redaction.payload[1]) if redaction else None,
    )


def _str(value: kinds.Value) -> str:
    return cast(str, value)


def _created(folding: _Folding, event: Event) -> None:
    if folding.issue_id is not None:
        return
    title, body, labels = cast(tuple[str, Text, tuple[str, ...]], event.payload)
    folding.issue_id = event.issue_id
    folding.author = event.actor_id
    folding.created_ts = counted_ts(event, folding.overruled)
    folding.title = title
    folding.body = body
    folding.labels.update(labels)


def _updated(folding: _Folding, event: Event) -> None:
    title, body = cast(tuple[str | None, Text | None], event.payload)
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


def _time_overruled(folding: _Folding, event: Event) -> None:
    _note_overruled(folding.overruled, event)


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
    kinds.TIME_OVERRULED: _time_overruled,
}
"""Kinds that are not here (contexts, announcements, unknown ones) do not change an issue."""
