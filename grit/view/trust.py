"""The mark that says which data file is trusted, and ViewDoubt (spec/view.md, Trust).

LMDB maps its file into memory, so that a truncated or garbled one can kill the process that reads
it. Therefore a file is opened only when it is, by inode, size and times, the very one that the
last writer left. The change time cannot be set back, so that no edit goes unnoticed.
"""

import os
from typing import Final, Literal, NamedTuple
from zlib import crc32

from grit.core.ids import parse_number
from grit.files.private import Opened

SCHEMA: Final = 6
"""Version of all byte layouts of the view; another one is rebuilt."""

Reason = Literal["absent", "schema", "changed", "damaged", "refused"]

_NAME: Final = "grit-view"
_BYTES: Final = 160
"""Every mark is padded to this, so that one write replaces the last."""
_SWITCHING: Final = b"switching".ljust(_BYTES)


class ViewDoubt(Exception):
    """The view cannot be believed and must be rebuilt; `absent` means that there is none yet.

    `refused`: something else lies in its place, and it can be built in another one alone.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep the reason and what was seen."""
        super().__init__(detail)
        self.reason: Final[Reason] = reason


class Mark(NamedTuple):
    """What identifies a data file; times in nanoseconds."""

    schema: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    def encode(self) -> bytes:
        """Return the contents of the mark file."""
        text = " ".join((_NAME, *map(str, self))).encode()
        return b"%b %08x" % (text, crc32(text)) + b" " * (_BYTES - len(text) - 9)


def look(folder: Opened, name: str) -> Mark | None:
    """Return the mark that fits the data file as it is now, or None without one."""
    found = folder.look(name)
    if found is None:
        return None
    return Mark(SCHEMA, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_mark(folder: Opened, name: str) -> Mark | None:
    """Return the mark on disk; None when it is absent, damaged, or a rebuild is switching files."""
    try:
        data = folder.read(name, cut=True)[:_BYTES]
    except FileNotFoundError:
        return None
    text, _, check = data.rstrip(b" ").rpartition(b" ")
    words = text.split(b" ")
    if check != b"%08x" % crc32(text) or words[0] != _NAME.encode() or len(words) != 6:
        return None
    numbers = [parse_number(word, 20, signed=True) for word in words[1:]]
    known = [number for number in numbers if number is not None]
    return Mark(*known) if len(known) == len(numbers) else None


def write_mark(folder: Opened, name: str, mark: Mark | None) -> None:
    """Replace the mark on disk; None says that a rebuild is switching files."""
    fd = folder.open(name, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, _SWITCHING if mark is None else mark.encode())
    finally:
        os.close(fd)


def vouch(folder: Opened, name: str, mark_name: str, data: bytes) -> None:
    """Replace a record beside the view, and the mark that says which file is trusted.

    Whatever lies at either name is replaced itself.
    """
    folder.replace(mark_name, _SWITCHING, sync=False)
    folder.replace(name, data, sync=False)
    mark = look(folder, name)
    folder.replace(mark_name, _SWITCHING if mark is None else mark.encode(), sync=False)


def trusted_record(folder: Opened, name: str, mark_name: str) -> bytes | None:
    """Return a record that is the one that was left here, else None; raises OSError."""
    seen = look(folder, name)
    if seen is None or seen != read_mark(folder, mark_name):
        return None
    return folder.read(name)
