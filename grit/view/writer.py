"""Writing the view: events in, rows out, with the head in the same transaction (spec/view.md).

One path serves an own append, catching up and a rebuild.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from struct import Struct
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
    TIME_OVERRULED,
    Event,
)
from grit.core.fold import advance, follows, summarise
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Summary
from grit.core.limits import LOCK_WAIT_MS_MAX
from grit.view import keys
from grit.view.database import Database, Txn
from grit.view.indexing import Changes, Projection, Summaries, project_all, weight
from grit.view.rows import (
    IssueEvents,
    Meta,
    Person,
    encode_person,
    get_event,
    get_meta,
    get_person,
    get_row,
    put_meta,
    scan,
    seal,
)
from grit.view.standing import Judge, Standing

_BULK_EVENTS: Final = 1_000
_ISSUE_BYTES: Final = 4_000
"""What an issue's rows add to the file, generously."""
JOURNAL_ENTRIES_MAX: Final = 2_048
_UNWRITTEN_MAX: Final = 100_000
_UNWRITTEN_BYTES_MAX: Final = 2**25
"""How many summaries may wait for the end of a build, and what their values may take."""
_ROW_BYTES: Final = 700
"""What an event adds to the file beside its record, generously."""
_TEXT_TAGS: Final = frozenset(
    (ISSUE_CREATED, ISSUE_UPDATED, COMMENT_ADDED, COMMENT_EDITED, COMMENT_REDACTED, TIME_OVERRULED)
)

_Announced = tuple[bool, int, EventId, Event]
"""Certified or not, time and id, by which announcements are ranked; and the event."""
Records = Sequence[tuple[Event, bytes]]
"""Events, each with its stored record."""
Journal = tuple[str, tuple[tuple[str, bytes], ...]]
"""Commit id of an own append, and its objects as (kind, content)."""
_Item = tuple[bytes, Event, bytes]
"""An event between its ORDER key and its record."""
_order_key: Final = Struct(">c16sQ16s32s").pack
"""What `keys.event_order` returns, faster."""
_NEVER: Final = (-1, EventId(b""))


class _Stored(NamedTuple):
    """What came of records."""

    groups: dict[IssueId, list[Event]]
    """Events that count from now on, by issue and in their order."""
    unseen: set[IssueId]
    """Issues of which nothing counted before."""
    fresh: list[Event]
    """Events that were not stored before."""


class Applied(NamedTuple):
    """What an apply changed."""

    event_count: int
    """Events that the view did not know."""
    changes: Changes
    """In a file that is being built, the issues that they touch."""
    late: list[IssueId]
    """Issues that are folded with the last batch, since not all came in order."""


@contextmanager
def writing(
    database: Database, judge: Judge | None = None, wait_ms_max: int = LOCK_WAIT_MS_MAX
) -> Iterator["Writer"]:
    """Give a Writer over a trusted view.

    Raises Busy when another process writes for too long, ViewDoubt when a rebuild must come first.
    """
    with database.exclusive(wait_ms_max):
        yield Writer(database, judge)


@contextmanager
def rebuilding(
    database: Database, judge: Judge | None = None, *, force: bool = False
) -> Iterator["Writer"]:
    """Give a Writer over an empty view that takes the place of the old one at the end.

    Without `force`, where another process has just rebuilt it, the Writer continues that one:
    read the log from `writer.head()` on in either case.
    Raises Busy, IoFailed and OSError (the folder cannot be written: use `Database.temporary`).
    """
    with database.replacing(force=force):
        writer = Writer(database, judge)
        yield writer
        writer.finish()


