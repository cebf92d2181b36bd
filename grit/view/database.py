"""The LMDB environment of the view: trust, locking, map growth, rebuilding aside (spec/view.md)."""

import os
import time
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import lmdb

from grit.core.errors import Busy, IoFailed
from grit.core.limits import LOCK_WAIT_MS_MAX, READER_WAIT_MS_MAX
from grit.view.trust import Mark, ViewDoubt, look, read_mark, write_mark
from grit.view.writer_lock import WriterLock

Txn: TypeAlias = "lmdb.Transaction[bytes]"
T = TypeVar("T")

MAP_BYTES: Final = 64 * 1024 * 1024
"""Address space taken at first; it grows on demand."""
_DATA: Final = "data.mdb"
_LOCK: Final = "lock.mdb"
_BUILD: Final = "build"
_PROBES_MAX: Final = 50
_READERS_MAX: Final = 510
_NAP_S: Final = 0.02
_DAMAGE: Final = (
    lmdb.BadTxnError,
    lmdb.CorruptedError,
    lmdb.CursorFullError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageFullError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.ProblemError,
    lmdb.VersionMismatchError,
)
"""What LMDB says of a file that is not what it should be; its "internal errors" are such, too:
nothing but a garbled page leads to them. Nothing else says anything about the file."""
_FULL: Final = (lmdb.ReadersFullError, lmdb.TlsFullError)
"""There are more readers than there is room for; one of them will be done soon."""


