"""Where waiting writers put what they have sealed, for who commits next (spec/wal.md, Queue)."""

import os
from struct import Struct
from typing import Final, NamedTuple, cast
from zlib import crc32

from grit.core.codec import unpack
from grit.core.errors import InvalidEvent, IoFailed
from grit.core.events import Event
from grit.core.ids import ActorId, EventId
from grit.core.issue import Order
from grit.core.limits import EVENT_ID_BYTES, ID_BYTES, LOCK_WAIT_MS_MAX
from grit.files.private import Folder, NotPrivate, write_all
from grit.git.filelock import FileLock
from grit.git.repository import Repository

_VERSION: Final = 2
_NAP_MS_MAX: Final = 4
_WAITING: Final = "queue"
_TAKEN: Final = "queue-taken"
_PLACE_BYTES: Final = ID_BYTES + 8 + ID_BYTES + EVENT_ID_BYTES
_START: Final = Struct(">II")
"""Length and CRC-32 of what follows."""
_HEAD: Final = Struct(f">BBQI{_PLACE_BYTES}s{_PLACE_BYTES}s")
"""Version, flags, known events, events, places of the last event before it and of its own."""
_ACTOR_AT: Final = ID_BYTES + 8
_SHAPE: Final = (bytes, bytes, bytes, bytes)
_ANNOUNCES: Final = 1
_FOLLOWS: Final = 2


class Content(NamedTuple):
    """What only those need who commit an entry, or decide on an issue that it is of."""

    issue_ids: bytes
    """The issues that the events are of, one after another."""
    subject: bytes
    author: bytes
    """As git names the author of a commit, `Name <email>`."""
    chunk: bytes


class Entry(NamedTuple):
    """One write: decided, sealed and signed; nobody has been told that it is stored.

    A place is where an event stands: issue, time (u64 big-endian), actor and event id, 72 bytes.
    """

    known_count: int
    """Events of the log that the decision was made on, entries before this one included."""
    event_count: int
    announces: bool
    """Whether an announcement of the actor is among the events."""
    after: bytes
    """Place of the last event of the entry before this one; empty when none was queued."""
    last: bytes
    """Place of the last event of this entry; its actor wrote all of them."""
    packed: bytes
    """The `Content`: every writer looks at every entry that waits, and at few contents."""

    @property
    def content(self) -> Content | None:
        """What is in it; None where that is foreign."""
        try:
            value = unpack(self.packed)
        except InvalidEvent:
            return None
        if not isinstance(value, tuple) or tuple(map(type, value)) != _SHAPE:
            return None
        return Content(*cast(tuple[bytes, bytes, bytes, bytes], value))

    @property
    def actor_id(self) -> ActorId:
        """Who wrote it."""
        return ActorId(self.last[_ACTOR_AT : _ACTOR_AT + ID_BYTES])

    @property
    def tip(self) -> Order:
        """Time, actor and id of the last event."""
        time = int.from_bytes(self.last[ID_BYTES:_ACTOR_AT], "big")
        return time, self.actor_id, EventId(self.last[_ACTOR_AT + ID_BYTES :])


class Ticket:
    """A place in the queue: the open file tells whether it is still waiting."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """Take over the descriptor of the file that the entry stands in."""
        self._fd = fd

    @property
    def waiting(self) -> bool:
        """Whether the entry is waiting or being committed; if not, the log knows what became."""
        return os.fstat(self._fd).st_nlink > 0

    def is_file(self, found: os.stat_result | None) -> bool:
        """Return whether the entry stands in the file that was looked at."""
        return found is not None and os.path.samestat(os.fstat(self._fd), found)

    def close(self) -> None:
        """Leave the queue."""
        os.close(self._fd)


class Queued(NamedTuple):
    """What is in the queue: entries that somebody commits now, and those that wait."""

    taken: tuple[Entry, ...]
    waiting: tuple[Entry, ...]
    waiting_bytes: int

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in their order."""
        return self.taken + self.waiting