class Writer:
    """Applies events; holds the writers' lock as long as its context is open.

    In a file that is being built, the rows of issues are written once, at the end.
    """

    __slots__ = ("_database", "_judge", "_unwritten", "_weight")

    def __init__(self, database: Database, judge: Judge | None = None) -> None:
        self._database = database
        self._judge = judge
        self._unwritten: Summaries | None = {} if database.building else None
        self._weight = 0

    def meta(self) -> Meta:
        """Return the head that the rows stand for, and what they were folded under."""
        with self._database.reading() as txn:
            return get_meta(txn)

    def head(self) -> str | None:
        """Return the head that the rows stand for; None in an empty view."""
        return self.meta().head

    def ask(self, judge: Judge) -> None:
        """Let this judge decide about what is applied next; its stamp is kept with the rows."""
        self._judge = judge

    def note_joined(self, heads: Sequence[str], packed: str) -> None:
        """Remember which remote heads were compared with the log, and the stamp of packed-refs."""

        def work(txn: Txn) -> None:
            put_meta(txn, get_meta(txn)._replace(joined=" ".join(heads), packed=packed))

        self._database.write(work)

    def apply(
        self,
        records: Records,
        head: str | None,
        problems: Sequence[tuple[str, Problem]] = (),
        journal: Journal | None = None,
        *,
        more: bool = False,
    ) -> Applied:
        """Add events, in any order, known or not, and move the head, in one transaction.

        `problems` pairs a blob's id with what was set aside in it, all of a blob at once. Of two
        copies of one event the signed one stays, and among signed ones the valid one.
        With `more` to come, an issue that would have to be read whole has its old row until then.
        Raises IoFailed when the disk is full, ViewDoubt when the view is damaged.
        """

        def work(txn: Txn) -> Applied:
            applied = _apply(txn, records, head, problems, journal, self._judge, self._unwritten)
            if self._unwritten is None and not more:
                _refold(txn)
            return applied

        size = sum([len(record) for _, record in records])
        need_bytes = size + _ROW_BYTES * (len(records) + len(problems)) + 2**20
        # A collection in the middle of a bulk walks everything that was decoded: a third of it.
        pause = len(records) > _BULK_EVENTS and gc.isenabled()
        if pause:
            gc.disable()
        try:
            applied = self._database.write(work, need_bytes=need_bytes)
        finally:
            if pause:
                gc.enable()
        if self._unwritten is not None:
            self._keep(self._unwritten, applied, size)
        return applied

    def _keep(self, unwritten: Summaries, applied: Applied, size: int) -> None:
        for issue_id in applied.late:
            unwritten.pop(issue_id, None)
        unwritten.update((key, one.new) for key, one in applied.changes.items())
        self._weight += 4 * size
        if self._weight > _UNWRITTEN_BYTES_MAX:  # that was a guess
            self._weight = sum(map(weight, unwritten.values()))
        if self._weight > _UNWRITTEN_BYTES_MAX or len(unwritten) > _UNWRITTEN_MAX:
            self._write_rows()

    def _write_rows(self) -> None:
        unwritten, self._unwritten = self._unwritten or {}, None
        need_bytes = _ISSUE_BYTES * len(unwritten) + self._weight
        self._database.write(lambda txn: project_all(txn, unwritten), need_bytes=need_bytes)

    def finish(self) -> None:
        """Write the rows of all issues into a file that was built; nothing else may follow."""
        if self._unwritten is not None:
            self._write_rows()
            self._database.write(_refold, need_bytes=2**20)


def _apply(
    txn: Txn,
    records: Records,
    head: str | None,
    problems: Sequence[tuple[str, Problem]],
    journal: Journal | None,
    judge: Judge | None,
    unwritten: Summaries | None,
) -> Applied:
    meta = get_meta(txn)
    if judge is not None:
        policy, settings, missing = judge.stamp
        meta = meta._replace(policy=policy, settings=settings, missing=missing)
    standing = None if judge is None else Standing(txn, judge)
    stored = _store(txn, records, meta.next_seq, standing, unwritten)
    stale: list[tuple[bytes, bytes]] = []
    late: list[IssueId] = []
    projection = Projection(txn, writes=unwritten is None)
    for issue_id, news in stored.groups.items():
        row = get_row(txn, issue_id) if unwritten is None else None
        before = row.summary if row is not None else (unwritten or {}).get(issue_id)
        summary = _folded(news, before, alone=issue_id in stored.unseen)
        if summary is not None:
            projection.add(issue_id, row, summary)
        elif before is not None or any(event.tag == ISSUE_CREATED for event in news):
            late.append(issue_id)
        else:
            continue  # its creation is missing
        if not _TEXT_TAGS.isdisjoint([event.tag for event in news]):
            stale.append((keys.STALE + issue_id, b""))
    projection.write()
    txn.cursor().putmulti((keys.REFOLD + issue_id, b"") for issue_id in sorted(late))
    txn.cursor().putmulti(stale)
    unknown_count = _note_actors(txn, stored, standing)
    event_count = len(stored.fresh)
    if problems:
        from grit.view import asides

        asides.note(txn, problems)
    meta = meta._replace(
        head=head,
        next_seq=meta.next_seq + event_count,
        unknown_count=meta.unknown_count + unknown_count,
    )
    if journal is not None:
        meta = _keep_journal(txn, meta, journal)
    put_meta(txn, meta)
    return Applied(event_count, projection.changes, late)


