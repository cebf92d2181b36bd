"""The one write path: decide under the lock, seal, append to the log, show in the view."""

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from enum import Enum
from functools import cache
from typing import Final, Generic, NamedTuple, TypeVar, cast

from grit.core import codec
from grit.core.clock import next_ts
from grit.core.errors import Conflict, GritError, NotFound
from grit.core.events import ACTOR_ANNOUNCED, TIME_OVERRULED, Draft, Event, Payload
from grit.core.fold import advance, fold, follows, split_ahead, summarise
from grit.core.ids import EventId, IssueId, parse_hex
from grit.core.issue import Issue, Summary
from grit.core.limits import (
    APPEND_RETRIES_MAX,
    CLOCK_AHEAD_MS_MAX,
    ID_BYTES,
    QUEUE_BYTES_MAX,
    QUEUE_ENTRY_BYTES_MAX,
    QUEUE_ENTRY_EVENTS_MAX,
)
from grit.core.long_text import Text
from grit.git.actors import ActorFile, readable_actors
from grit.git.spool import Content, Entry, Spool, Ticket, place_of
from grit.services.actors import Signer, current, signer
from grit.services.append import Label, append_events, check_policy, refuse_author
from grit.services.find import resolve
from grit.services.pending import Pending
from grit.services.queue import commit, follow, forget, lead, settle
from grit.services.refresh import refresh
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

T = TypeVar("T")


class Written(NamedTuple):
    """What a write stored: its events in order (none: nothing changed) and the head after it."""

    events: Sequence[Event]
    head: str | None


