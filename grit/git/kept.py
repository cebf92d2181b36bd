"""Second names of new objects, from which they come back when `git prune` took the first.

Git looks at what is reachable, and deletes afterwards: what was written in between goes, also when
a ref names it by then. So each new object has a name below `grit/kept/`, too, until it is so old
that no collection of git that is still at work can have missed it (spec/wal.md, Kept objects).
"""

import os
import stat
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, IoFailed
from grit.core.limits import ATTACHMENT_BYTES_MAX, CHUNK_BYTES_MAX, KEPT_NAMES_MAX, KEPT_S
from grit.git.repository import Repository

_FOLDER: Final = "kept"
_PERIOD_S: Final = 300
"""What is written within this time lies in one folder, and is forgotten together."""
_TEMPORARY: Final = "tmp_obj_"
_OBJECT_BYTES_MAX: Final = max(ATTACHMENT_BYTES_MAX, CHUNK_BYTES_MAX) + 64
_PART_BYTES: Final = 1 << 18
_HEX: Final = frozenset("0123456789abcdef")
_READ: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_CREATE: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_CHECK: Final = "--batch-check=%(objectname) %(objecttype)"
_KINDS: Final = frozenset({b"blob", b"tree", b"commit"})


class _Folder(NamedTuple):
    period: int
    path: str


class Keeper:
    """Gives second names to the objects that one writer writes; nothing here ever fails."""

    __slots__ = ("_folder", "_repository", "_shared_mode", "begun", "oids")

    def __init__(self, repository: Repository, shared_mode: int) -> None:
        """Touch nothing yet."""
        self._repository = repository
        self._shared_mode = shared_mode
        self._folder: str | None = None
        self.oids: list[str] = []
        """What was written so far."""
        self.begun = False
        """Whether this is the first writer of a period: somebody should `tidy`."""

    def keep(self, path: str, oid: str) -> bool:
        """Give the object's file a second name; return False when it has lost its first one.

        A disk that is full or refuses is no reason to fail: the object is there, and only less
        safe from a collection that is at work right now.
        """
        try:
            self._give(path, oid)
        except FileNotFoundError:
            return os.path.exists(path)
        except OSError:
            return True
        return True

    def _give(self, path: str, oid: str) -> None:
        for again in (True, False):
            if self._folder is None:
                self._folder = self._choose()
            try:
                return _link_or_copy(path, f"{self._folder}/{oid}", self._folder)
            except FileExistsError:
                return
            except FileNotFoundError:
                self._folder = None  # the period is over, and somebody forgot it
                if not again:
                    raise

    def _choose(self) -> str:
        """Return the folder of this period; raises OSError."""
        kept = f"{self._repository.grit_dir}/{_FOLDER}"
        path = f"{kept}/{int(time.time()) // _PERIOD_S}"
        if _is_folder(path) and _is_folder(kept):
            return path
        with suppress(FileExistsError):
            os.mkdir(self._repository.grit_dir)
        self._make(kept)
        self.begun |= self._make(path)
        return path

    def _make(self, folder: str) -> bool:
        try:
            if stat.S_ISDIR(os.lstat(folder).st_mode):
                return False
            os.unlink(folder)  # a link leads elsewhere, and a file is none of ours
        except FileNotFoundError:
            pass
        with suppress(FileExistsError):
            os.mkdir(folder)
            if self._shared_mode:
                executable = (self._shared_mode & 0o444) >> 2
                os.chmod(folder, stat.S_ISGID | self._shared_mode | executable | 0o700)
        return True


def look_after(repository: Repository, oids: Iterable[str]) -> list[str]:
    """See that what a ref has just been given is there; return what had to be put back.

    A collection may have taken it before the ref moved. It costs a stat for each object.
    """
    if all(os.path.exists(f"{repository.objects_dir}/{oid[:2]}/{oid[2:]}") for oid in oids):
        return []
    return restore(repository)  # or it is packed already


def absent(repository: Repository, oids: Iterable[str]) -> bool:
    """Return whether any of these is neither loose nor packed here."""
    others = {oid for oid in oids if not _is_loose(repository, oid)}
    if repository.promisor is not None:
        return False  # what a partial clone lacks is fetched when it is wanted
    return bool(others) and not others <= set(_packed(repository, others))


def restore(repository: Repository) -> list[str]:
    """Put back every object that is kept and missing, and return their ids; never fails.

    Its content is compared with its id first: the folder may have come with the repository.
    """
    folders = _folders(repository)
    return _put_back(repository, [f"{one.path}/{oid}" for one in folders for oid in _oids(one)])


def is_empty(repository: Repository) -> bool:
    """Return whether nothing is kept: there is no use in looking again."""
    return not any(True for one in _folders(repository) for _ in _oids(one))


def tidy(repository: Repository) -> list[str]:
    """Forget what was kept long enough and is in the repository; return what had to be put back.

    Never fails. What cannot be removed now is tried again when the next period begins.
    """
    now = int(time.time()) // _PERIOD_S
    restored: list[str] = []
    count = 0
    for folder in _folders(repository):
        oids = _oids(folder)
        count += len(oids)
        # One from the future was made by another clock, or came with the repository.
        young = now - KEPT_S // _PERIOD_S <= folder.period <= now + 1
        if young and (count <= KEPT_NAMES_MAX or folder.period >= now - 1):
            continue
        restored += _put_back(repository, [f"{folder.path}/{oid}" for oid in oids])
        _remove(folder.path)
    return restored