def _store(
    txn: Txn,
    records: Records,
    seq: int,
    standing: Standing | None,
    unwritten: Summaries | None,
) -> _Stored:
    """Store the events that are new, improve those that are not, and say which count."""
    looks = standing is not None and standing.looks
    if standing is not None:
        standing.take_keys()
    # Runs for every event of a log, so it is spelled out.
    table = keys.ORDER
    buckets: dict[IssueId, list[_Item]] = {}
    for event, record in records:
        event_id, issue_id, actor_id, ts_unix_ms, _, _, _, _ = event
        key = _order_key(table, issue_id, ts_unix_ms, actor_id, event_id)
        bucket = buckets.get(issue_id)
        if bucket is None:
            buckets[issue_id] = [(key, event, record)]
        else:
            bucket.append((key, event, record))
    fresh: list[_Item] = []
    unseen: set[IssueId] = set()
    for issue_id in sorted(buckets):
        bucket = buckets[issue_id]
        bucket.sort(key=itemgetter(0))
        last = _last_order(txn, issue_id, unwritten) if seq else b""
        if not last:
            unseen.add(issue_id)
        if (
            (looks and seq)
            or bucket[0][0] <= last
            or len({item[0] for item in bucket}) < len(bucket)
        ):
            bucket = _unknown(txn, bucket, last, standing)
        fresh += bucket
    places = [number.to_bytes(8, "big") for number in range(seq, seq + len(fresh))]
    counted = _put_orders(txn, fresh, places, standing if looks else None)
    event_table = keys.EVENT
    # Spelled out: rows.seal.
    txn.cursor().putmulti(
        [
            (event_table + place, crc32(record).to_bytes(4, "big") + record)
            for place, (_, _, record) in zip(places, fresh, strict=True)
        ],
        append=True,
    )
    return _Stored(_by_issue(counted, standing), unseen, [item[1] for item in fresh])


def _put_orders(
    txn: Txn, fresh: list[_Item], places: list[bytes], standing: Standing | None
) -> list[Event]:
    """Give every new event its place in the order, or hold it back; return those that count."""
    empty = not txn.stat()["entries"]
    if standing is not None:
        pairs = list(zip(fresh, places, strict=True))
        pairs = [one for one in pairs if standing.admit(one[0][0], one[0][1], one[1])]
        fresh, places = [item for item, _ in pairs], [place for _, place in pairs]
        empty = False
    orders = zip([item[0] for item in fresh], places, strict=True)
    txn.cursor().putmulti(orders, append=empty)
    return [item[1] for item in fresh]


def _by_issue(counted: list[Event], standing: Standing | None) -> dict[IssueId, list[Event]]:
    """Group events, which come in the order of issues and their events, and what was released."""
    groups = {issue_id: list(group) for issue_id, group in groupby(counted, itemgetter(1))}
    if standing is not None and standing.released:
        for event in standing.released:
            groups.setdefault(event.issue_id, []).append(event)
        for issue_id in {event.issue_id for event in standing.released}:
            groups[issue_id].sort(key=lambda event: event.order)
    return groups


def _last_order(txn: Txn, issue_id: IssueId, unwritten: Summaries | None) -> bytes:
    """Return the ORDER key of an issue's last stored event, or nothing."""
    summary = None if unwritten is None else unwritten.get(issue_id)
    if summary is not None:
        return keys.order_key(issue_id, summary.last)
    return _last_key(txn, keys.ORDER + issue_id)


def _unknown(txn: Txn, bucket: list[_Item], last: bytes, standing: Standing | None) -> list[_Item]:
    """Return the events that are not stored yet, the best copy of each; improve those that are.

    None that counts comes after `last`.
    """
    unknown: list[_Item] = []
    cursor = txn.cursor()
    for item in bucket:
        key, event, record = item
        if unknown and unknown[-1][0] == key:
            if _better(event, unknown[-1][1], standing):
                unknown[-1] = item
            continue
        seq: bytes | None = None
        if key <= last and cursor.set_key(key):
            seq = cursor.value()
        elif standing is not None and standing.looks:
            # An improvement of this very bucket may have let it count.
            seq = standing.find(key) or txn.get(key)
        if seq is None:
            unknown.append(item)
        elif event.sig is not None and _better(event, get_event(txn, seq), standing):
            txn.put(keys.EVENT + seq, seal(record))
            if standing is not None:
                standing.improve(key, event)
    return unknown


def _last_key(txn: Txn, prefix: bytes) -> bytes:
    """Return the last key that starts with `prefix`, or nothing."""
    cursor = txn.cursor()
    found = cursor.set_range(keys.after(prefix))
    if not (cursor.prev() if found else cursor.last()):
        return b""
    key = cursor.key()
    return key if key.startswith(prefix) else b""


def _better(event: Event, than: Event, standing: Standing | None) -> bool:
    """Return whether one copy of an event is to be kept rather than another; a strict order."""
    if standing is not None:
        return standing.better(event, than)
    return event.sig is not None and (than.sig is None or event.sig < than.sig)


