"""Second names of new objects, from which they come back when `git prune` took the first.

Git looks at what is reachable, and deletes afterwards: what was written in between goes, also when
a ref names it by then. So each new object has a name below `grit/kept/`, too, until it is so old
that no collection of git that is still at work can have missed it (spec/wal.md, Kept objects).
"""

import os
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, IoFailed
from grit.core.ids import parse_number
from grit.core.limits import ATTACHMENT_BYTES_MAX, CHUNK_BYTES_MAX, KEPT_NAMES_MAX, KEPT_S
from grit.files.names import OBJECTS
from grit.files.private import Folder, NotPrivate, Opened, write_all
from grit.git.repository import Repository

_KEPT: Final = "kept"
_PERIOD_S: Final = 300
"""What is written within this time lies in one folder, and is forgotten together."""
_TEMPORARY: Final = "tmp_obj_"
_OBJECT_BYTES_MAX: Final = max(ATTACHMENT_BYTES_MAX, CHUNK_BYTES_MAX) + 64
_PART_BYTES: Final = 1 << 18
_HEX: Final = frozenset("0123456789abcdef")
_CHECK: Final = "--batch-check=%(objectname) %(objecttype)"
_KINDS: Final = frozenset({b"blob", b"tree", b"commit"})


class _Period(NamedTuple):
    number: int
    folder: Folder


