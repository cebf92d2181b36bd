"""Writing the view: events in, rows out, with the head in the same transaction (spec/view.md).

One path serves an own append, catching up and a rebuild.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple
from zlib import crc32

from grit.core.codec import Problem, pack
from grit.core.events import (
    ACTOR_ANNOUNCED,
    COMMENT_ADDED,
    COMMENT_EDITED,
    COMMENT_REDACTED,
    ISSUE_CREATED,
    ISSUE_UPDATED,
    KINDS,
    Event,
)
from grit.core.fold import advance, summarise
from grit.core.ids import ActorId
from grit.view import keys
from grit.view.database import Database, Txn
from grit.view.indexing import Change, Changes, project
from grit.view.rows import (
    Meta,
    Person,
    encode_person,
    get_event,
    get_meta,
    get_person,
    get_row,
    issue_events,
    put_meta,
    scan,
    seal,
)

BATCH_EVENTS: Final = 100_000
"""What a caller should apply at once at most: bounds the memory of a transaction."""
_BULK_EVENTS: Final = 1_000
JOURNAL_ENTRIES_MAX: Final = 2_048
_ROW_BYTES: Final = 700
"""What an event adds to the file beside its record, generously."""
_TEXT_TAGS: Final = frozenset(
    (ISSUE_CREATED, ISSUE_UPDATED, COMMENT_ADDED, COMMENT_EDITED, COMMENT_REDACTED)
)

Records = Sequence[tuple[Event, bytes]]
"""Events, each with its stored record."""
Journal = tuple[str, tuple[tuple[str, bytes], ...]]
"""Commit id of an own append, and its objects as (kind, content)."""
Validator = Callable[[Event], bool]


class Applied(NamedTuple):
    """What an apply changed."""

    event_count: int
    """Events that the view did not know."""


@contextmanager
def writing(database: Database, valid: Validator | None = None) -> Iterator["Writer"]:
    """Give a Writer over a trusted view.

    Raises Busy when another process writes for too long, ViewDoubt when a rebuild must come first.
    """
    with database.exclusive():
        yield Writer(database, valid)


@contextmanager
def rebuilding(
    database: Database, valid: Validator | None = None, *, force: bool = False
) -> Iterator["Writer"]:
    """Give a Writer over an empty view that takes the place of the old one at the end.

    Without `force`, where another process has just rebuilt it, the Writer continues that one:
    read the log from `writer.head()` on in either case.
    Raises Busy, IoFailed and OSError (the folder cannot be written: use `Database.temporary`).
    """
    with database.replacing(force=force):
        yield Writer(database, valid)


class Writer:
    """Applies events; holds the writers' lock as long as its context is open."""

    __slots__ = ("_database", "_valid")

    def __init__(self, database: Database, valid: Validator | None = None) -> None:
        self._database = database
        self._valid = valid

    def head(self) -> str | None:
        """Return the head that the rows stand for; None in an empty view."""
        with self._database.reading() as txn:
            return get_meta(txn).head

    def apply(
        self,
        records: Records,
        head: str | None,
        problems: Sequence[tuple[str, Problem]] = (),
        journal: Journal | None = None,
    ) -> Applied:
        """Add events, in any order, known or not, and move the head, in one transaction.

        `problems` pairs a blob's id with what was set aside in it. Of two copies of one event the
        signed one stays, and among signed ones the valid one.
        Raises IoFailed when the disk is full, ViewDoubt when the view is damaged.
        """

        def work(txn: Txn) -> Applied:
            return _apply(txn, records, head, problems, journal, self._valid)

        need_bytes = sum([len(record) for _, record in records]) + _ROW_BYTES * len(records)
        # A collection in the middle of a bulk walks everything that was decoded: a third of it.
        pause = len(records) > _BULK_EVENTS and gc.isenabled()
        if pause:
            gc.disable()
        try:
            return self._database.write(work, need_bytes=need_bytes + 2**20)
        finally:
            if pause:
                gc.enable()


def _apply(
    txn: Txn,
    records: Records,
    head: str | None,
    problems: Sequence[tuple[str, Problem]],
    journal: Journal | None,
    valid: Validator | None,
) -> Applied:
    meta = get_meta(txn)
    events = _store(txn, records, meta.next_seq, valid)
    changes: Changes = {}
    stale: list[tuple[bytes, bytes]] = []
    for issue_id, group in groupby(events, key=attrgetter("issue_id")):
        news = list(group)
        change = _fold(txn, news, empty=meta.next_seq == 0)
        if change is not None:
            changes[issue_id] = change
            if not _TEXT_TAGS.isdisjoint([event.tag for event in news]):
                stale.append((keys.STALE + issue_id, b""))
    project(txn, changes)
    txn.cursor().putmulti(stale)
    _note_actors(txn, events)
    for blob, (position, reason, event_id) in problems:
        place = b"\xff\xff\xff\xff" if position is None else position.to_bytes(4, "big")
        txn.put(keys.ASIDE + blob.encode() + place, pack((blob, position, reason, event_id)))
    meta = meta._replace(
        head=head,
        next_seq=meta.next_seq + len(events),
        unknown_count=meta.unknown_count + sum([event.tag not in KINDS for event in events]),
    )
    if journal is not None:
        meta = _keep_journal(txn, meta, journal)
    put_meta(txn, meta)
    return Applied(len(events))