def _refold(txn: Txn) -> None:
    """Fold the issues whose events came in another order than theirs: with the last batch, once."""
    projection = Projection(txn)
    for issue_id in [IssueId(key[1:]) for key, _ in scan(txn, keys.REFOLD)]:
        summary = summarise(IssueEvents(txn, issue_id))
        assert summary is not None, "it was created"
        projection.add(issue_id, get_row(txn, issue_id), summary)
        txn.delete(keys.REFOLD + issue_id)
    projection.write()


def _folded(news: list[Event], before: Summary | None, *, alone: bool) -> Summary | None:
    """Return an issue's summary with new events; None where that takes reading the others.

    `alone` says that there are no others. None, too, while its creation is missing.
    """
    if before is not None and follows(before, news):
        return advance(before, news)
    return summarise(news) if alone else None


def _note_actors(txn: Txn, stored: _Stored, standing: Standing | None) -> int:
    """Keep each actor's last event that counts and best announcement; count unknown kinds."""
    tips: dict[ActorId, tuple[int, EventId]] = {}
    announced: dict[ActorId, _Announced] = {}
    held = standing.held if standing is not None else frozenset()
    unknown_count = 0
    for event in stored.fresh:
        event_id, issue_id, actor_id, ts_unix_ms, _, tag, _, _ = event
        tip = tips.get(actor_id, _NEVER)
        if held and event_id in held:
            tips[actor_id] = tip
        elif ts_unix_ms >= tip[0]:
            tips[actor_id] = max(tip, (ts_unix_ms, event_id))
        if tag == ACTOR_ANNOUNCED and bytes(issue_id) == actor_id:
            _rank(announced, event)
        elif tag not in KINDS:
            unknown_count += 1
    for event in standing.improved if standing is not None else ():
        # A signed copy may certify what an unsigned one only claimed.
        if event.tag == ACTOR_ANNOUNCED and bytes(event.issue_id) == event.actor_id:
            _rank(announced, event)
            tips.setdefault(event.actor_id, _NEVER)
    for event in standing.released if standing is not None else ():
        tip = (event.ts_unix_ms, event.event_id)
        tips[event.actor_id] = max(tips.get(event.actor_id, _NEVER), tip)
    for actor_id, (last_ts, last_event_id) in tips.items():
        person = get_person(txn, actor_id) or Person(
            actor_id, EventId(b""), 0, None, None, "", "", "", None, False
        )
        if (last_ts, last_event_id) > (person.last_ts, person.last_event_id):
            person = person._replace(last_event_id=last_event_id, last_ts=last_ts)
        if actor_id in announced:
            person = _announce(person, *announced[actor_id])
        txn.put(keys.ACTOR + actor_id, encode_person(person))
    return unknown_count


def _rank(announced: dict[ActorId, _Announced], event: Event) -> None:
    """Keep the best announcement of each actor."""
    news = (_is_certified(event), event.ts_unix_ms, event.event_id, event)
    announced[event.actor_id] = max(announced.get(event.actor_id, news), news)


def _is_certified(event: Event) -> bool:
    """Whether an announcement is signed by its own key, and that key certifies the actor."""
    from grit.core.signing import signature_status

    key = event.payload[-1]
    return isinstance(key, bytes) and signature_status(event, key) == "valid"


def _announce(
    person: Person, certified: bool, ts_unix_ms: int, event_id: EventId, event: Event
) -> Person:
    """Return the actor as announced, unless what is known is as good and later."""
    known = (person.certified, person.announced_ts or 0, person.announced_id or b"")
    if (certified, ts_unix_ms, event_id) <= known:
        return person
    label, name, email, public_key = event.payload
    assert isinstance(label, str) and isinstance(name, str) and isinstance(email, str)
    assert public_key is None or isinstance(public_key, bytes)
    return person._replace(
        announced_ts=ts_unix_ms,
        announced_id=event_id,
        label=label,
        name=name,
        email=email,
        public_key=public_key,
        certified=certified,
    )


def _keep_journal(txn: Txn, meta: Meta, journal: Journal) -> Meta:
    """Keep the raw objects of an own append, and forget the oldest beyond the bound."""
    last, first = meta.journal_next, meta.journal_first
    txn.put(keys.JOURNAL + keys.u64(last), seal(pack(journal)))
    while last + 1 - first > JOURNAL_ENTRIES_MAX:
        txn.delete(keys.JOURNAL + keys.u64(first))
        first += 1
    return meta._replace(journal_next=last + 1, journal_first=first)