class Database:
    """One view directory. Opens nothing until it is used, and reopens after a fork or a rebuild.

    One process opens one view through one Database at a time (LMDB's rule): who opens it closes
    it for the one before, unless that is in the middle of a read or a write.
    """

    def __init__(self, directory: str, *, map_bytes: int = MAP_BYTES) -> None:
        self.directory: Final = directory
        self._map_bytes = map_bytes
        self._data_path = os.path.join(directory, _DATA)
        self._mark_path = os.path.join(directory, "mark")
        self._build_path = os.path.join(directory, _BUILD)
        self._lock = WriterLock(os.path.join(directory, "writer.lock"))
        self._env: lmdb.Environment | None = None
        self._pid = 0
        self._inode = 0
        self._damaged_inode = 0
        self._building = False
        self._reads: dict[int, Txn] = {}
        """The read transaction that each thread has open."""
        self.transactions = 0
        """Transactions opened so far; tests count them."""
        self.openings = 0
        """Files opened so far: while it stays, all transactions were on one and the same file."""

    @staticmethod
    def temporary() -> "Database":
        """Return a view in a private folder that is removed when the process exits."""
        import atexit
        import shutil
        import tempfile

        directory = tempfile.mkdtemp(prefix="grit-view-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        return Database(directory)

    def exists(self) -> bool:
        """Return whether there is a data file, good or bad."""
        return os.path.exists(self._data_path)

    @property
    def building(self) -> bool:
        """Whether an empty file is being filled that nobody else sees (`replacing`)."""
        return self._building

    def close(self) -> None:
        """Close the environment; the next use opens it again."""
        env, self._env = self._env, None
        self._reads.clear()
        if env is not None:
            env.close()

    @contextmanager
    def reading(self) -> Iterator[Txn]:
        """Give a read transaction on a trusted file; keep it short, and give out plain values.

        Raises ViewDoubt when the view must be rebuilt first.
        """
        thread = get_ident()
        known = self._reads.get(thread)
        if known is not None and self._pid == os.getpid():
            yield known  # whoever asks inside a read sees the same moment
            return
        env = self._trusted_env()
        try:
            with self._begin(env, write=False) as txn:
                self._reads[thread] = txn
                yield txn
        except ViewDoubt:
            self._damaged_inode = self._inode
            raise
        except lmdb.Error as error:
            if isinstance(error, _DAMAGE):
                self._damaged_inode = self._inode
            raise _told(error, "read") from error
        finally:
            self._reads.pop(thread, None)

    @contextmanager
    def exclusive(self, wait_ms_max: int = LOCK_WAIT_MS_MAX) -> Iterator[None]:
        """Hold the writers' lock over a trusted file.

        Raises Busy when the lock is not free in time, ViewDoubt when the view must be rebuilt.
        """
        try:
            self._lock.acquire(wait_ms_max)
        except FileNotFoundError as error:
            raise ViewDoubt("absent", "there is no view yet") from error
        try:
            self._open_checked()
            yield
        finally:
            self._lock.release()

    @contextmanager
    def exclusive_if_free(self) -> Iterator[bool]:
        """Hold the writers' lock if nobody else does and the view can be written, else give False.

        Raises ViewDoubt when the view must be rebuilt first.
        """
        try:
            free = self._lock.try_acquire()
        except OSError:
            free = False
        try:
            if free:
                self._open_checked()
            yield free
        finally:
            self._lock.release()

    @contextmanager
    def replacing(self, *, force: bool = False) -> Iterator[None]:
        """Hold the writers' lock and fill an empty file that takes the old one's place at the end.

        Until then others read the old one. Without `force`, a file that turns out to be sound
        once the lock is held (another process rebuilt it) is written as in `exclusive`.
        Raises Busy, and IoFailed or OSError where the folder cannot be written.
        """
        # Never the git directory itself: a repository that was moved away is not to come back.
        for folder in (os.path.dirname(self.directory), self.directory):
            with suppress(FileExistsError):
                os.mkdir(folder)
        self._lock.acquire()
        try:
            if not force and self._sound():
                self._open_checked()
                yield
            else:
                yield from self._build()
        finally:
            self._lock.release()

    def write(self, work: Callable[[Txn], T], *, need_bytes: int = 0) -> T:
        """Run `work` in one write transaction, again from the start whenever the map was full.

        `need_bytes` is a guess of what it will add. The caller holds the writers' lock.
        Raises IoFailed when the disk is full, ViewDoubt when the file is damaged.
        """
        assert self._lock.held and self._env is not None, "the writers' lock is not held"
        self._reserve(self._env, need_bytes)
        sound = True
        try:
            while True:
                try:
                    with self._begin(self._env, write=True) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self._reserve(self._env, self._env.info()["map_size"])
        except ViewDoubt as doubt:
            sound = False
            raise ViewDoubt("damaged", f"the view cannot be written: {doubt}") from doubt
        except lmdb.Error as error:
            sound = not isinstance(error, _DAMAGE)
            raise _told(error, "written") from error
        finally:
            # Also after a failure: LMDB left the last good state, and this process knows it.
            if not self._building:
                write_mark(self._mark_path, look(self._data_path) if sound else None)

    def _begin(self, env: lmdb.Environment, *, write: bool) -> Txn:
        self.transactions += 1
        try:
            return env.begin(write=write)
        except lmdb.MapResizedError:
            env.set_mapsize(0)
        except lmdb.ReadersFullError:
            env.reader_check()  # those of killed processes are in the way
        return env.begin(write=write)

    def _reserve(self, env: lmdb.Environment, need_bytes: int) -> None:
        """Let the map hold `need_bytes` more; only between transactions."""
        info = env.info()
        used = (info["last_pgno"] + 1) * env.stat()["psize"]
        if need_bytes and used + need_bytes > info["map_size"]:
            env.set_mapsize(max(2 * info["map_size"], used + need_bytes))

    def _trusted_env(self) -> lmdb.Environment:
        if self._lock.held:
            assert self._env is not None
            return self._env
        crowded = False
        for _ in range(_PROBES_MAX):
            mark = self._trusted()
            if self._is_open(mark.inode):
                assert self._env is not None
                return self._env
            try:
                self._open(self.directory, mark.inode)
            except Busy:
                if crowded:
                    raise
                self._leave_readers(mark.inode)
                crowded = True
                continue
            # A rebuild may have switched the files while they were opened.
            again = read_mark(self._mark_path)
            if again is None or again.inode != mark.inode:
                self.close()
        raise ViewDoubt("changed", "the view is replaced again and again")

    def _leave_readers(self, inode: int) -> None:
        """Give the rows a new file, and so a new table of readers.

        Slots of killed processes can be cleared by one that has the file open, and nobody can open
        it while the table is full. Live readers are waited for first. Raises Busy.
        """
        deadline = time.monotonic() + READER_WAIT_MS_MAX / 1000
        while time.monotonic() < deadline:
            time.sleep(_NAP_S)
            try:
                return self._open(self.directory, inode)
            except Busy:
                continue
        self._lock.acquire(READER_WAIT_MS_MAX)
        try:
            seen = look(self._data_path)
            if seen is not None and seen.inode == inode and self._sound():
                self._copy()
        finally:
            self._lock.release()

    def _copy(self) -> None:
        import shutil

        shutil.rmtree(self._build_path, ignore_errors=True)
        os.makedirs(self._build_path)
        copy = os.path.join(self._build_path, _DATA)
        with open(self._data_path, "rb") as old, open(copy, "xb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())  # a power loss must not leave holes under a mark that fits
        self._switch()
        shutil.rmtree(self._build_path, ignore_errors=True)

    def _trusted(self) -> Mark:
        """Return the mark of a file that may be opened, or raise ViewDoubt."""
        for _ in range(_PROBES_MAX):
            seen, mark = look(self._data_path), read_mark(self._mark_path)
            if seen is None:
                raise ViewDoubt("absent", "there is no view yet")
            if mark == seen:
                return mark
            if mark is not None and mark.schema != seen.schema:
                raise ViewDoubt("schema", f"the view has layout {mark.schema}")
            try:
                free = self._lock.try_acquire()
            except OSError:
                break
            if free:
                sound = self._sound()
                self._lock.release()
                if not sound:
                    break
            elif self._lock.holder()[1] == "checked":
                if mark is not None and mark.inode == seen.inode:
                    return mark
            else:
                time.sleep(0.001)
        raise ViewDoubt("changed", "the view is not the one that grit left")

    def _sound(self) -> bool:
        """Whether the file is the one marked, under the lock, and nothing spoke against it."""
        seen = look(self._data_path)
        if seen is None or seen.inode == self._damaged_inode:
            return False
        return seen == read_mark(self._mark_path)

    def _open_checked(self) -> None:
        seen = look(self._data_path)
        if seen is None:
            raise ViewDoubt("absent", "there is no view yet")
        if not self._sound():
            raise ViewDoubt("changed", "the view is not the one that grit left")
        if not self._is_open(seen.inode):
            self._open(self.directory, seen.inode)
        self._lock.note("checked")

    def _is_open(self, inode: int) -> bool:
        return self._env is not None and self._inode == inode and self._pid == os.getpid()

    def _open(self, directory: str, inode: int) -> None:
        self.close()
        other = _OPENED.get(directory)
        if other is not None and not (other._reads or other._lock.held):
            other.close()  # it opens the view again when it is used again
        building = directory == self._build_path
        size_bytes = 0 if building else os.stat(self._data_path).st_size
        writable = os.access(directory, os.W_OK)
        try:
            self._env = lmdb.open(
                os.fsencode(directory),  # a path may be bytes that are no text
                map_size=max(self._map_bytes, size_bytes + size_bytes // 4),
                create=building,
                readonly=not writable,
                lock=writable,
                sync=not building,
                # A lost last transaction is caught up; a torn one cannot happen.
                metasync=False,
                readahead=False,
                mode=0o666,
                # A kept transaction would not survive that a forked child closes its copy.
                max_spare_txns=0,
                max_readers=_READERS_MAX,
            )
        except lmdb.Error as error:
            if building:
                raise IoFailed(f"the view cannot be built: {error}") from error
            if isinstance(error, _DAMAGE):
                self._damaged_inode = inode
            raise _told(error, "opened") from error
        self._inode, self._pid = inode, os.getpid()
        _OPENED[directory] = self
        self.openings += 1

    def _build(self) -> Iterator[None]:
        import shutil

        shutil.rmtree(self._build_path, ignore_errors=True)
        os.makedirs(self._build_path)
        try:
            self._building = True
            self._open(self._build_path, 0)
            yield
            assert self._env is not None
            try:
                self._env.sync(True)
            except lmdb.Error as error:
                raise IoFailed(f"the view cannot be written: {error}") from error
            self.close()
            self._switch()
        finally:
            self._building = False
            self.close()
            shutil.rmtree(self._build_path, ignore_errors=True)

    def _switch(self) -> None:
        """Put the built file in place; the mark keeps readers from opening a mixed pair."""
        write_mark(self._mark_path, None)
        lock_path = os.path.join(self.directory, _LOCK)
        if os.path.lexists(lock_path):
            os.unlink(lock_path)
        os.replace(os.path.join(self._build_path, _DATA), self._data_path)
        write_mark(self._mark_path, look(self._data_path))
        self._damaged_inode = 0


def _told(error: lmdb.Error, what: str) -> ViewDoubt | Busy | IoFailed:
    """Return what to raise for an error of LMDB: only damage leads to a rebuild."""
    if isinstance(error, _DAMAGE):
        return ViewDoubt("damaged", f"the view cannot be {what}: {error}")
    if isinstance(error, _FULL):
        return Busy(f"busy: too many processes read the view at once ({error})")
    return IoFailed(f"the view cannot be {what}: {error}")


_OPENED: Final[WeakValueDictionary[str, Database]] = WeakValueDictionary()
"""Who has opened a directory last, in this process."""
