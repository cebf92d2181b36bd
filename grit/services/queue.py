"""Group commit: who finds the log busy queues, and one writer commits for all that wait.

The rules, and why nothing is lost or stored twice, stand in spec/wal.md (Queue).
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from grit.core import codec
from grit.core.errors import Busy, Conflict, GritError, IoFailed
from grit.core.events import Event
from grit.core.ids import ActorId, EventId
from grit.core.limits import APPEND_RETRIES_MAX, LOCK_WAIT_MS_MAX
from grit.files.lock import nap
from grit.git.filelock import FileLock
from grit.git.spool import Content, Entry, Spool, Ticket
from grit.services.append import Label, append_events, tell_not_durable
from grit.services.refresh import refresh
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

_NAP_MS: Final = 0.2
"""Of all who wait, one looks about this often whether the log is free; less often in time."""
_NAP_MS_MAX: Final = 20.0
_NAP_GROWTH: Final = 0.01
"""What a nap grows by, as a part of the time waited so far."""
_WITHDRAW_WAIT_MS: Final = 500
_MOVED: Final = "the log moved too often while appending; try again"


def settle(workspace: Workspace, spool: Spool) -> ViewReader:
    """Commit whatever is queued, and return a reader of the state after it.

    The caller holds both locks. Raises what an append raises; what was queued starts over then.
    """
    for _ in range(APPEND_RETRIES_MAX):
        reader = refresh(workspace, to_write=True)
        taken = _next(spool)
        if not taken:
            return reader
        commit(workspace, spool, reader, taken)
    raise Conflict(_MOVED)


def lead(workspace: Workspace, spool: Spool, ticket: Ticket, last: bytes) -> bool:
    """Commit for everybody who waits; return whether the event at place `last` is stored.

    False: the state it was decided on is not the log's any more. The caller holds the log's lock.
    """
    for _ in range(APPEND_RETRIES_MAX):
        reader = refresh(workspace, to_write=True)
        if reader.standing((last,))[1][0]:
            return True
        if not ticket.waiting:
            return False
        with spool.lock():
            taken = _next(spool)
        if last in commit(workspace, spool, reader, taken):
            return True
    raise Conflict(_MOVED)


def follow(workspace: Workspace, spool: Spool, ticket: Ticket, last: bytes, place: int) -> bool:
    """Wait until somebody has committed the entry, or commit it as soon as the log is free.

    `place` counts who waits. Returns as `lead`. Raises Busy after LOCK_WAIT_MS_MAX, and what an
    append raises; the entry is withdrawn then.
    """
    lock = workspace.wal.lock()
    try:
        if _wait(ticket, lock, place) or not _is_shown(workspace, last):
            if not lock.held:
                lock.acquire()
            return lead(workspace, spool, ticket, last)
    except Busy as busy:
        if not _withdraw(spool, ticket):
            raise _uncertain(busy) from busy
        raise
    except BaseException:
        _withdraw(spool, ticket)
        raise
    finally:
        lock.release()
    if not workspace.wal.sync_ref():
        tell_not_durable(workspace)
    return True


def commit(
    workspace: Workspace,
    spool: Spool,
    reader: ViewReader,
    taken: Sequence[Entry],
    own: Collection[EventId] = (),
    *,
    alone: bool = False,
) -> set[bytes]:
    """Append what was taken, as one commit; return the places that are stored now.

    `own` are events that this process has just signed; `alone`: nobody else waits for them.
    Entries that the log holds already are skipped; those decided on another state are dropped,
    and their writers start over. Nothing is returned when the ref moved meanwhile.
    """
    try:
        entries, contents, events = _acceptable(reader, taken)
        if entries:
            label = _label(entries[0].actor_id, contents)
            old = reader.head()
            if append_events(workspace, old, events, label, None, own, alone=alone) is None:
                return set()
    except BaseException as failure:
        # Whatever it is, the other writers find out by themselves.
        forget(spool.finish, failure)
        raise
    try:
        spool.finish()
    except IoFailed:
        if not entries:
            raise
        # They are in the log, and whoever comes next sees that.
    return {entry.last for entry in entries}


def forget(undo: Callable[[], object], failure: BaseException) -> None:
    """Take something out of the queue after a failure; raise an uncertain one if that fails."""
    try:
        undo()
    except IoFailed:
        if isinstance(failure, GritError):
            raise _uncertain(failure) from failure


def _uncertain(failure: GritError) -> GritError:
    what = f"{failure.message}; it may still be stored: look before you try again"
    return type(failure)(what, **failure.details)


def _next(spool: Spool) -> Sequence[Entry]:
    """Return what a killed process had taken, else take what waits; call under both locks."""
    taken = spool.taken()
    if not taken:
        spool.finish()  # nothing readable is in it
        spool.take()
        taken = spool.taken()
        if not taken:
            spool.finish()
    return taken


def _acceptable(
    reader: ViewReader, taken: Sequence[Entry]
) -> tuple[list[Entry], list[Content], list[Event]]:
    """Return the entries that follow each other on the log as it is, and what is in them."""
    count, held = reader.standing([place for entry in taken for place in (entry.last, entry.after)])
    entries: list[Entry] = []
    contents: list[Content] = []
    events: list[Event] = []
    for number, entry in enumerate(taken):
        stored, after_stored = held[2 * number : 2 * number + 2]
        if stored:
            continue
        follows = not entry.after or after_stored
        if entries:
            follows = entry.after == entries[-1].last
        content = entry.content
        if not follows or content is None or entry.known_count != count:
            break
        decoded = codec.decode_chunk(content.chunk)
        if decoded.problems or len(decoded.records) != entry.event_count:
            break
        entries.append(entry)
        contents.append(content)
        events += [event for event, _ in decoded.records]
        count += entry.event_count
    return entries, contents, events


def _label(actor_id: ActorId, contents: Sequence[Content]) -> Label:
    subjects = [content.subject.decode(errors="replace") for content in contents]
    authors = list(dict.fromkeys(content.author.decode(errors="replace") for content in contents))
    if len(contents) == 1:
        return Label(subjects[0], actor_id, authors[0])
    trailers = [f"Write: {subject}" for subject in subjects]
    trailers += [f"Co-authored-by: {author}" for author in authors[1:]]
    return Label(f"{len(contents)} writes: {'; '.join(subjects)}", actor_id, authors[0], trailers)


def _wait(ticket: Ticket, lock: FileLock, place: int) -> bool:
    """Return True with the lock held, False when the entry is not queued any more."""
    started = time.monotonic()
    while ticket.waiting:
        if lock.try_acquire():
            return True
        waited_ms = (time.monotonic() - started) * 1000
        if waited_ms >= LOCK_WAIT_MS_MAX:
            raise lock.busy()
        nap(min(_NAP_MS * (place + 1) + _NAP_GROWTH * waited_ms, _NAP_MS_MAX))
    return False


def _is_shown(workspace: Workspace, last: bytes) -> bool:
    """Return whether the view shows the event; False says nothing, it may be behind."""
    try:
        return ViewReader(workspace.database).standing((last,))[1][0]
    except (ViewDoubt, OSError):
        return False


def _withdraw(spool: Spool, ticket: Ticket) -> bool:
    """Return whether the entry was taken back, so that nobody will store it."""
    try:
        with spool.lock(_WITHDRAW_WAIT_MS):
            return spool.withdraw(ticket)
    except GritError:
        return False