class Transaction:
    """A state to decide on: the view, plus what this command has already decided."""

    def __init__(
        self,
        reader: ViewReader,
        sign_in: Callable[[], Signer],
        now_ms: int,
        queued: Pending | None = None,
        *,
        overrules: bool = True,
        whole: Callable[[Text], str] = str,
        here: Callable[[], Sequence[ActorFile]] = list,
    ) -> None:
        """Start with nothing decided; `now_ms` is the wall clock, unix milliseconds.

        `sign_in` tells who writes; a command that is refused before it writes never asks.
        `queued` is what other writers wait to store, and comes before what is decided here.
        `overrules`: the log knows kind 115. `whole` reads long texts, `here` gives own actors.
        """
        self.reader = reader
        self.events: list[Event] = []
        self.attachments: dict[str, bytes] = {}
        self.whole: Final = whole
        self.here: Final = here
        self._sign_in = sign_in
        self._author: Signer | None = None
        self._parent: EventId | None = None
        self._last_ms: int | None = None
        self._now_ms = now_ms
        self._latest_ms = now_ms + CLOCK_AHEAD_MS_MAX
        self._overrules = overrules
        self._rows: dict[IssueId, Summary] = {}
        self._seen: dict[IssueId, int | None] = {}
        self._pending: dict[IssueId, list[Event]] = {}
        self._queued = queued

    @property
    def author(self) -> Signer:
        """Who writes; its announcement is the first event of what it ever stores."""
        if self._author is None:
            author = self._author = self._sign_in()
            known = self.reader.actor(author.actor_id)
            # An actor's times rise over all issues, so that its last event, the next parent, is
            # plain. A forged one far ahead must not drag them along.
            near = known is not None and known.last_ts <= self._latest_ms
            self._parent = (known.last_event_id or None) if known else None
            if known is not None and not near:
                from grit.services.trust import chain_end

                self._parent = chain_end(self.reader, author.actor_id, self._latest_ms)
            self._last_ms = known.last_ts if known and near else None
            announced = known is not None and (
                known.certified if author.seed else known.announced_ts is not None
            )
            tip = self._queued.tip(author.actor_id) if self._queued else None
            if self._queued and tip:
                announced = announced or self._queued.announces(author.actor_id)
                if known is None or (tip[0], tip[2]) > (known.last_ts, known.last_event_id):
                    self._parent = tip[2]
                    if tip[0] <= self._latest_ms:
                        self._last_ms = tip[0]
            if author.announcement is not None and not announced:
                self._seal(IssueId(author.actor_id), ACTOR_ANNOUNCED, author.announcement)
        return self._author

    @property
    def decided(self) -> bool:
        """Return whether anything but the actor's own announcement is to be stored."""
        return any(event.tag != ACTOR_ANNOUNCED for event in self.events)

    def resolve(self, text: str) -> IssueId:
        """Return the issue named, as `resolve`; ids of this very command are known too."""
        if len(text) == 32 and (named := _from_hex(text)) in self._rows:
            return named
        return resolve(self.reader, text)

    def find(self, issue_id: IssueId) -> Summary | None:
        """Return the summary as this command has left it, or None."""
        row = self._rows.get(issue_id)
        if row is not None:
            return row
        row = self.reader.summary(issue_id)
        queued = self._queued.events_of(issue_id) if self._queued else ()
        if not queued:
            return row
        if row is None:
            row = summarise(self._events_of(issue_id))
        else:
            # The view may have taken some of them in since.
            late = [event for event in queued if event.order > row.last]
            # What does not come after an event from the future need not be in the view.
            plain = row.last[0] <= self._latest_ms and follows(row, late)
            row = advance(row, late) if plain else summarise(self._events_of(issue_id))
        if row is not None:
            self._rows[issue_id] = row
        return row

    def summary(self, issue_id: IssueId) -> Summary:
        """Return the summary as this command has left it; raise NotFound without one."""
        row = self.find(issue_id)
        if row is None:
            raise NotFound(f"no issue '{issue_id.hex()}'", id=issue_id.hex())
        return row

    def issue(self, issue_id: IssueId) -> Issue:
        """Return the issue as this command has left it; raise NotFound without one.

        Long texts are not read whole: see `whole`.
        """
        issue = fold(self._events_of(issue_id))
        if issue is None:
            raise NotFound(f"no issue '{issue_id.hex()}'", id=issue_id.hex())
        return issue

    def pending_rows(self) -> list[Summary]:
        """Return the summaries that this command has changed, or others before it."""
        for issue_id in self._queued.issue_ids() if self._queued else ():
            self.find(issue_id)
        return list(self._rows.values())

    def _events_of(self, issue_id: IssueId) -> list[Event]:
        """Return all events of an issue in their order, each once."""
        events = [*self.reader.events_of(issue_id), *self._pending.get(issue_id, ())]
        if self._queued:
            known = {event.event_id for event in events}
            queued = self._queued.events_of(issue_id)
            events += [event for event in queued if event.event_id not in known]
        return sorted(events, key=lambda event: event.order)

    def add(self, drafts: Sequence[Draft]) -> Sequence[Event]:
        """Seal the drafts and let later decisions of this command see them."""
        for issue_id in dict.fromkeys(draft.issue_id for draft in drafts):
            self._look(issue_id)
        events = [self._seal(*draft) for draft in drafts]
        by_issue: dict[IssueId, list[Event]] = {}
        for event in events:
            by_issue.setdefault(event.issue_id, []).append(event)
        for issue_id, added in by_issue.items():
            row = self.find(issue_id)
            self._pending.setdefault(issue_id, []).extend(added)
            self._show(issue_id, row, added)
        return events

    def _show(self, issue_id: IssueId, row: Summary | None, added: Sequence[Event]) -> None:
        """Let later decisions see what was added to the issue that was `row` before."""
        if row is None:
            known = summarise(added)
        elif follows(row, added):
            known = advance(row, added)
        else:
            known = summarise(self._events_of(issue_id))
        if known is not None:
            self._rows[issue_id] = known

    def _look(self, issue_id: IssueId) -> None:
        """Note the latest time of an issue before its first change, and overrule what is ahead.

        What is further ahead of the clock than it may be counts as of now (spec/events.md, Time).
        """
        if issue_id in self._seen:
            return
        row = self.find(issue_id)
        self._seen[issue_id] = row.last[0] if row else None
        if row is None or row.last[0] <= self._latest_ms or not self._overrules:
            return
        self._seen[issue_id], ahead = split_ahead(self._events_of(issue_id), self._latest_ms)
        added = [self._seal(issue_id, TIME_OVERRULED, (names,)) for names in ahead]
        if not added:
            return
        self._pending.setdefault(issue_id, []).extend(added)
        self._show(issue_id, row, added)

    def _seal(self, issue_id: IssueId, tag: int, payload: Payload) -> Event:
        author = self.author
        # What an actor says of itself belongs to no issue, whatever another wrote under its id.
        ts = next_ts(next_ts(self._now_ms, self._last_ms), self._seen.get(issue_id))
        self._last_ms = ts
        if tag != ACTOR_ANNOUNCED:
            self._seen[issue_id] = ts
        event = codec.seal(Draft(issue_id, tag, payload), author.actor_id, ts, self._parent)
        event = author.sign(event)
        self._parent = event.event_id
        self.events.append(event)
        return event


