"""Reading the view: plain values out, one short transaction a question (spec/view.md)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from grit.core.events import Event
from grit.core.fold import fold
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Issue, Summary
from grit.core.progress import SILENT, ProgressReporter
from grit.core.query import Query
from grit.view import keys
from grit.view.database import Database, Txn
from grit.view.pages import select, summaries
from grit.view.rows import (
    Aside,
    IssueEvents,
    Meta,
    Person,
    decode_person,
    get_count,
    get_event,
    get_meta,
    get_person,
    get_row,
    scan,
)

if TYPE_CHECKING:
    from grit.view.streams import Frozen, JournalEntry

_STREAM_ROWS: Final = 500
"""Rows of one transaction where many are given out."""


class Page(NamedTuple):
    """Rows in the order asked for, to be read once, and how many match in all."""

    rows: Iterable[Summary]
    total: int


class Place(NamedTuple):
    """The head that the rows stand for, and the remote heads that were compared with it."""

    head: str | None = None
    event_count: int = 0
    joined: frozenset[str] = frozenset()
    packed: str = ""
    """Stamp of packed-refs at that time."""
    policy: bytes = b""
    """What the rows were folded under (`standing.Stamp`)."""
    settings: bytes = b""


class Stats(NamedTuple):
    """What the view holds."""

    head: str | None
    event_count: int
    issue_count: int
    """Issues whose creation has arrived, deleted ones included."""
    open_count: int
    closed_count: int
    deleted_count: int
    actor_count: int
    unknown_count: int
    """Events of kinds that this version does not know."""
    aside_count: int
    """Records and chunks that were set aside, in at most ASIDES_MAX chunks."""
    aside_more: bool
    """There are more such chunks."""
    held_count: int
    """Events that the policy for signatures holds back."""
    stale_count: int
    """Issues whose words are not indexed yet."""


class ViewReader:
    """Answers questions; every method raises ViewDoubt when the view must be rebuilt first."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self) -> str | None:
        """Return the head that the rows stand for; None for an empty log."""
        return self.meta().head

    def meta(self) -> Meta:
        """Return the head that the rows stand for, and what they were folded under."""
        with self._database.reading() as txn:
            return get_meta(txn)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let all that this thread asks meanwhile be of one moment, in one transaction.

        Gather within it, and print after it: nobody may be waited for meanwhile.
        """
        with self._database.reading():
            yield

    def place(self) -> Place:
        """Return the head, and which remote heads were compared with it."""
        with self._database.reading() as txn:
            meta = get_meta(txn)
            joined = frozenset(meta.joined.split())
            return Place(meta.head, meta.next_seq, joined, meta.packed, meta.policy, meta.settings)

    def stats(self) -> Stats:
        """Return totals."""
        with self._database.reading() as txn:
            meta = get_meta(txn)
            states = [
                get_count(txn, keys.index_prefix(keys.ALL, b"", state)) for state in keys.STATES
            ]
            return Stats(
                meta.head,
                meta.next_seq,
                sum(states),
                states[keys.OPEN],
                states[keys.CLOSED],
                states[keys.DELETED_OPEN] + states[keys.DELETED_CLOSED],
                _rows_of(txn, keys.ACTOR),
                meta.unknown_count,
                *_aside_totals(txn),
                _rows_of(txn, keys.HELD),
                _rows_of(txn, keys.STALE),
            )

    def summary(self, issue_id: IssueId) -> Summary | None:
        """Return an issue's summary, or None when its creation has not arrived."""
        with self._database.reading() as txn:
            row = get_row(txn, issue_id)
            return None if row is None else row.summary

    def summaries(self, issue_ids: Iterable[IssueId]) -> list[Summary]:
        """Return the summaries of the issues that are known, in the order given."""
        with self._database.reading() as txn:
            return summaries(txn, issue_ids)

    def is_blocked(self, issue_id: IssueId) -> bool:
        """Return whether the issue is open and something open must come before it."""
        with self._database.reading() as txn:
            row = get_row(txn, issue_id)
            return row is not None and row.blocked

    def issue(self, issue_id: IssueId) -> Issue | None:
        """Return the whole issue, or None when its creation has not arrived."""
        return fold(self.events_of(issue_id))

    def events_of(self, issue_id: IssueId) -> list[Event]:
        """Return the events of an issue in their order, also while its creation is missing."""
        with self._database.reading() as txn:
            return list(IssueEvents(txn, issue_id))

    def history_of(self, issue_id: IssueId) -> list[tuple[Event, str | None]]:
        """Return all events of an issue in their order, each with why it does not count, or None.

        `events_of` has only those that count (spec/trust.md).
        """
        from grit.view.standing import held_events

        with self._database.reading() as txn:
            counted = [(event, None) for event in IssueEvents(txn, issue_id)]
            held = [(event, reason) for _, event, reason in held_events(txn, issue_id)]
        return sorted([*counted, *held], key=lambda one: one[0].order) if held else [*counted]

    def held(self) -> Iterator[tuple[Event, str]]:
        """Yield every event that does not count, and why."""
        from grit.view import streams

        return streams.held(self._database)

    def reason_held(self, event: Event) -> str | None:
        """Return why an event does not count; None when it does, or is not there."""
        with self._database.reading() as txn:
            value = txn.get(keys.HELD + keys.event_order(event)[1:])
        return None if value is None else value[8:].decode()

    def has_unknown_key(self, actor_id: ActorId) -> bool:
        """Return whether something signed by the actor still waits for its key."""
        from grit.view.standing import has_unknown_key

        with self._database.reading() as txn:
            return has_unknown_key(txn, actor_id)

    def wrong_signatures(self) -> list[EventId]:
        """Return the events whose best copy has a wrong signature, as far as they were checked."""
        from grit.view.standing import wrong_signatures

        with self._database.reading() as txn:
            return wrong_signatures(txn)

    def has_event(self, event: Event) -> bool:
        """Return whether the view holds the event, whether or not it counts."""
        key = keys.event_order(event)
        with self._database.reading() as txn:
            return txn.get(key) is not None or txn.get(keys.HELD + key[1:]) is not None

    def stored(self, event: Event) -> Event | None:
        """Return the copy of the event that the view holds, or None when it holds none."""
        with self._database.reading() as txn:
            key = keys.event_order(event)
            seq = txn.get(key) or txn.get(keys.HELD + key[1:])
            return None if seq is None else get_event(txn, seq[:8])

    def event_at(self, key: bytes) -> Event | None:
        """Return the event with that ORDER key, whether or not it counts; None without one."""
        with self._database.reading() as txn:
            seq = txn.get(key) or txn.get(keys.HELD + key[1:])
            return None if seq is None else get_event(txn, seq[: keys.SEQ_BYTES])

    def standing(self, places: Sequence[bytes]) -> tuple[int, list[bool]]:
        """Return how many events the view holds, and whether it holds those at the places.

        A place: issue, time (u64 big-endian), actor, event id; all is of one moment.
        """
        with self._database.reading() as txn:
            held = [
                txn.get(keys.ORDER + place) is not None or txn.get(keys.HELD + place) is not None
                for place in places
            ]
            return get_meta(txn).next_seq, held

    def resolve(self, prefix: str) -> list[IssueId]:
        """Return the issues whose ids start with the hex digits, in the order of their ids."""
        first, last = keys.prefix_bounds(keys.ISSUE, prefix)
        found: list[IssueId] = []
        with self._database.reading() as txn:
            for key, _ in scan(txn, keys.ISSUE, first):
                if key > last:
                    break
                found.append(IssueId(key[1:]))
        return found

    def unique_chars(self, issue_id: IssueId) -> int:
        """Return how many hex digits tell this issue from all others of the view."""
        return self.unique_chars_of([issue_id])[0]

    def unique_chars_of(self, issue_ids: Iterable[IssueId]) -> list[int]:
        """Return for each issue how many hex digits tell it from all others of the view."""
        with self._database.reading() as txn:
            return [_unique_chars(txn, issue_id) for issue_id in issue_ids]

    def dependents(self, issue_id: IssueId) -> list[tuple[IssueId, str]]:
        """Return source and type of the edges that other issues state towards this one."""
        from grit.view.indexing import dependents

        with self._database.reading() as txn:
            return list(dependents(txn, issue_id))

    def blockers_of(self, issue_id: IssueId) -> list[IssueId]:
        """Return the open issues that must come before this one."""
        from grit.view.indexing import blockers

        with self._database.reading() as txn:
            row = get_row(txn, issue_id)
            return [] if row is None else [one.issue_id for one in blockers(txn, row.summary)]

    def actor(self, actor_id: ActorId) -> Person | None:
        """Return what is known of an actor, or None when it wrote nothing."""
        with self._database.reading() as txn:
            return get_person(txn, actor_id)

    def actors(self) -> list[Person]:
        """Return everybody who wrote something, by id."""
        with self._database.reading() as txn:
            return [decode_person(key[1:], value) for key, value in scan(txn, keys.ACTOR)]

    def terms(self, tag: bytes) -> list[tuple[str, int]]:
        """Return label or assignee names (`keys.LABEL`, `keys.ASSIGNEE`) with their issue counts.

        Deleted issues do not count; names too long for a key are left out.
        """
        found: dict[str, int] = {}
        with self._database.reading() as txn:
            for key, value in scan(txn, keys.COUNT + tag):
                if key[-1] in (keys.OPEN, keys.CLOSED) and b"\xff" not in key:
                    name = key[2:-2].decode()
                    found[name] = found.get(name, 0) + keys.number(value)
        return list(found.items())

    def asides(self) -> list[Aside]:
        """Return the chunks of which something was set aside, ASIDES_MAX at most."""
        from grit.view import asides

        with self._database.reading() as txn:
            return asides.listed(txn)

    def page(
        self,
        query: Query,
        *,
        limit: int | None,
        offset: int = 0,
        progress: ProgressReporter = SILENT,
    ) -> Page:
        """Return the issues that match, in the order of the query (default: last updated first).

        Without `limit`, rows are read in portions while they are taken. Author terms must have
        been resolved. `progress` hears of words that have to be indexed before.
        """
        if any(term.kind in ("text", "phrase") for term in query.terms):
            from grit.view.search import file_words

            file_words(self._database, progress)
        with self._database.reading() as txn:
            ids, total = select(txn, query, limit, offset)
            if len(ids) <= _STREAM_ROWS:
                return Page(summaries(txn, ids), total)
        return Page(self._rows(ids), total)

    def _rows(self, ids: list[IssueId]) -> Iterator[Summary]:
        for start in range(0, len(ids), _STREAM_ROWS):
            yield from self.summaries(ids[start : start + _STREAM_ROWS])

    def all_rows(self) -> Iterator[Summary]:
        """Yield every issue's summary by id, deleted ones included."""
        from grit.view import streams

        return streams.all_rows(self._database)

    def latest_events(self) -> Iterator[Event]:
        """Yield the events of all issues, newest first."""
        from grit.view import streams

        return streams.latest_events(self._database)

    def all_events(self) -> Iterator[Event]:
        """Yield every event by (ts_unix_ms, actor_id, event_id)."""
        from grit.view import streams

        return streams.all_events(self._database)

    @contextmanager
    def frozen(self) -> "Iterator[Frozen]":
        """Give head, records and what was set aside as of one moment.

        A read transaction is open meanwhile: take all of it without waiting for anybody.
        """
        from grit.view import streams

        with self._database.reading() as txn:
            yield streams.frozen(txn)

    def journal(self) -> "Iterator[JournalEntry]":
        """Yield the raw objects of this clone's last appends, the newest first."""
        from grit.view import streams

        return streams.journal(self._database)


def _aside_totals(txn: Txn) -> tuple[int, bool]:
    if next(scan(txn, keys.ASIDE), None) is None:
        return 0, False
    from grit.view import asides

    return sum(aside.record_count for aside in asides.listed(txn)), asides.has_more(txn)


def _rows_of(txn: Txn, table: bytes) -> int:
    return sum(1 for _ in scan(txn, table))


def _unique_chars(txn: Txn, issue_id: IssueId) -> int:
    key = keys.ISSUE + issue_id
    cursor = txn.cursor()
    found = cursor.set_range(key)
    around = []
    if found and (cursor.key() != key or cursor.next()):
        around.append(cursor.key())
    cursor = txn.cursor()
    if cursor.prev() if cursor.set_range(key) else cursor.last():
        around.append(cursor.key())
    digits = issue_id.hex()
    others = (other[1:].hex() for other in around if other.startswith(keys.ISSUE))
    return max((_shared(digits, other) + 1 for other in others), default=1)


def _shared(left: str, right: str) -> int:
    """Return how many characters two strings of one length share at the start."""
    for at, (one, other) in enumerate(zip(left, right, strict=True)):
        if one != other:
            return at
    return len(left)