def _remove(path: str) -> None:
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if not (_is_oid(entry.name) or entry.name.startswith(_TEMPORARY)):
                continue
            if sys.platform == "win32":
                os.chmod(entry.path, 0o666)  # what may not be written may not be removed there
            os.unlink(entry.path)
    with suppress(OSError):
        os.rmdir(path)


def _folders(repository: Repository) -> list[_Folder]:
    """Return the folders of all periods, the newest first."""
    kept = f"{repository.grit_dir}/{_FOLDER}"
    if not _is_folder(kept):
        return []
    try:
        with os.scandir(kept) as entries:
            found = [
                _Folder(int(entry.name), entry.path)
                for entry in entries
                if entry.name.isascii() and entry.name.isdigit() and len(entry.name) < 16
                if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return sorted(found, reverse=True)


def _oids(folder: _Folder) -> list[str]:
    """Return the object ids that name something here, as many as are ever looked at."""
    found: list[str] = []
    with suppress(OSError), os.scandir(folder.path) as entries:
        for entry in entries:
            if _is_oid(entry.name):
                found.append(entry.name)
                if len(found) >= KEPT_NAMES_MAX:
                    break
    return found


def _put_back(repository: Repository, paths: list[str]) -> list[str]:
    """Put back what is missing of the objects that have these second names."""
    missing = {os.path.basename(path): path for path in paths if not _is_loose(repository, path)}
    if not missing:
        return []
    for oid in _packed(repository, missing):
        missing.pop(oid, None)
    return [oid for oid, path in missing.items() if _restore(repository, oid, path)]


def _is_loose(repository: Repository, path: str) -> bool:
    oid = os.path.basename(path)
    try:
        # An empty file is what a power loss leaves.
        return os.stat(f"{repository.objects_dir}/{oid[:2]}/{oid[2:]}").st_size > 0
    except OSError:
        return False


def _packed(repository: Repository, oids: Iterable[str]) -> Iterator[str]:
    """Yield those that git has; when it cannot be asked, none: a second copy does no harm."""
    from grit.git.process import run

    if repository.promisor is not None:
        return  # to ask there is to fetch
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    try:
        said = run(repository.git_dir, "cat-file", _CHECK, stdin=asked)
    except (GitFailed, IoFailed):
        return
    for line in said.stdout.decode(errors="replace").splitlines():
        oid, _, kind = line.partition(" ")
        if kind.encode() in _KINDS:
            yield oid


def _restore(repository: Repository, oid: str, path: str) -> bool:
    """Put one object back if it is what its name says; return whether it is there now."""
    folder = f"{repository.objects_dir}/{oid[:2]}"
    target = f"{folder}/{oid[2:]}"
    try:
        if not _is_whole(repository, oid, path):
            return False
        with suppress(FileNotFoundError):
            if os.stat(target).st_size == 0:
                os.unlink(target)
        with suppress(FileExistsError):
            os.mkdir(folder)
        _link_or_copy(path, target, folder)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def _is_whole(repository: Repository, oid: str, path: str) -> bool:
    """Return whether the file is the object of that id; raises OSError."""
    from grit.git.objects import hash_function

    fd = os.open(path, _READ)
    with os.fdopen(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        inflate, digest = zlib.decompressobj(), hash_function(repository.object_format)(b"")
        header, count = b"", 0
        try:
            while packed := file.read(_PART_BYTES):
                while packed:
                    part = inflate.decompress(packed, _PART_BYTES)
                    packed = inflate.unconsumed_tail
                    digest.update(part)
                    header += part[: 64 - len(header)]
                    count += len(part)
                    if count > _OBJECT_BYTES_MAX:
                        return False
                if inflate.unused_data:
                    return False
        except zlib.error:
            return False
    kind, _, size = header.partition(b"\0")[0].partition(b" ")
    stated = len(kind) + len(size) + 2 + int(size) if size.isdigit() else 0
    return inflate.eof and kind in _KINDS and stated == count and digest.hexdigest() == oid


def _link_or_copy(source: str, target: str, folder: str) -> None:
    """Give a file another name in `folder`; a copy where that cannot be. Raises OSError."""
    try:
        return _link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        pass  # another file system, one without links, or somebody else's file
    temporary = f"{folder}/{_TEMPORARY}{os.urandom(6).hex()}"
    with os.fdopen(os.open(source, _READ), "rb") as old:
        mode = stat.S_IMODE(os.fstat(old.fileno()).st_mode) & 0o444
        try:
            with os.fdopen(os.open(temporary, _CREATE, 0o444), "wb") as new:
                while part := old.read(_PART_BYTES):
                    new.write(part)
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _link(source: str, target: str) -> None:
    if os.link in os.supports_follow_symlinks:
        os.link(source, target, follow_symlinks=False)
    else:
        os.link(source, target)


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_oid(name: str) -> bool:
    return len(name) in (40, 64) and _HEX.issuperset(name)
