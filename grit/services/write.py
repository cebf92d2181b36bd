"""The one write path: decide under the lock, seal, append to the log, show in the view."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from grit.core import codec
from grit.core.clock import next_ts
from grit.core.errors import Conflict, GitFailed, InvalidArgs, IoFailed, NotFound
from grit.core.events import ACTOR_ANNOUNCED, SHARED_TAG_MAX, Draft, Event, Payload, kind_name
from grit.core.fold import advance, fold, summarise
from grit.core.ids import EventId, IssueId
from grit.core.issue import Issue, Summary
from grit.core.limits import APPEND_RETRIES_MAX, CLOCK_AHEAD_MS_MAX
from grit.services.actors import Signer, signer
from grit.services.find import resolve
from grit.services.refresh import refresh, show_append
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader

T = TypeVar("T")


class Written(NamedTuple):
    """What a write stored: its events in order (none: nothing changed) and the head after it."""

    events: Sequence[Event]
    head: str | None


class Transaction:
    """A state to decide on: the view, plus what this command has already decided."""

    def __init__(self, reader: ViewReader, sign_in: Callable[[], Signer], now_ms: int) -> None:
        """Start with nothing decided; `now_ms` is the wall clock, unix milliseconds.

        `sign_in` tells who writes; a command that is refused before it writes never asks.
        """
        self.reader = reader
        self.events: list[Event] = []
        self.attachments: dict[str, bytes] = {}
        self._sign_in = sign_in
        self._author: Signer | None = None
        self._parent: EventId | None = None
        self._last_ms: int | None = None
        self._now_ms = now_ms
        self._rows: dict[IssueId, Summary] = {}
        self._seen: dict[IssueId, int | None] = {}
        self._pending: dict[IssueId, list[Event]] = {}

    @property
    def author(self) -> Signer:
        """Who writes; its announcement is the first event of what it ever stores."""
        if self._author is None:
            author = self._author = self._sign_in()
            known = self.reader.actor(author.actor_id)
            self._parent = known.last_event_id if known else None
            # An actor's times rise over all issues, so that its last event, the next parent, is
            # plain. A forged one far ahead must not drag them along.
            near = known is not None and known.last_ts <= self._now_ms + CLOCK_AHEAD_MS_MAX
            self._last_ms = known.last_ts if known and near else None
            announced = known is not None and (
                known.certified if author.seed else known.announced_ts is not None
            )
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
        return self._rows.get(issue_id) or self.reader.summary(issue_id)

    def summary(self, issue_id: IssueId) -> Summary:
        """Return the summary as this command has left it; raise NotFound without one."""
        row = self.find(issue_id)
        if row is None:
            raise NotFound(f"no issue '{issue_id.hex()}'", id=issue_id.hex())
        return row

    def issue(self, issue_id: IssueId) -> Issue:
        """Return the whole issue as this command has left it; raise NotFound without one."""
        events = [*self.reader.events_of(issue_id), *self._pending.get(issue_id, ())]
        issue = fold(sorted(events, key=lambda event: event.order))
        if issue is None:
            raise NotFound(f"no issue '{issue_id.hex()}'", id=issue_id.hex())
        return issue

    def pending_rows(self) -> list[Summary]:
        """Return the summaries that this command has changed."""
        return list(self._rows.values())

    def add(self, drafts: Sequence[Draft]) -> Sequence[Event]:
        """Seal the drafts and let later decisions of this command see them."""
        events = [self._seal(*draft) for draft in drafts]
        by_issue: dict[IssueId, list[Event]] = {}
        for event in events:
            by_issue.setdefault(event.issue_id, []).append(event)
        for issue_id, added in by_issue.items():
            row = self.find(issue_id)
            self._pending.setdefault(issue_id, []).extend(added)
            known = summarise(added) if row is None else advance(row, added)
            if known is not None:
                self._rows[issue_id] = known
        return events

    def _seal(self, issue_id: IssueId, tag: int, payload: Payload) -> Event:
        author = self.author
        if issue_id not in self._seen:
            row = self.reader.summary(issue_id)
            self._seen[issue_id] = row.updated_ts if row else None
        ts = next_ts(next_ts(self._now_ms, self._last_ms), self._seen[issue_id])
        self._seen[issue_id] = self._last_ms = ts
        event = codec.seal(Draft(issue_id, tag, payload), author.actor_id, ts, self._parent)
        event = author.sign(event)
        self._parent = event.event_id
        self.events.append(event)
        return event


def _from_hex(text: str) -> IssueId:
    try:
        return IssueId(bytes.fromhex(text))
    except ValueError:
        return IssueId(b"")


def write(
    workspace: Workspace, work: Callable[[Transaction], T], subject: Callable[[T], str]
) -> tuple[T, Written]:
    """Run `work` on the newest state and store what it decided, all or nothing.

    `work` may run again when another writer was faster; `subject` makes the log's one line.
    Raises what `work` raises, Busy, Conflict, IoFailed or WalDamaged; then nothing is stored.
    """

    @cache
    def sign_in() -> Signer:
        author = signer(workspace)
        if workspace.wal.dialect.shared:
            # An announcement cannot be stored there, so nobody could verify a signature.
            author = author._replace(announcement=None, seed=None)
        return author

    with workspace.wal.lock():
        for _ in range(APPEND_RETRIES_MAX):
            reader = refresh(workspace, to_write=True)
            transaction = Transaction(reader, sign_in, workspace.now_ms())
            result = work(transaction)
            if not transaction.decided:
                return result, Written((), reader.head())
            head = _append(workspace, reader.head(), transaction, subject(result))
            if head is not None:
                return result, Written(transaction.events, head)
    raise Conflict("the log moved too often while appending; try again")


def store(
    workspace: Workspace,
    events: Sequence[Event],
    subject: str,
    author: Signer,
    attachments: dict[str, bytes] | None = None,
) -> Written:
    """Append sealed events (an import) as they are; those already in the log are left out.

    `author` is who imports; `attachments`: contents by SHA-256 in hex, stored with the first of
    the new events.
    """
    with workspace.wal.lock():
        for _ in range(APPEND_RETRIES_MAX):
            reader = refresh(workspace, to_write=True)
            fresh = [event for event in events if not reader.has_event(event)]
            if not fresh:
                return Written((), reader.head())
            contents = attachments or {}
            head = _publish(workspace, reader.head(), fresh, contents, subject, author)
            if head is not None:
                return Written(fresh, head)
    raise Conflict("the log moved too often while appending; try again")


def _append(
    workspace: Workspace, old: str | None, transaction: Transaction, subject: str
) -> str | None:
    return _publish(
        workspace,
        old,
        transaction.events,
        transaction.attachments,
        subject,
        transaction.author,
    )


def _publish(
    workspace: Workspace,
    old: str | None,
    events: Sequence[Event],
    attachments: dict[str, bytes],
    subject: str,
    author: Signer,
) -> str | None:
    """Append in one or several commits; None when the ref had moved before the first."""
    from grit.git.wal import HeadMoved

    if author.lock_policy != "off":
        from grit.services.lease_policy import check_leases

        check_leases(workspace, events, author)
    wal = workspace.wal
    events = _fit_dialect(workspace, events)
    chunks = list(codec.split_chunks(events, wal.dialect.magic))
    try:
        appended = wal.append(
            chunks,
            old=old,
            message=subject,
            trailers=(),
            ts_unix_ms=events[-1].ts_unix_ms,
            actor_id=author.actor_id,
            event_count=len(events),
            attachments=attachments,
        )
    except HeadMoved:
        return None
    for notice in appended.notices:
        workspace.notice(notice)
    if not appended.durable:
        workspace.notice("stored, but the system did not confirm that it is on the disk")
    show_append(workspace, events, old, appended.head, appended.objects)
    _invite_gc(workspace)
    return appended.head


def _invite_gc(workspace: Workspace) -> None:
    from grit.git.upkeep import invite_gc

    try:
        invite_gc(workspace.repository, workspace.wal.config)
    except (GitFailed, IoFailed) as failure:
        workspace.notice(f"stored; git gc could not be started ({failure.message})")


def _fit_dialect(workspace: Workspace, events: Sequence[Event]) -> Sequence[Event]:
    """Leave out or refuse what the log's dialect cannot hold."""
    if not workspace.wal.dialect.shared:
        return events
    fitting = [event for event in events if event.tag != ACTOR_ANNOUNCED]
    for event in fitting:
        if event.tag > SHARED_TAG_MAX:
            raise InvalidArgs(
                f"this log is shared with a tool that does not know {kind_name(event.tag)}; "
                "grit does not write it here"
            )
    return fitting
