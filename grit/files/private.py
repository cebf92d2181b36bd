"""Opening, replacing and removing what grit keeps, never through a link (spec/wal.md).

    with repository.private.open() as folder:
        data = folder.read("remotes")

A folder is opened from a trusted base, one part of the path after the other, and everything in it
by its name relative to the open folder: what was checked is what is used. Where the system knows
no such calls (Windows) the path is looked at first.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Final, NamedTuple

from grit.core.errors import IoFailed
from grit.core.limits import FOLDER_NAMES_MAX
from grit.files.names import NAMES, Kind, Named, inside, look_up

_PART_BYTES: Final = 1 << 20
_RELATIVE: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A pipe stops nobody; for a file it changes nothing."""
_BASE: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER: Final = _BASE | _NO_LINK
_WALK: Final = getattr(os, "O_PATH", os.O_RDONLY)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_KINDS: Final = (
    (stat.S_ISLNK, "is a symbolic link"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISREG, "is a file"),
)
_OF_A_USER: Final = "give it to yourself with 'chown'"
_OF_A_GROUP: Final = (
    f"{_OF_A_USER}, or share the clone with 'git config core.sharedRepository group'"
)
_WANTED: Final[dict[Kind, Callable[[int], bool]]] = {
    "file": stat.S_ISREG,
    "folder": stat.S_ISDIR,
    "link": stat.S_ISLNK,
}


class NotPrivate(OSError):
    """Something else lies at a name of grit's; it was not read, written or removed."""

    def __init__(self, path: str, what: str, way_out: str = "move it away") -> None:
        """Keep the path, what lies there ("is a symbolic link"), and what to do."""
        said = f"{what}; grit does not use it: {way_out}"
        super().__init__(errno.EINVAL, f"it {said}", path)
        self.what: Final = what
        self.way_out: Final = way_out
        self._sentence = f"{path} {said}"

    def __str__(self) -> str:
        return self._sentence


