"""Git objects as files: written before the ref moves, and read back while they are still loose.

An object is (kind, content); its id is the hash of both (spec/wal.md, Objects, Durability).
"""

import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Final, NamedTuple

from grit.core.errors import IoFailed
from grit.core.limits import CHUNK_BYTES_MAX
from grit.files.names import OBJECTS
from grit.files.private import Folder, Opened, read_plain, sync_folder, write_all
from grit.git.kept import Keeper
from grit.git.repository import Repository

_HEADER_BYTES_MAX: Final = 64
_STORE_ATTEMPTS_MAX: Final = 32
FILE: Final = 0o100000
FOLDER: Final = 0o040000
_MODES: Final = {b"100644": FILE, b"40000": FOLDER}
"""File types of the usual modes; others are read as octal numbers."""
_FILE_TYPE: Final = 0o170000
_OCTAL: Final = frozenset(b"01234567")
_LINKS: Final = {
    object_format: re.compile(rb"tree (%b)\n((?:parent %b\n)*)" % (oid, oid))
    for object_format, oid in (("sha1", rb"[0-9a-fA-F]{40}"), ("sha256", rb"[0-9a-fA-F]{64}"))
}
_ONE_PARENT: Final = re.compile(rb"tree ([0-9a-f]{40})\nparent ([0-9a-f]{40})\nauthor ")
"""What nearly every commit of a log begins with: a shortcut, for SHA-1 repositories."""


class ObjectWriter:
    """Writes loose objects, and remembers which folders must be synced before the ref moves."""

    __slots__ = ("_durable", "_folders", "_repository", "_shared_mode", "keeper")

    def __init__(self, repository: Repository, durable: bool, shared_mode: int) -> None:
        """Write into the repository's own object folder."""
        self._repository = repository
        self._durable = durable
        self._shared_mode = shared_mode
        self._folders: set[str] = set()
        self.keeper = Keeper(repository, shared_mode)

    def write(self, kind: str, content: bytes, *, replace: bool = False) -> str:
        """Store one object and return its id; `replace` writes over what stands there.

        Raises IoFailed. Whatever happens, nothing refers to the object yet.
        """
        framed = b"%b %d\0%b" % (kind.encode(), len(content), content)
        oid = hash_of(self._repository.object_format, framed)
        folder = Folder(self._repository.objects_dir, (oid[:2],), OBJECTS)
        try:
            if replace or not self._renew(folder, oid):
                self._store(folder, oid, framed)
        except OSError as error:
            raise IoFailed(
                f"cannot write an object of the log: {error.strerror}; head unchanged",
                errno=error.errno,
            ) from error
        self.keeper.oids.append(oid)
        return oid

    def sync(self) -> None:
        """Make the names of all written objects durable, where the user wants that."""
        try:
            for folder in self._folders:
                with suppress(FileNotFoundError):  # packed meanwhile, and git syncs its packs
                    sync_folder(folder)
        except OSError as error:
            raise IoFailed(
                f"cannot sync the objects of the log: {error.strerror}; head unchanged",
                errno=error.errno,
            ) from error
        self._folders.clear()

    def _renew(self, folder: Folder, oid: str) -> bool:
        """Return whether the object is there already; it gets a new time, and a second name.

        `git gc` keeps unreferenced objects by their age: an old one must look new again before the
        ref names it. An empty file is what a power loss leaves; it is written again.
        """
        name = oid[2:]
        try:
            with folder.open() as opened:
                found = opened.look(name)
                if found is None or found.st_size == 0:
                    return False
                opened.touch(name)
                return self.keeper.keep(opened, name, oid)
        except OSError:
            return False

    def _store(self, folder: Folder, oid: str, framed: bytes) -> None:
        packed = zlib.compress(framed, 1)
        for attempt in range(_STORE_ATTEMPTS_MAX):
            try:
                with folder.open() as opened:
                    return self._store_once(opened, oid, packed)
            except (FileNotFoundError, FileExistsError):
                # `git gc` removes empty folders, and with --prune=now unfinished files too.
                if attempt == _STORE_ATTEMPTS_MAX - 1:
                    raise
                self._make_folder(folder)

    def _store_once(self, folder: Opened, oid: str, packed: bytes) -> None:
        # Git's own name for unfinished objects: `git gc` clears away what a kill leaves.
        temporary = f"tmp_obj_{os.urandom(6).hex()}"
        fd = folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            try:
                write_all(fd, packed)
                if self._durable:
                    os.fsync(fd)
                    self._folders.add(folder.path)
                if self._shared_mode:
                    os.fchmod(fd, self._shared_mode & 0o444)
            finally:
                os.close(fd)
            # The other name comes first: from here on `git prune` can take one of them at most.
            if not self.keeper.keep(folder, temporary, oid):
                raise FileNotFoundError(temporary)
            folder.move(temporary, oid[2:])
        except OSError:
            with suppress(OSError):  # what stays is git's to clear away
                folder.remove(temporary)
            raise

    def _make_folder(self, folder: Folder) -> None:
        try:
            with folder.open(make=True) as opened:
                if self._shared_mode:
                    executable = (self._shared_mode & 0o444) >> 2
                    opened.chmod(stat.S_ISGID | self._shared_mode | executable | 0o700)
        except (FileExistsError, FileNotFoundError):
            return  # removed again in between: the next attempt sees
        if self._durable:
            self._folders.add(self._repository.objects_dir)