class Spool:
    """The queue of one repository: a file that waiting writers append to, and one being committed.

    Neither is an acknowledgement. `waiting` becomes `taken` by a rename, under both locks;
    `taken` belongs to the holder of the log's lock, who removes it when its events are in the
    log, or when they cannot be. Every method raises IoFailed.
    """

    __slots__ = ("_folder", "repository")

    def __init__(self, repository: Repository) -> None:
        """Open nothing yet."""
        self.repository = repository
        self._folder = repository.private

    def lock(self, wait_ms_max: int = LOCK_WAIT_MS_MAX) -> FileLock:
        """Return the short lock, held while a writer decides and queues.

        Who holds it never waits for the log's lock; who holds that one may wait for this one.
        """
        return FileLock(self._folder, "queue.lock-file", wait_ms_max, nap_ms_max=_NAP_MS_MAX)

    def read(self) -> Queued:
        """Return what is queued; what is torn or foreign is left out. Call under `lock`."""
        waiting, size = _entries(_content(self._folder, _WAITING))
        return Queued(self.taken(), waiting, size)

    def taken(self) -> tuple[Entry, ...]:
        """Return what is being committed, or what a killed process left of that."""
        return _entries(_content(self._folder, _TAKEN))[0]

    def append(self, entry: Entry, queued: Queued) -> Ticket:
        """Queue an entry behind those that `read` found under the same lock."""
        data = _encode(entry)
        try:
            with self._folder.open() as folder:
                fd = folder.open(_WAITING, os.O_RDWR | os.O_CREAT)
            try:
                if os.fstat(fd).st_size != queued.waiting_bytes:
                    os.ftruncate(fd, queued.waiting_bytes)  # a killed writer's torn end
                os.lseek(fd, queued.waiting_bytes, os.SEEK_SET)
                write_all(fd, data)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise _failed("write", error) from error
        return Ticket(fd)

    def take(self) -> None:
        """Let what waits be taken. Call under both locks, with nothing taken."""
        try:
            with self._folder.open() as folder:
                if folder.look(_WAITING) is not None:
                    folder.move(_WAITING, _TAKEN)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed("take", error) from error

    def finish(self) -> None:
        """Forget what was taken. Call under the log's lock."""
        self._remove(_TAKEN)

    def withdraw(self, ticket: Ticket) -> bool:
        """Take the entry back if it still waits; return whether it did.

        All entries that wait with it go too: their writers see it and start over.
        Call under `lock`.
        """
        try:
            with self._folder.open() as folder:
                found = folder.look(_WAITING)
        except OSError as error:
            raise _failed("clear", error) from error
        if ticket.is_file(found):
            self._remove(_WAITING)
            return True
        return False

    def _remove(self, name: str) -> None:
        try:
            with self._folder.open() as folder:
                if folder.look(name) is not None:
                    folder.remove(name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed("clear", error) from error


def place_of(event: Event) -> bytes:
    """Return where an event stands, as `Entry` keeps it."""
    time = event.ts_unix_ms.to_bytes(8, "big")
    return event.issue_id + time + event.actor_id + event.event_id


def _encode(entry: Entry) -> bytes:
    flags = _ANNOUNCES * entry.announces + _FOLLOWS * bool(entry.after)
    body = (
        _HEAD.pack(_VERSION, flags, entry.known_count, entry.event_count, entry.after, entry.last)
        + entry.packed
    )
    return _START.pack(len(body), crc32(body)) + body


def _entries(data: bytes) -> tuple[tuple[Entry, ...], int]:
    """Return the entries up to the first that is torn or foreign, and how many bytes they take."""
    entries = []
    at = 0
    least = _START.size + _HEAD.size
    while at + least <= len(data):
        size, checksum = _START.unpack_from(data, at)
        body = data[at + _START.size : at + _START.size + size]
        if not _HEAD.size <= size == len(body) or crc32(body) != checksum:
            break
        version, flags, known_count, event_count, after, last = _HEAD.unpack_from(body)
        if version != _VERSION:
            break
        announces = bool(flags & _ANNOUNCES)
        after = after if flags & _FOLLOWS else b""
        packed = body[_HEAD.size :]
        entries.append(Entry(known_count, event_count, announces, after, last, packed))
        at += _START.size + size
    return tuple(entries), at


def _content(folder: Folder, name: str) -> bytes:
    try:
        with folder.open() as opened:
            return opened.read(name, cut=True)  # no writer lets it grow that long
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _failed("read", error) from error


def _failed(what: str, error: OSError) -> IoFailed:
    what = f"cannot {what} the queue of writers: {error.strerror}"
    told = str(error) if isinstance(error, NotPrivate) else what
    return IoFailed(f"{told}; head unchanged", errno=error.errno)
