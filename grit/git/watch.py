"""Watching the refs of the log: when they moved; the only door to watchdog (spec/watch.md)."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from grit.core.errors import GritError
from grit.git.refs import GRIT_REF, GRITE_REF, read_ref
from grit.git.repository import Repository
from grit.git.tracking import tracked_heads

if TYPE_CHECKING:
    from logging import Logger
    from types import TracebackType

    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver, ObservedWatch

Mode = Literal["events", "polling"]

POLL_MS: Final = 5_000
"""How often the refs are compared where the system does not report changes."""
CHECK_MS: Final = 60_000
"""How often they are compared where it does, to notice a system that reports nothing."""
DOUBT_MS: Final = 2_000
"""How long the report of a change that was seen may take."""

_LOGS: Final = (GRIT_REF, GRITE_REF)
_NAME: Final = "wal"
_ROOTS: Final = ("grit", "grite", "grit-remotes", "grite-remotes")
_IN_COMMON: Final = frozenset({"packed-refs", "refs", "reftable"})
_BESIDE: Final = frozenset({"locks", "snapshots"})
"""Folders of refs beside a log: they can be many, and move no log."""
_FOLDERS_MAX: Final = 256
_REMOTE_TYPES: Final = (
    "nfs", "cifs", "smb", "9p", "virtiofs", "afs", "ceph", "gluster", "lustre", "gpfs", "beegfs",
    "vboxsf", "vmhgfs", "prl_fs", "drvfs", "ocfs2", "gfs2", "fuse.",
)  # fmt: skip
_MOUNTS: Final = "/proc/self/mountinfo"


class Watcher:
    """Tells when the log's ref, or what was fetched of other logs, moved (spec/watch.md).

    A context manager; its threads sleep in the kernel while nothing happens. Where the refs stood
    on entry is known: look once after that. `raw_events` counts what the system reported, `reason`
    says why `mode` is "polling".
    """

    def __init__(
        self,
        repository: Repository,
        *,
        poll_ms: int = POLL_MS,
        check_ms: int = CHECK_MS,
        doubt_ms: int = DOUBT_MS,
    ) -> None:
        """Watch nothing yet."""
        self.mode: Mode = "events"
        self.reason: str | None = None
        self.raw_events = 0
        self.gone = False
        """Whether the repository was deleted, or moved away, or is another one now."""
        self._repository = repository
        self._common = os.path.realpath(repository.common_dir)
        self._spans_s = {"polling": poll_ms / 1000, "events": check_ms / 1000}
        self._doubt_s = doubt_ms / 1000
        self._doubt: float | None = None
        self._due = 0.0
        self._observer: BaseObserver | None = None
        self._handler: FileSystemEventHandler | None = None
        self._watches: dict[str, ObservedWatch] = {}
        self._stale: deque[str] = deque()
        self._inode: tuple[int, int] | None = None
        self._ids: list[str] = []
        self._pipe = (-1, -1)
        self._unlisten: Callable[[], None] | None = None

    def __enter__(self) -> "Watcher":
        """Watch from here on; where that is not possible, `mode` is "polling"."""
        self._pipe = os.pipe()
        for fd in self._pipe:
            os.set_blocking(fd, False)
        self._inode = _inode(self._common)
        kind = network_type(self._common)
        if kind is not None:
            self._poll(f"the repository lies on a network file system ({kind})")
        else:
            self._start()
        self._ids = positions(self._repository)
        self._due = time.monotonic() + self._spans_s[self.mode]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Stop watching."""
        self._stop()
        for fd in self._pipe:
            os.close(fd)
        self._pipe = (-1, -1)

    def fileno(self) -> int:
        """Return what becomes readable when refs may have moved."""
        return self._pipe[0]

    def timeout_s(self) -> float | None:
        """Return in how many seconds `drain` should be called even though nothing was reported."""
        due = self._due if self._doubt is None else min(self._doubt, self._due)
        return max(0.0, due - time.monotonic())

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders that are watched; none while polling."""
        return tuple(sorted(self._watches))

    def drain(self) -> bool:
        """Take what was reported; return whether a ref of a log really moved, or all is gone.

        May be called at any time. Object ids are compared, and never the times of files.
        """
        told = self._take_reports()
        if not self.gone and _inode(self._common, self._inode) != self._inode:
            self.gone = True
            self._stop()
            return True
        if self.mode == "events":
            # First watch, then look: what comes in between is reported.
            self._cover()
        ids = positions(self._repository)
        moved, self._ids = ids != self._ids, ids
        now = time.monotonic()
        self._due = now + self._spans_s[self.mode]
        if self.mode == "events":
            self._doubt_reports(told, moved, now)
        return moved and not self.gone

    def _doubt_reports(self, told: bool, moved: bool, now: float) -> None:
        """Poll from now on when a ref moved and nothing was reported, even a while later."""
        if told:
            self._doubt = None
        elif self._doubt is not None and now >= self._doubt:
            self._poll("a change of the log was not reported by the system")
        elif moved and self._doubt is None:
            self._doubt = now + self._doubt_s

    def _take_reports(self) -> bool:
        told = False
        with suppress(BlockingIOError):
            while os.read(self._pipe[0], 4096):
                told = True
        return told

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._pipe[1], b"!")

    def _start(self) -> None:
        try:
            observer, self._handler = _new_observer(self._heard)
            self._unlisten = _listen(self._wake)
            # The library makes its threads when it starts: nothing is left behind if it cannot.
            observer.start()
        except (ImportError, OSError, RuntimeError) as error:
            self._poll(f"watching is not possible: {error}")
            return
        self._observer = observer
        self._cover()

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        self._watches.clear()

    def _poll(self, reason: str) -> None:
        self._stop()
        self.mode, self.reason, self._doubt = "polling", reason, None
        self._due = time.monotonic() + self._spans_s["polling"]

    def _cover(self) -> None:
        """Watch the folders that are there now, anew those that were made again."""
        observer, handler = self._observer, self._handler
        if observer is None or handler is None:
            return
        wanted = [*_folders(self._common)]
        stale = {self._stale.popleft() for _ in range(len(self._stale))}
        for path in [*self._watches]:
            if path not in wanted or any(_is_at_or_below(path, one) for one in stale):
                observer.unschedule(self._watches.pop(path))
        try:
            for path in wanted:
                if path not in self._watches:
                    with suppress(FileNotFoundError, NotADirectoryError):
                        self._watches[path] = observer.schedule(
                            handler, path, event_filter=_asked_events()
                        )
        except (OSError, RuntimeError) as error:
            self._poll(f"watching is not possible: {error}")

    def _heard(self, event: "FileSystemEvent") -> None:
        """Take one report, on a thread of the library."""
        self.raw_events += 1
        wake = False
        for path in (os.fsdecode(event.src_path), os.fsdecode(event.dest_path or "")):
            if path and self._concerns(path, event.is_directory):
                wake = True
                if event.is_directory:
                    self._stale.append(path)
        if wake:
            self._wake()

    def _concerns(self, path: str, is_folder: bool) -> bool:
        folder, name = os.path.split(path)
        if folder == self._common:
            return name in _IN_COMMON
        if folder == f"{self._common}/refs":
            return name in _ROOTS
        if folder == f"{self._common}/reftable":
            return name == "tables.list"
        return is_folder or name == _NAME


def network_type(path: str, mounts: str = _MOUNTS) -> str | None:
    """Return the type of the file system of `path` when others may change it unseen, else None.

    Nothing is known where the system has no list of mounts.
    """
    found, longest = "", -1
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split()
                dash = words.index("-") if "-" in words else len(words)
                if len(words) < 5 or dash + 1 >= len(words):
                    continue
                place = words[4].replace("\\040", " ").rstrip("/")
                if len(place) >= longest and _is_at_or_below(path, place):
                    found, longest = words[dash + 1], len(place)
    except OSError:
        return None
    return found if found == "fuse" or found.startswith(_REMOTE_TYPES) else None


def _is_at_or_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _inode(path: str, unknown: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Return what tells this folder from another; None when it is gone."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return unknown
    return found.st_dev, found.st_ino


def positions(repository: Repository) -> list[str]:
    """Return where the logs and what was fetched of others stand; a failure is a state as well.

    One line each: the log's ref, for what was fetched the remote, and the object id.
    """
    found = []
    for ref in _LOGS:
        try:
            found.append(f"{ref} {read_ref(repository, ref)}")
            heads = tracked_heads(repository, ref).heads
            found += [f"{ref} {name} {heads[name]}" for name in sorted(heads)]
        except GritError as error:
            found.append(f"{ref} {error.message}")
    return found


def _is_folder(path: str) -> bool:
    """Whether it is a folder, and no link to one, which would be watched outside."""
    return os.path.isdir(path) and not os.path.islink(path)


def _folders(common: str) -> Iterator[str]:
    """Yield the folders in which a ref of a log can move."""
    refs = f"{common}/refs"
    yield common
    yield refs
    if os.path.isdir(f"{common}/reftable"):
        yield f"{common}/reftable"
    below = deque(path for root in _ROOTS if _is_folder(path := f"{refs}/{root}"))
    for _ in range(_FOLDERS_MAX):
        if not below:
            return
        folder = below.popleft()
        yield folder
        try:
            with os.scandir(folder) as entries:
                inner = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        if folder.endswith("-remotes"):
            below += inner
        elif "-remotes/" in folder:
            below += [path for path in inner if os.path.basename(path) not in _BESIDE]


def _asked_events() -> "list[type[FileSystemEvent]]":
    """Return what is asked for: nothing that reading causes."""
    from watchdog import events

    return [
        events.FileCreatedEvent,
        events.FileMovedEvent,
        events.FileDeletedEvent,
        events.FileClosedEvent,
        events.DirCreatedEvent,
        events.DirMovedEvent,
        events.DirDeletedEvent,
    ]


def _new_observer(
    heard: "Callable[[FileSystemEvent], None]",
) -> "tuple[BaseObserver, FileSystemEventHandler]":
    """Return an observer of the system's own kind; raises OSError where there is none."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    if getattr(Observer, "__name__", "") == "PollingObserver":
        raise OSError("the system offers nothing that grit knows")
    with suppress(ImportError):
        # Git renames `wal.lock` to `wal`: half a second of waiting for the second half of a
        # rename, which only pairs the two, would be half a second of delay.
        from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

        InotifyMoveEventGrouper.delay = 0.0

    class Handler(FileSystemEventHandler):
        def dispatch(self, event: "FileSystemEvent") -> None:
            heard(event)

    return Observer(), Handler()


def _listen(wake: Callable[[], None]) -> Callable[[], None]:
    """Look also when the library says that reports were lost, which it only logs."""
    import logging

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            wake()

    logger: Logger = logging.getLogger("watchdog")
    ear, was = Ear(logging.WARNING), logger.propagate
    logger.addHandler(ear)
    logger.propagate = False

    def unlisten() -> None:
        logger.removeHandler(ear)
        logger.propagate = was

    return unlisten