def _store(txn: Txn, records: Records, seq: int, valid: Validator | None) -> list[Event]:
    """Store the events that are new; return them by issue and in their order."""
    # Spelled out, since it runs for every event of a log: keys.event_order.
    table = keys.ORDER
    rows = [
        (table + pair[0][1] + pair[0][3].to_bytes(8, "big") + pair[0][2] + pair[0][0], *pair)
        for pair in records
    ]
    rows.sort(key=itemgetter(0))
    cursor = txn.cursor()
    empty = seq == 0
    events: list[Event] = []
    orders: list[tuple[bytes, bytes]] = []
    values: list[tuple[bytes, bytes]] = []
    issue = last = previous = b""
    event_table = keys.EVENT
    for key, event, record in rows:
        if key == previous:
            if events and events[-1].event_id == event.event_id:
                if _better(event, events[-1], valid):
                    events[-1] = event
                    values[-1] = (values[-1][0], seal(record))
            else:
                _improve(txn, key, event, record, valid)
            continue
        previous = key
        if not empty:
            if event.issue_id != issue:
                issue = event.issue_id
                last = _last_key(txn, keys.ORDER + issue)
            if key <= last and cursor.set_key(key):
                _improve(txn, key, event, record, valid)
                continue
        place = seq.to_bytes(8, "big")
        seq += 1
        events.append(event)
        orders.append((key, place))
        # Spelled out: rows.seal.
        values.append((event_table + place, crc32(record).to_bytes(4, "big") + record))
    cursor.putmulti(orders)
    txn.cursor().putmulti(values, append=True)
    return events


def _last_key(txn: Txn, prefix: bytes) -> bytes:
    """Return the last key that starts with `prefix`, or nothing."""
    cursor = txn.cursor()
    found = cursor.set_range(keys.after(prefix))
    if not (cursor.prev() if found else cursor.last()):
        return b""
    key = cursor.key()
    return key if key.startswith(prefix) else b""


def _improve(txn: Txn, key: bytes, event: Event, record: bytes, valid: Validator | None) -> None:
    """Replace the stored copy of an event when this one is better."""
    if event.sig is None:
        return
    seq = txn.get(key)
    assert seq is not None, "only stored events are improved"
    if _better(event, get_event(txn, seq), valid):
        txn.put(keys.EVENT + seq, seal(record))


def _better(event: Event, than: Event, valid: Validator | None) -> bool:
    """Return whether one copy of an event is to be kept rather than another; a strict order."""
    if event.sig == than.sig or event.sig is None:
        return False
    if than.sig is None:
        return True
    if valid is not None and valid(event) != valid(than):
        return valid(event)
    return event.sig < than.sig


def _fold(txn: Txn, news: list[Event], *, empty: bool) -> Change | None:
    """Return the change that new events of one issue make; None while its creation is missing.

    All of `news` are stored already.
    """
    issue_id = news[0].issue_id
    old = None if empty else get_row(txn, issue_id)
    if old is not None and news[0].order > old.summary.last:
        return Change(old, advance(old.summary, news))
    if old is None and all(event.tag != ISSUE_CREATED for event in news):
        return None
    alone = empty or (old is None and _count_is(txn, keys.ORDER + issue_id, len(news)))
    summary = summarise(news if alone else issue_events(txn, issue_id))
    assert summary is not None, "an issue that was created has a summary"
    return Change(old, summary)


def _count_is(txn: Txn, prefix: bytes, count: int) -> bool:
    return sum(1 for _ in islice(scan(txn, prefix), count + 1)) == count


def _note_actors(txn: Txn, events: list[Event]) -> None:
    """Keep each actor's last event and latest announcement."""
    tips: dict[ActorId, Event] = {}
    announced: dict[ActorId, Event] = {}
    for event in events:
        tip = tips.get(event.actor_id)
        if tip is None or (
            event.ts_unix_ms >= tip.ts_unix_ms and _later(event, tip.ts_unix_ms, tip.event_id)
        ):
            tips[event.actor_id] = event
        if event.tag == ACTOR_ANNOUNCED and bytes(event.issue_id) == event.actor_id:
            known = announced.get(event.actor_id)
            if known is None or _later(event, known.ts_unix_ms, known.event_id):
                announced[event.actor_id] = event
    for actor_id, tip in tips.items():
        person = get_person(txn, actor_id) or Person(
            actor_id, tip.event_id, tip.ts_unix_ms, None, None, "", "", "", None
        )
        if _later(tip, person.last_ts, person.last_event_id):
            person = person._replace(last_event_id=tip.event_id, last_ts=tip.ts_unix_ms)
        news = announced.get(actor_id)
        if news is not None and _later(news, person.announced_ts or 0, person.announced_id or b""):
            person = _announce(person, news)
        txn.put(keys.ACTOR + actor_id, encode_person(person))


def _later(event: Event, ts_unix_ms: int, event_id: bytes) -> bool:
    return (event.ts_unix_ms, event.event_id) > (ts_unix_ms, event_id)


def _announce(person: Person, event: Event) -> Person:
    label, name, email, public_key = event.payload
    assert isinstance(label, str) and isinstance(name, str) and isinstance(email, str)
    assert public_key is None or isinstance(public_key, bytes)
    return person._replace(
        announced_ts=event.ts_unix_ms,
        announced_id=event.event_id,
        label=label,
        name=name,
        email=email,
        public_key=public_key,
    )


def _keep_journal(txn: Txn, meta: Meta, journal: Journal) -> Meta:
    """Keep the raw objects of an own append, and forget the oldest beyond the bound."""
    last, first = meta.journal_next, meta.journal_first
    txn.put(keys.JOURNAL + keys.u64(last), seal(pack(journal)))
    while last + 1 - first > JOURNAL_ENTRIES_MAX:
        txn.delete(keys.JOURNAL + keys.u64(first))
        first += 1
    return meta._replace(journal_next=last + 1, journal_first=first)