def write(
    workspace: Workspace, work: Callable[[Transaction], T], subject: Callable[[T], str]
) -> tuple[T, Written]:
    """Run `work` on the newest state and store what it decided, all or nothing.

    `work` may run again when another writer was faster; `subject` makes the log's one line.
    Raises what `work` raises, Busy, Conflict, IoFailed or WalDamaged; then nothing is stored.
    """
    request = _Request(workspace, work, subject)
    if sys.platform != "win32" and not workspace.wal.dialect.shared:
        for _ in range(APPEND_RETRIES_MAX):
            outcome = request.queued()
            if isinstance(outcome, tuple):
                return _told(workspace, outcome)
            if outcome is _Retry.ALONE:
                break
    return _told(workspace, request.alone())


def _told(workspace: Workspace, outcome: tuple[T, Written]) -> tuple[T, Written]:
    """Say whose time a write has overruled: it may be this clock that is wrong."""
    overruled = [event for event in outcome[1].events if event.tag == TIME_OVERRULED]
    if overruled:
        from grit.core.times import format_ms

        count = sum(len(cast(tuple[bytes, ...], event.payload[0])) for event in overruled)
        workspace.notice(
            f"{count} event{'s were' if count > 1 else ' was'} over a day ahead of this machine's "
            f"clock, which says {format_ms(workspace.now_ms())}; from now on "
            f"{'they count' if count > 1 else 'it counts'} as of now. If the clock is wrong, set it"
        )
    return outcome


def rehearse(
    workspace: Workspace, work: Callable[[Transaction], T], subject: Callable[[T], str]
) -> tuple[T, Written]:
    """Do what `write` does up to the point where anything would be stored: for practice."""
    return _Request(workspace, work, subject).unstored()


class _Retry(Enum):
    """How a write that could not be queued goes on."""

    AGAIN = "what it was decided on was not stored"
    ALONE = "it must have the log for itself"


