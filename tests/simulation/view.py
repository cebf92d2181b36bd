"""A view in memory with the answers that the rules ask for (`grit.view.reader`), and its bytes."""

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import cast

from grit.core import codec
from grit.core.dependencies import edges_of, is_blocked, topological_order
from grit.core.events import ACTOR_ANNOUNCED, Event
from grit.core.fold import advance, fold, follows, summarise
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Summary
from grit.core.signing import signature_status
from grit.view.rows import Person


class View:
    """Events folded as they arrive, and the head that they stand for."""

    def __init__(self) -> None:
        self.head: str | None = None
        self.events: dict[EventId, Event] = {}
        self.histories: dict[IssueId, list[Event]] = {}
        self.rows: dict[IssueId, Summary] = {}
        self.people: dict[ActorId, Person] = {}

    def apply(self, events: Iterable[Event], head: str | None) -> None:
        """Add events in any order, known or not, and move the head."""
        news: dict[IssueId, list[Event]] = {}
        for event in events:
            if event.event_id not in self.events:
                self.events[event.event_id] = event
                news.setdefault(event.issue_id, []).append(event)
                self._note(event)
        for issue_id, added in news.items():
            added.sort(key=lambda event: event.order)
            history = self.histories.setdefault(issue_id, [])
            for event in added:
                insort(history, event, key=lambda one: one.order)
            known = fold_in(self.rows.get(issue_id), history, added)
            if known is not None:
                self.rows[issue_id] = known
        self.head = head

    def _note(self, event: Event) -> None:
        """Keep the actor's last event and best announcement."""
        who, ts, event_id = event.actor_id, event.ts_unix_ms, event.event_id
        known = self.people.get(who) or Person(
            who, event_id, ts, None, None, "", "", "", None, False
        )
        if (ts, event_id) > (known.last_ts, known.last_event_id):
            known = known._replace(last_event_id=event_id, last_ts=ts)
        if event.tag == ACTOR_ANNOUNCED and bytes(event.issue_id) == who:
            label, name, email, key = cast(tuple[str, str, str, bytes | None], event.payload)
            certified = signature_status(event, key) == "valid"
            rank = (certified, ts, event_id)
            if rank > (known.certified, known.announced_ts or 0, known.announced_id or b""):
                known = Person(
                    who, known.last_event_id, known.last_ts, ts, event_id, label, name, email, key,
                    certified,
                )  # fmt: skip
        self.people[who] = known

    # What a transaction asks of a reader.

    def all_events(self) -> Iterator[Event]:
        return iter(sorted(self.events.values(), key=lambda event: event.order))

    def actor(self, actor_id: ActorId) -> Person | None:
        return self.people.get(actor_id)

    def summary(self, issue_id: IssueId) -> Summary | None:
        return self.rows.get(issue_id)

    def events_of(self, issue_id: IssueId) -> list[Event]:
        return list(self.histories.get(issue_id, ()))

    def all_rows(self) -> Iterator[Summary]:
        return (self.rows[issue_id] for issue_id in sorted(self.rows))

    def dependents(self, issue_id: IssueId) -> list[tuple[IssueId, str]]:
        return sorted(
            (row.issue_id, dep_type)
            for row in self.rows.values()
            for target, dep_type in row.dependencies
            if target == issue_id
        )

    def resolve(self, prefix: str) -> list[IssueId]:
        return [issue_id for issue_id in sorted(self.rows) if issue_id.hex().startswith(prefix)]


def fold_in(row: Summary | None, history: list[Event], added: list[Event]) -> Summary | None:
    """Return an issue's summary with events that are in its history already."""
    if row is not None and follows(row, added):
        return advance(row, added)
    return summarise(history)


def state_bytes(view: View) -> bytes:
    """Return what the view says, canonically encoded: issues, people, who waits, cycles, order.

    Two views that say the same give the same bytes.
    """
    return b"".join(state_parts(view))


def state_parts(view: View) -> Iterator[bytes]:
    """Yield the parts of `state_bytes`, for a state too large for one piece."""
    edges = list(edges_of((row.issue_id, row.dependencies) for row in view.rows.values()))
    before: dict[IssueId, set[IssueId]] = {}
    for edge in edges:
        before.setdefault(edge.after, set()).add(edge.before)

    def is_open(issue_id: IssueId) -> bool:
        row = view.rows.get(issue_id)
        return row is not None and row.state == "open" and not row.deleted

    for issue_id in sorted(view.histories):
        # The row was brought up to date event by event, the issue is folded from the beginning.
        issue = fold(view.histories[issue_id])
        row = view.rows.get(issue_id)
        assert (row is None) == (issue is None), issue_id.hex()
        waits = is_open(issue_id) and is_blocked(issue_id, lambda one: before.get(one, ()), is_open)
        yield codec.pack(_plain((issue_id, row, issue, is_open(issue_id), waits)))
    yield codec.pack(_plain([view.people[actor_id] for actor_id in sorted(view.people)]))
    order = topological_order({i: row.created_ts for i, row in view.rows.items()}, edges)
    yield codec.pack(_plain(order))
    yield from sorted(view.events)


def _plain(value: object) -> object:
    """Return named tuples and lists as tuples, all the way down."""
    if isinstance(value, tuple | list):
        return tuple(_plain(one) for one in value)
    return value
