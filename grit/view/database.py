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
from grit.files.private import Folder, NotPrivate
from grit.view.trust import Mark, ViewDoubt, look, read_mark, write_mark
from grit.view.writer_lock import WriterLock

Txn: TypeAlias = "lmdb.Transaction[bytes]"
T = TypeVar("T")

MAP_BYTES: Final = 64 * 1024 * 1024
"""Address space taken at first; it grows on demand."""
_DATA: Final = "data.mdb"
_LOCK: Final = "lock.mdb"
_MARK: Final = "mark"
_BUILD: Final = "build"
_HEADING: Final = "grit/view"
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

    def __init__(self, folder: Folder, *, map_bytes: int = MAP_BYTES) -> None:
        self.directory: Final = folder.path
        self._folder = folder
        self._map_bytes = map_bytes
        self._lock = WriterLock(folder)
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
        return Database(Folder(directory, (), _HEADING))

    def exists(self) -> bool:
        """Return whether there is a data file, good or bad, or something else in its place."""
        try:
            return self._look() is not None
        except OSError:
            return True

    @property
    def size_bytes(self) -> int:
        """The size of the data file, 0 where there is none; raises OSError."""
        seen = self._look()
        return seen.size_bytes if seen else 0

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
        with self._folder.open(make=True) as folder:
            for name in (_DATA, _LOCK, _MARK, _BUILD):
                folder.look(name)
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
                with self._folder.open() as folder:
                    write_mark(folder, _MARK, look(folder, _DATA) if sound else None)

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
            again = self._seen_and_marked()[1]
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
            seen = self._look()
            if seen is not None and seen.inode == inode and self._sound():
                self._copy()
        finally:
            self._lock.release()

    def _copy(self) -> None:
        import shutil

        self._make_build()
        with self._folder.open() as folder, folder.below(_BUILD) as build:
            new_fd = build.open(_DATA, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with os.fdopen(folder.open(_DATA), "rb") as old, os.fdopen(new_fd, "wb") as new:
                shutil.copyfileobj(old, new)
                new.flush()
                os.fsync(new.fileno())  # a power loss must not leave holes under a mark that fits
        self._switch()
        with self._folder.open() as folder:
            folder.remove_tree(_BUILD)

    def _make_build(self) -> None:
        """Make the folder of a new file, without what an earlier try left."""
        with self._folder.open() as folder:
            folder.remove_tree(_BUILD)
            folder.below(_BUILD, make=True).close()

    def _trusted(self) -> Mark:
        """Return the mark of a file that may be opened, or raise ViewDoubt."""
        for _ in range(_PROBES_MAX):
            seen, mark = self._seen_and_marked()
            if seen is None:
                raise ViewDoubt("absent", "there is no view yet")
            if mark == seen:
                return mark
            if mark is not None and mark.schema != seen.schema:
                raise ViewDoubt("schema", f"the view has layout {mark.schema}")
            try:
                free = self._lock.try_acquire()
            except NotPrivate as error:
                raise ViewDoubt("refused", str(error)) from error
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
        seen, mark = self._seen_and_marked()
        return seen is not None and seen.inode != self._damaged_inode and seen == mark

    def _open_checked(self) -> None:
        seen = self._look()
        if seen is None:
            raise ViewDoubt("absent", "there is no view yet")
        if not self._sound():
            raise ViewDoubt("changed", "the view is not the one that grit left")
        if not self._is_open(seen.inode):
            self._open(self.directory, seen.inode)
        self._lock.note("checked")

    def _is_open(self, inode: int) -> bool:
        return self._env is not None and self._inode == inode and self._pid == os.getpid()

    def _look(self) -> Mark | None:
        """Return what the data file is, None without one."""
        try:
            with self._folder.open() as folder:
                return look(folder, _DATA)
        except FileNotFoundError:
            return None

    def _seen_and_marked(self) -> tuple[Mark | None, Mark | None]:
        """Return what the data file is, and the mark; ViewDoubt where something else lies."""
        try:
            with self._folder.open() as folder:
                return look(folder, _DATA), read_mark(folder, _MARK)
        except FileNotFoundError:
            return None, None
        except NotPrivate as error:
            raise ViewDoubt("refused", str(error)) from error

    def _check_files(self) -> None:
        """Look at the files that LMDB opens by their paths."""
        try:
            with self._folder.open() as folder:
                for name in (_DATA, _LOCK):
                    folder.look(name)
        except NotPrivate as error:
            raise ViewDoubt("refused", str(error)) from error

    def _open(self, directory: str, inode: int) -> None:
        self.close()
        other = _OPENED.get(directory)
        if other is not None and not (other._reads or other._lock.held):
            other.close()  # it opens the view again when it is used again
        building = self._building
        if not building:
            self._check_files()
        size_bytes = 0 if building else self.size_bytes
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
        try:
            self._make_build()
            self._building = True
            self._open(os.path.join(self.directory, _BUILD), 0)
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
            with suppress(OSError), self._folder.open() as folder:
                folder.remove_tree(_BUILD)

    def _switch(self) -> None:
        """Put the built file in place; the mark keeps readers from opening a mixed pair."""
        with self._folder.open() as folder, folder.below(_BUILD) as build:
            write_mark(folder, _MARK, None)
            with suppress(FileNotFoundError):
                folder.remove(_LOCK)
            build.move(_DATA, _DATA, folder)
            write_mark(folder, _MARK, look(folder, _DATA))
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