class Keeper:
    """Gives second names to the objects that one writer writes; nothing here ever fails."""

    __slots__ = ("_folder", "_repository", "_shared_mode", "begun", "oids")

    def __init__(self, repository: Repository, shared_mode: int) -> None:
        """Touch nothing yet."""
        self._repository = repository
        self._shared_mode = shared_mode
        self._folder = _folder_of(repository, int(time.time()) // _PERIOD_S)
        self.oids: list[str] = []
        """What was written so far."""
        self.begun = False
        """Whether this is the first writer of a period: somebody should `tidy`."""

    def keep(self, source: Opened, name: str, oid: str) -> bool:
        """Give the object's file a second name; return False when it has lost its first one.

        A disk that is full or refuses is no reason to fail: the object is there, and only less
        safe from a collection that is at work right now.
        """
        try:
            self._give(source, name, oid)
        except FileNotFoundError:
            return source.lies(name)
        except OSError:
            return True
        return True

    def _give(self, source: Opened, name: str, oid: str) -> None:
        for again in (True, False):
            try:
                with self._folder.open() as folder:
                    return _link_or_copy(source, name, folder, oid)
            except FileExistsError:
                return
            except (FileNotFoundError, NotPrivate):
                if not again:
                    raise
                self._begin()

    def _begin(self) -> None:
        """Make the folder of this period; raises OSError."""
        self._folder = _folder_of(self._repository, int(time.time()) // _PERIOD_S)
        private = self._repository.private
        for folder, name in ((private, _KEPT), (private.below(_KEPT), self._folder.parts[-1])):
            with folder.open(make=True) as opened:
                if opened.lies(name):
                    opened.remove(name)  # a link leads elsewhere, and a file is none of ours
                if opened.look(name) is not None:
                    continue
                with opened.below(name, make=True) as made:
                    self.begun = True
                    if self._shared_mode:
                        executable = (self._shared_mode & 0o444) >> 2
                        made.chmod(stat.S_ISGID | self._shared_mode | executable | 0o700)


def _folder_of(repository: Repository, period: int) -> Folder:
    return repository.private.below(_KEPT).below(str(period))


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
    return bool(others) and not others <= set(present(repository, others))


def restore(repository: Repository) -> list[str]:
    """Put back every object that is kept and missing, and return their ids; never fails.

    Its content is compared with its id first: the folder may have come with the repository.
    """
    kept = {oid: one.folder for one in _periods(repository) for oid in _oids(one.folder)}
    return _put_back(repository, kept)


def names(repository: Repository) -> set[str]:
    """Return the ids of what is kept: of nothing else there is any use in looking again."""
    return {oid for one in _periods(repository) for oid in _oids(one.folder)}


def tidy(repository: Repository) -> list[str]:
    """Forget what was kept long enough and is in the repository; return what had to be put back.

    Never fails. What cannot be removed now is tried again when the next period begins.
    """
    now = int(time.time()) // _PERIOD_S
    restored: list[str] = []
    count = 0
    for period in _periods(repository):
        oids = _oids(period.folder)
        count += len(oids)
        # One from the future was made by another clock, or came with the repository.
        young = now - KEPT_S // _PERIOD_S <= period.number <= now + 1
        if young and (count <= KEPT_NAMES_MAX or period.number >= now - 1):
            continue
        restored += _put_back(repository, dict.fromkeys(oids, period.folder))
        with suppress(OSError), repository.private.below(_KEPT).open() as kept:
            kept.remove_tree(str(period.number))
    return restored


def _periods(repository: Repository) -> list[_Period]:
    """Return the folders of all periods, the newest first."""
    kept = repository.private.below(_KEPT)
    try:
        with kept.open() as opened:
            names = [name for name, is_folder in opened.entries() if is_folder]
    except OSError:
        return []
    numbers = [int(name) for name in names if _is_period(name)]
    return [_Period(one, kept.below(str(one))) for one in sorted(numbers, reverse=True)]


def _is_period(name: str) -> bool:
    number = parse_number(name, 15)
    return number is not None and str(number) == name


def _oids(folder: Folder) -> list[str]:
    """Return the object ids that name something here, as many as are ever looked at."""
    try:
        with folder.open() as opened:
            names = [name for name, is_folder in opened.entries() if not is_folder]
    except OSError:
        return []
    return [name for name in names if _is_oid(name)][:KEPT_NAMES_MAX]


def _put_back(repository: Repository, kept: dict[str, Folder]) -> list[str]:
    """Put back what is missing of the objects that have second names in these folders."""
    missing = {oid: folder for oid, folder in kept.items() if not _is_loose(repository, oid)}
    if not missing:
        return []
    for oid in present(repository, missing):
        missing.pop(oid, None)
    return [oid for oid, folder in missing.items() if _restore(repository, oid, folder)]


def _is_loose(repository: Repository, oid: str) -> bool:
    try:
        # An empty file is what a power loss leaves.
        return os.stat(f"{repository.objects_dir}/{oid[:2]}/{oid[2:]}").st_size > 0
    except OSError:
        return False


def present(repository: Repository, oids: Iterable[str]) -> Iterator[str]:
    """Yield those that git has; when it cannot be asked, none: a second copy does no harm."""
    from grit.git.process import run, text_lines

    if repository.promisor is not None:
        return  # to ask there is to fetch
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    try:
        said = run(repository.git_dir, "cat-file", _CHECK, stdin=asked)
    except (GitFailed, IoFailed):
        return
    for line in text_lines(said.stdout):
        oid, _, kind = line.partition(" ")
        if os.fsencode(kind) in _KINDS:
            yield oid


def _restore(repository: Repository, oid: str, folder: Folder) -> bool:
    """Put one object back if it is what its name says; return whether it is there now."""
    objects = Folder(repository.objects_dir, (oid[:2],), OBJECTS)
    try:
        with folder.open() as kept, objects.open(make=True) as target:
            if not _is_whole(repository, oid, kept):
                return False
            found = target.look(oid[2:])
            if found is not None and found.st_size == 0:
                target.remove(oid[2:])
            _link_or_copy(kept, oid, target, oid[2:])
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def _is_whole(repository: Repository, oid: str, kept: Opened) -> bool:
    """Return whether the file is the object of that id; raises OSError."""
    from grit.git.objects import hash_function

    with os.fdopen(kept.open(oid), "rb", buffering=0) as file:
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
    content_bytes = parse_number(size)
    if content_bytes is None or len(kind) + len(size) + 2 + content_bytes != count:
        return False
    return inflate.eof and kind in _KINDS and digest.hexdigest() == oid


def _link_or_copy(source: Opened, name: str, target: Opened, new: str) -> None:
    """Give a file another name in `target`; a copy where that cannot be. Raises OSError."""
    try:
        return source.link(name, new, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        pass  # another file system, one without links, or somebody else's file
    temporary = f"{_TEMPORARY}{os.urandom(6).hex()}"
    with os.fdopen(source.open(name), "rb") as old:
        fd = target.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            try:
                while part := old.read(_PART_BYTES):
                    write_all(fd, part)
            finally:
                os.close(fd)
            target.move(temporary, new)
        except OSError:
            with suppress(OSError):
                target.remove(temporary)
            raise


def _is_oid(name: str) -> bool:
    return len(name) in (40, 64) and _HEX.issuperset(name)
