"""Where waiting writers put what they have sealed, for who commits next (spec/wal.md, Queue)."""

import os
from typing import Final, NamedTuple, cast
from zlib import crc32

from grit.core.codec import pack, unpack
from grit.core.errors import InvalidEvent, IoFailed
from grit.core.events import Event
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Order
from grit.core.limits import EVENT_ID_BYTES, ID_BYTES, LOCK_WAIT_MS_MAX, QUEUE_BYTES_MAX
from grit.git.filelock import FileLock
from grit.git.repository import Repository

_VERSION: Final = 1
_NAP_MS_MAX: Final = 4
_READ_BYTES_MAX: Final = 2 * QUEUE_BYTES_MAX
"""No writer lets a queue grow that long: what lies beyond is foreign."""
_HEAD_BYTES: Final = 8
"""Length and CRC-32 of what follows, 32 bits each, big-endian."""
_SHAPE: Final = (int, int, int, int, bytes, bytes, bytes, bytes, bytes, bytes)
_Fields = tuple[int, int, int, bytes, bytes, bytes, bytes, bytes, bytes]
_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_PLACE_BYTES: Final = ID_BYTES + 8 + ID_BYTES + EVENT_ID_BYTES


class Entry(NamedTuple):
    """One write: decided, sealed and signed; nobody has been told that it is stored.

    A place is where an event stands: issue, time (u64 big-endian), actor and event id, 72 bytes.
    """

    known_count: int
    """Events of the log that the decision was made on, entries before this one included."""
    event_count: int
    announces: int
    """1 when an announcement of the actor is among the events."""
    after: bytes
    """Place of the last event of the entry before this one; empty when none was queued."""
    last: bytes
    """Place of the last event of this entry; its actor wrote all of them."""
    issue_ids: bytes
    """The issues that the events are of, one after another."""
    subject: bytes
    author: bytes
    """As git names the author of a commit, `Name <email>`."""
    chunk: bytes

    @property
    def tip(self) -> Order:
        """Time, actor and id of the last event."""
        place = self.last[ID_BYTES:]
        actor_id = ActorId(place[8 : 8 + ID_BYTES])
        return int.from_bytes(place[:8], "big"), actor_id, EventId(place[8 + ID_BYTES :])

    def holds(self, issue_id: IssueId) -> bool:
        """Return whether events of the issue are among these."""
        ids = self.issue_ids
        if ids.find(issue_id) < 0:  # most are told apart at once
            return False
        return any(ids[at : at + ID_BYTES] == issue_id for at in range(0, len(ids), ID_BYTES))


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

    def is_file(self, path: str) -> bool:
        """Return whether the entry stands in the file of that name."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(path))
        except FileNotFoundError:
            return False

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

    __slots__ = ("_taken", "_waiting", "repository")

    def __init__(self, repository: Repository) -> None:
        """Open nothing yet."""
        self.repository = repository
        self._waiting = f"{repository.grit_dir}/queue"
        self._taken = f"{repository.grit_dir}/queue-taken"

    def lock(self, wait_ms_max: int = LOCK_WAIT_MS_MAX) -> FileLock:
        """Return the short lock, held while a writer decides and queues.

        Who holds it never waits for the log's lock; who holds that one may wait for this one.
        """
        return FileLock(f"{self._waiting}.lock-file", wait_ms_max, nap_ms_max=_NAP_MS_MAX)

    def read(self) -> Queued:
        """Return what is queued; what is torn or foreign is left out. Call under `lock`."""
        waiting, size = _entries(_content(self._waiting))
        return Queued(self.taken(), waiting, size)

    def taken(self) -> tuple[Entry, ...]:
        """Return what is being committed, or what a killed process left of that."""
        return _entries(_content(self._taken))[0]

    def append(self, entry: Entry, queued: Queued) -> Ticket:
        """Queue an entry behind those that `read` found under the same lock."""
        from grit.git.objects import write_all

        data = _encode(entry)
        try:
            flags = os.O_RDWR | os.O_CREAT | _BINARY
            fd = os.open(self._waiting, flags, 0o666)
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
            os.rename(self._waiting, self._taken)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed("take", error) from error

    def finish(self) -> None:
        """Forget what was taken. Call under the log's lock."""
        _remove(self._taken)

    def withdraw(self, ticket: Ticket) -> bool:
        """Take the entry back if it still waits; return whether it did.

        All entries that wait with it go too: their writers see it and start over.
        Call under `lock`.
        """
        if ticket.is_file(self._waiting):
            _remove(self._waiting)
            return True
        return False


def place_of(event: Event) -> bytes:
    """Return where an event stands, as `Entry` keeps it."""
    time = event.ts_unix_ms.to_bytes(8, "big")
    return event.issue_id + time + event.actor_id + event.event_id


def _encode(entry: Entry) -> bytes:
    body = pack((_VERSION, *entry))
    return len(body).to_bytes(4, "big") + crc32(body).to_bytes(4, "big") + body


def _entries(data: bytes) -> tuple[tuple[Entry, ...], int]:
    """Return the entries up to the first that is torn or foreign, and how many bytes they take."""
    entries = []
    at = 0
    while True:
        end = at + _HEAD_BYTES + int.from_bytes(data[at : at + 4], "big")
        body = data[at + _HEAD_BYTES : end]
        if not body or end > len(data) or crc32(body).to_bytes(4, "big") != data[at + 4 : at + 8]:
            break
        entry = _decode(body)
        if entry is None:
            break
        entries.append(entry)
        at = end
    return tuple(entries), at


def _decode(body: bytes) -> Entry | None:
    try:
        value = unpack(body)
    except InvalidEvent:
        return None
    if not isinstance(value, tuple) or tuple(map(type, value)) != _SHAPE or value[0] != _VERSION:
        return None
    entry = Entry(*cast(_Fields, value[1:]))
    whole = len(entry.last) == _PLACE_BYTES and len(entry.after) in (0, _PLACE_BYTES)
    return entry if whole else None


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_READ_BYTES_MAX)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _failed("read", error) from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed("clear", error) from error


def _failed(what: str, error: OSError) -> IoFailed:
    return IoFailed(
        f"cannot {what} the queue of writers: {error.strerror}; head unchanged", errno=error.errno
    )