class _Request(Generic[T]):
    """One write: what to decide, and how its line in the log reads."""

    __slots__ = ("_spool", "_subject", "_work", "_workspace", "sign_in")

    def __init__(
        self,
        workspace: Workspace,
        work: Callable[[Transaction], T],
        subject: Callable[[T], str],
    ) -> None:
        self._workspace = workspace
        self._work = work
        self._subject = subject
        self._spool = Spool(workspace.repository)

        @cache
        def sign_in() -> Signer:
            author = signer(workspace)
            if workspace.wal.dialect.shared:
                # An announcement cannot be stored there, so nobody could verify a signature.
                author = author._replace(announcement=None, seed=None)
            refuse_author(workspace, author)
            return author

        self.sign_in = sign_in

    def queued(self) -> "tuple[T, Written] | _Retry":
        """Decide on the log and on what waits for it; commit if the log is free, else queue."""
        workspace, spool = self._workspace, self._spool
        lock, turn = workspace.wal.lock(), spool.lock()
        try:
            if not turn.try_acquire():
                self._get_ready()
            with turn:
                leading = lock.try_acquire()
                queued = spool.read()
                if queued.waiting_bytes > QUEUE_BYTES_MAX or (leading and queued.taken):
                    return _Retry.ALONE
                try:
                    reader = refresh(workspace, to_write=True) if leading else self._reader()
                    pending = Pending(reader, queued)
                    result, transaction = self._decide(reader, pending)
                except (GritError, ViewDoubt):
                    if leading and not queued.entries:
                        raise
                    return _Retry.ALONE  # what refuses it may never be stored
                if not transaction.decided:
                    if leading and not queued.entries:
                        return result, Written((), reader.head())
                    return _Retry.ALONE
                entry = self._entry(transaction, pending, self._subject(result))
                if entry is None:
                    return _Retry.ALONE
                check_policy(workspace, transaction.events, transaction.author)
                ticket = spool.append(entry, queued)
                if leading:
                    self._take(ticket)
            try:
                taken = (*queued.waiting, entry)
                if leading:
                    own = frozenset(event.event_id for event in transaction.events)
                    alone = not queued.waiting
                    places = commit(workspace, spool, reader, taken, own, alone=alone)
                    stored = entry.last in places
                    stored = stored or lead(workspace, spool, ticket, entry.last)
                else:
                    place = len(queued.entries)
                    stored = follow(workspace, spool, ticket, entry.last, place)
            finally:
                ticket.close()
        finally:
            turn.release()
            lock.release()
        if not stored:
            return _Retry.AGAIN
        return result, Written(transaction.events, self._head())

    def alone(self) -> tuple[T, Written]:
        """Commit what waits, then decide and append with nobody else at it."""
        workspace = self._workspace
        with workspace.wal.lock(), self._spool.lock():
            for attempt in range(APPEND_RETRIES_MAX):
                try:
                    reader = settle(workspace, self._spool)
                    result, transaction = self._decide(reader, None)
                except ViewDoubt:  # removed meanwhile, say: nothing is stored yet
                    if attempt + 1 == APPEND_RETRIES_MAX:
                        raise
                    continue
                if not transaction.decided:
                    return result, Written((), reader.head())
                events, attachments = transaction.events, transaction.attachments
                check_policy(workspace, events, transaction.author)
                label = Label(self._subject(result), transaction.author.actor_id)
                own = frozenset(event.event_id for event in events)
                head = append_events(
                    workspace, reader.head(), events, label, attachments, own, alone=True
                )
                if head is not None:
                    return result, Written(events, head)
        raise Conflict("the log moved too often while appending; try again")

    def unstored(self) -> tuple[T, Written]:
        """Decide on the view as it is; sign and encode, and store nothing."""
        reader = self._reader()
        result, transaction = self._decide(reader, None)
        codec.encode_chunk(transaction.events)
        return result, Written(transaction.events, reader.head())

    def _get_ready(self) -> None:
        """Do, before waiting for others, what they need not wait for: see who writes.

        An actor is made by who gets as far as writing; and what is wrong here is told there.
        """
        with suppress(GritError, ViewDoubt):
            if current(self._workspace) is not None:
                self.sign_in()

    def _take(self, ticket: Ticket) -> None:
        try:
            self._spool.take()
        except BaseException as failure:
            forget(lambda: self._spool.withdraw(ticket), failure)
            ticket.close()
            raise

    def _head(self) -> str | None:
        """Return the log's head after a write; that it cannot be read must not look like a failure.

        The view's head then, which may be older; None when that cannot be told either.
        """
        try:
            return self._workspace.wal.head()
        except GritError as failure:
            self._workspace.notice(f"stored; the log's head cannot be told ({failure.message})")
        try:
            return self._reader().head()
        except (ViewDoubt, OSError):
            return None

    def _reader(self) -> ViewReader:
        """Return a reader of the view as it is: the queue says what is newer."""
        return ViewReader(self._workspace.database)

    def _decide(self, reader: ViewReader, pending: Pending | None) -> tuple[T, Transaction]:
        overrules = not self._workspace.wal.dialect.shared
        now_ms = self._workspace.now_ms()
        transaction = Transaction(
            reader,
            self.sign_in,
            now_ms,
            pending,
            overrules=overrules,
            whole=self._workspace.whole,
            here=lambda: readable_actors(self._workspace.repository),
        )
        return self._work(transaction), transaction

    def _entry(self, transaction: Transaction, pending: Pending, subject: str) -> Entry | None:
        """Return what to queue; None for what is too much to share a commit."""
        events = transaction.events
        if transaction.attachments or len(events) > QUEUE_ENTRY_EVENTS_MAX:
            return None
        chunk = codec.encode_chunk(events)
        if len(chunk) > QUEUE_ENTRY_BYTES_MAX:
            return None
        author = self._workspace.wal.person("author", transaction.author.actor_id)
        content = Content(
            b"".join({event.issue_id for event in events}),
            subject.encode(errors="replace"),
            author.encode(errors="replace"),
            chunk,
        )
        return Entry(
            pending.known_count,
            len(events),
            any(event.tag == ACTOR_ANNOUNCED for event in events),
            pending.after,
            place_of(events[-1]),
            codec.pack(content),
        )


def store(
    workspace: Workspace,
    events: Sequence[Event],
    subject: str,
    author: Signer,
    attachments: dict[str, bytes] | None = None,
    again: Collection[EventId] = (),
) -> Written:
    """Append sealed events (an import) as they are; those already in the log are left out.

    `author` is who imports; `attachments`: contents by SHA-256 in hex, stored with the first of
    the new events. Those in `again` are appended even so, to carry them, and not returned as new.
    """
    spool = Spool(workspace.repository)
    with workspace.wal.lock(), spool.lock():
        for _ in range(APPEND_RETRIES_MAX):
            reader = settle(workspace, spool)
            fresh = [event for event in events if not reader.has_event(event)]
            new = {event.event_id for event in fresh}
            carried = [
                event for event in events if event.event_id in new or event.event_id in again
            ]
            if not carried:
                return Written((), reader.head())
            check_policy(workspace, fresh, author)
            label = Label(subject, author.actor_id)
            head = append_events(workspace, reader.head(), carried, label, attachments)
            if head is not None:
                return Written(fresh, head)
    raise Conflict("the log moved too often while appending; try again")


def _from_hex(text: str) -> IssueId:
    return IssueId(parse_hex(text, ID_BYTES) or b"")