def failed(what: str, error: OSError) -> IoFailed:
    """Return the refusal for what could not be done ("cannot read x"), with the reason."""
    if isinstance(error, NotPrivate):
        return IoFailed(str(error), errno=error.errno, way_out=error.way_out)
    return IoFailed(f"{what}: {error.strerror}", errno=error.errno)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, however the system cuts it; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: str) -> None:
    """Make a folder's entries durable, where the system can; raises OSError."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY | _BASE)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_plain(path: str, bytes_max: int, *, follow: bool = True, cut: bool = False) -> bytes:
    """Return a file that is git's, whoever owns it: a regular one, which nothing waits for.

    What is over the bound is cut off with `cut`, else refused. Raises FileNotFoundError,
    IsADirectoryError, NotPrivate and other OSErrors.
    """
    fd = _open_plain(path, follow=follow)
    try:
        return _read(fd, path, bytes_max, cut=cut)
    finally:
        os.close(fd)


def plain_parts(path: str, bytes_max: int) -> Iterator[bytes]:
    """Yield such a file in parts of at most 1 MiB; raises the same, also at the bound."""
    fd = _open_plain(path, follow=True)
    try:
        left = bytes_max
        while part := os.read(fd, _PART_BYTES):
            left -= len(part)
            if left < 0:
                raise NotPrivate(path, f"is larger than {bytes_max} bytes")
            yield part
    finally:
        os.close(fd)


def _open_plain(path: str, *, follow: bool) -> int:
    flags = _FILE | (getattr(os, "O_CLOEXEC", 0) if follow else _NO_LINK)
    if not _RELATIVE and not follow and os.path.islink(path):
        raise NotPrivate(path, "is a symbolic link")
    if "\0" in path:
        raise FileNotFoundError(errno.ENOENT, "no file has such a name", path)
    try:
        fd = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and not follow:
            raise NotPrivate(path, "is a symbolic link") from error
        if error.errno == errno.ENXIO:
            raise NotPrivate(path, "is a socket") from error
        raise
    mode = os.fstat(fd).st_mode
    what = _other_than("file", mode)
    if what is None:
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise NotPrivate(path, what)


def _read(fd: int, path: str, bytes_max: int, *, cut: bool) -> bytes:
    """Return what the file holds up to the bound; more is cut off, or raises NotPrivate."""
    parts = []
    left = bytes_max + 1
    wanted = os.fstat(fd).st_size + 1
    while left > 0 and (part := os.read(fd, min(wanted, left))):
        parts.append(part)
        left -= len(part)
    if left <= 0 and not cut:
        raise NotPrivate(path, f"is larger than {bytes_max} bytes")
    return b"".join(parts)[:bytes_max]


def _other_than(wanted: Kind, mode: int) -> str | None:
    if _WANTED[wanted](mode):
        return None
    return next((what for is_kind, what in _KINDS if is_kind(mode)), "is a device")


def _never() -> bool:
    return False


class Folder(NamedTuple):
    """A folder below a base that is trusted; the parts of its path below that are no links."""

    base: str
    parts: tuple[str, ...]
    heading: str = ""
    """Under which heading of the table the names in the base stand."""
    shared: Callable[[], bool] = _never
    """Whether files of others in the group of the base count; asked when one is met."""

    @property
    def path(self) -> str:
        """Its path, for messages and for programs that take nothing else."""
        return "/".join((self.base, *self.parts))

    def below(self, name: str) -> "Folder":
        """Return a folder in it."""
        return self._replace(parts=(*self.parts, name))

    def open(self, *, make: bool = False) -> "Opened":
        """Open it, and `make` what is missing below the base.

        Never the base itself: a repository that was moved away is not to come back. Raises
        FileNotFoundError, NotPrivate and other OSErrors.
        """
        fd = os.open(self.base, _WALK | _BASE) if _RELATIVE else None
        here = Opened(self, self.base, self.heading, fd)
        for part in self.parts:
            with here:
                here = here.below(part, make=make)
        return here


class Opened:
    """A folder that was checked, held open: use it in a `with`. Names are those of the table.

    Every method raises OSError, and NotPrivate for something else than the table says.
    """

    __slots__ = ("_fd", "_folder", "_heading", "path")

    def __init__(self, folder: Folder, path: str, heading: str, fd: int | None) -> None:
        """Take over the descriptor; None where paths have to do."""
        self._folder = folder
        self.path = path
        self._heading = heading
        self._fd = fd

    def __enter__(self) -> "Opened":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def below(self, name: str, *, make: bool = False) -> "Opened":
        """Open a folder in it, which is made if it is missing and `make` says so."""
        path = f"{self.path}/{name}"
        heading = inside(self._heading, name)
        if self._fd is None:
            if self.look(name, "folder") is None:
                self._make(name, make)
            return Opened(self._folder, path, heading, None)
        try:
            fd = self._open_folder(name, make)
        except FileNotFoundError:
            raise
        except OSError:
            self.look(name, "folder")
            raise
        try:
            self._check(name, os.fstat(fd), "folder")
        except BaseException:
            os.close(fd)
            raise
        return Opened(self._folder, path, heading, fd)

    def _open_folder(self, name: str, make: bool) -> int:
        try:
            return os.open(name, _WALK | _FOLDER, dir_fd=self._fd)
        except FileNotFoundError:
            self._make(name, make)
            return os.open(name, _WALK | _FOLDER, dir_fd=self._fd)

    def _make(self, name: str, make: bool) -> None:
        if not make:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.path}/{name}")
        with suppress(FileExistsError):
            os.mkdir(self._at(name), dir_fd=self._fd)

    def look(self, name: str, kind: Kind | None = None) -> os.stat_result | None:
        """Return what lies at a name, None where nothing does; `kind`: not what the table says."""
        try:
            found = os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        self._check(name, found, kind)
        return found

    def lies(self, name: str) -> bool:
        """Return whether anything but a folder lies at a name."""
        try:
            found = os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return not stat.S_ISDIR(found.st_mode)

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Return a descriptor of a file; a pipe is not waited for, and no link is followed."""
        if not _RELATIVE:
            self.look(name)
        try:
            fd = os.open(self._at(name), flags | _NO_LINK | _FILE, mode, dir_fd=self._fd)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError:
            self.look(name)  # what lies there says it better
            raise
        try:
            self._check(name, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read(self, name: str, *, cut: bool = False) -> bytes:
        """Return what a file holds; more than its bound is cut off with `cut`, else refused."""
        bytes_max = look_up(self._heading, name)[1].bytes_max
        fd = self.open(name)
        try:
            return _read(fd, f"{self.path}/{name}", bytes_max, cut=cut)
        finally:
            os.close(fd)

    def replace(
        self,
        name: str,
        data: bytes,
        mode: int = 0o666,
        *,
        sync: bool = True,
        keep_mode: int | None = None,
    ) -> None:
        """Put a file in place in one step: readers see the old one or the whole new one.

        A link or a pipe that lies there is replaced itself, and what it leads to untouched.
        `keep_mode` is set whatever the umask says.
        """
        look_up(self._heading, name)
        new = f"{name}.{os.urandom(6).hex()}.new"
        fd = os.open(self._at(new), _NEW | _NO_LINK | _FILE, mode, dir_fd=self._fd)
        try:
            try:
                write_all(fd, data)
                if keep_mode is not None and hasattr(os, "fchmod"):
                    os.fchmod(fd, keep_mode)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            self._move(new, self, name)
        except OSError:
            os.unlink(self._at(new), dir_fd=self._fd)
            self.look(name)
            raise

    def replace_link(self, name: str, target: str) -> None:
        """Put a symbolic link in place in one step."""
        new = f"{name}.new"
        with suppress(FileNotFoundError):
            os.unlink(self._at(new), dir_fd=self._fd)
        os.symlink(target, self._at(new), dir_fd=self._fd)
        self._move(new, self, name)

    def target(self, name: str) -> str:
        """Return what a symbolic link names."""
        return os.readlink(self._at(name), dir_fd=self._fd)

    def move(self, name: str, new: str, to: "Opened | None" = None) -> None:
        """Give a file another name, in `to` or here, over what has it; a link moves itself."""
        to = to or self
        look_up(to._heading, new)
        self._move(name, to, new)

    def _move(self, name: str, to: "Opened", new: str) -> None:
        os.replace(self._at(name), to._at(new), src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def link(self, name: str, new: str, to: "Opened") -> None:
        """Give a file a second name, in `to`."""
        follow = os.link not in os.supports_follow_symlinks
        os.link(
            self._at(name),
            to._at(new),
            src_dir_fd=self._fd,
            dst_dir_fd=to._fd,
            follow_symlinks=follow,
        )

    def remove(self, name: str) -> None:
        """Remove a name; a link goes itself."""
        look_up(self._heading, name)
        os.unlink(self._at(name), dir_fd=self._fd)

    def remove_tree(self, name: str) -> None:
        """Remove a folder with what is in it, as far as that can be, through no link."""
        if self.look(name, "folder") is not None:
            import shutil

            shutil.rmtree(self._at(name), ignore_errors=True, dir_fd=self._fd)

    def odd(self) -> list[str]:
        """Return what lies at the names of the table and is something else, in words."""
        found = []
        for name in NAMES[self._heading]:
            try:
                if "*" not in name:
                    self.look(name)
            except NotPrivate as error:
                found.append(str(error))
        return found

    def touch(self, name: str) -> None:
        """Give a file a new time."""
        os.utime(self._at(name), dir_fd=self._fd, follow_symlinks=self._fd is None)

    def chmod(self, mode: int) -> None:
        """Change the mode of the folder itself."""
        if self._fd is not None:
            fd = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=self._fd)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)

    def entries(self) -> list[tuple[str, bool]]:
        """Return (name, whether it is a folder) of what is in it, up to a bound; links are none."""
        fd = None
        if self._fd is not None:
            fd = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=self._fd)
        try:
            with os.scandir(self.path if fd is None else fd) as found:
                listed = islice(found, FOLDER_NAMES_MAX)
                return [(one.name, one.is_dir(follow_symlinks=False)) for one in listed]
        finally:
            if fd is not None:
                os.close(fd)

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if self._fd is None else name

    def _check(self, name: str, found: os.stat_result, kind: Kind | None = None) -> None:
        named = look_up(self._heading, name)[1]
        path = f"{self.path}/{name}"
        what = _other_than(kind or named.kind, found.st_mode)
        if what is not None:
            raise NotPrivate(path, what, named.way_out)
        if not self._owned(found, named):
            way_out = _OF_A_USER if named.owner == "user" else _OF_A_GROUP
            raise NotPrivate(path, "belongs to another user", way_out)

    def _owned(self, found: os.stat_result, named: Named) -> bool:
        if named.owner == "anybody" or not hasattr(os, "geteuid"):
            return True
        user, owner = os.geteuid(), found.st_uid
        if owner in (user, 0):
            return True
        base = os.stat(self._folder.base)
        if named.owner == "user":
            return user == 0 and owner == base.st_uid  # the superuser at work for somebody
        return owner == base.st_uid or (found.st_gid == base.st_gid and self._folder.shared())