class TreeEntry(NamedTuple):
    """One entry of a tree; `file_type` is that part of its mode."""

    name: bytes
    oid: str
    file_type: int

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file: no folder, link or submodule."""
        return self.file_type == FILE

    @property
    def is_folder(self) -> bool:
        """Whether it is a tree."""
        return self.file_type == FOLDER


HashFunction = Callable[[bytes], "hashlib._Hash"]


@cache
def hash_function(object_format: str) -> HashFunction:
    """Return what begins the hash of an object's id; the id is its digest in hex."""
    if object_format == "sha256":
        return hashlib.sha256
    try:
        hashlib.sha1(b"")
    except ValueError:  # a machine whose policy forbids it unless it is said what it is not for
        return partial(hashlib.sha1, usedforsecurity=False)
    return hashlib.sha1  # a quarter faster without that word


def hash_of(object_format: str, framed: bytes) -> str:
    """Return the object id of `kind size NUL content`."""
    return hash_function(object_format)(framed).hexdigest()


def is_true(object_format: str, oid: str, kind: str, content: bytes) -> bool:
    """Return whether the content is that of the object's id: git does not look when it delivers."""
    digest = hash_function(object_format)(b"%b %d\0" % (kind.encode(), len(content)))
    digest.update(content)
    return digest.hexdigest() == oid


def read_loose(
    repository: Repository, oid: str, bytes_max: int = CHUNK_BYTES_MAX
) -> tuple[str, bytes] | None:
    """Return (kind, content) of a loose object that is whole and within bounds, else None.

    None says only that git has to be asked.
    """
    try:
        packed = read_plain(f"{repository.objects_dir}/{oid[:2]}/{oid[2:]}", 2 * bytes_max)
    except OSError:
        return None
    inflate = zlib.decompressobj()
    try:
        framed = inflate.decompress(packed, bytes_max + _HEADER_BYTES_MAX)
    except zlib.error:
        return None
    if not inflate.eof or hash_of(repository.object_format, framed) != oid:
        return None
    header, nul, content = framed.partition(b"\0")
    kind, _, size = header.partition(b" ")
    if not nul or size != b"%d" % len(content) or len(content) > bytes_max:
        return None
    return kind.decode(errors="replace"), content


def tree_entries(content: bytes, object_format: str) -> list[TreeEntry] | None:
    """Return the entries of a tree object; None when it is malformed (spec/wal.md)."""
    size = 32 if object_format == "sha256" else 20
    entries = []
    at = 0
    while at < len(content):
        nul = content.find(b"\0", at)
        end = nul + 1 + size
        mode, _, name = content[at:nul].partition(b" ")
        if nul < 0 or end > len(content) or not (mode and name):
            return None
        file_type = _MODES.get(mode)
        if file_type is None:
            if not _OCTAL.issuperset(mode):
                return None
            file_type = int(mode, 8) & _FILE_TYPE
        entries.append(TreeEntry(name, content[nul + 1 : end].hex(), file_type))
        at = end
    return entries


def commit_links(content: bytes, object_format: str) -> tuple[str, tuple[str, ...]]:
    """Return (tree, parents) of a commit object; an empty tree id when it is malformed."""
    tree, parents = commit_ids(content, object_format)
    return tree.decode(), tuple(parent.decode() for parent in parents)


def commit_ids(content: bytes, object_format: str) -> tuple[bytes, Sequence[bytes]]:
    """Return the same in bytes, for who reads many."""
    usual = _ONE_PARENT.match(content) if object_format == "sha1" else None
    if usual is not None:
        return usual[1], (usual[2],)
    links = _LINKS[object_format].match(content)
    if links is None:
        return b"", ()
    tree, parents = links.groups()
    rest = len(content) - links.end()
    if rest > len(b"parent ") + len(tree) and content.startswith(b"parent ", links.end()):
        return b"", ()  # as for git, what is shorter is no parent any more
    return tree.lower(), parents.lower().split()[1::2]
