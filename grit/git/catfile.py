"""Objects from the git program, one by one or many in a row, each checked against its id."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Literal, NamedTuple

from grit.core.ids import parse_number
from grit.core.limits import CHUNK_BYTES_MAX
from grit.git.objects import HashFunction, hash_function, is_true, read_loose
from grit.git.process import start
from grit.git.repository import Repository

if TYPE_CHECKING:
    from subprocess import Popen


_AHEAD_MIN: Final = 60
"""Objects asked for ahead of the answers: their ids fit into the smallest pipe."""
_AHEAD_MAX: Final = 600
"""With more nothing gets faster."""
_LINE_BYTES: Final = 65
_PART_BYTES: Final = 1 << 20
_HEX: Final = frozenset("0123456789abcdef")


class Header(NamedTuple):
    """Kind (`blob`, `tree`, `commit`, `tag`) and size in bytes of an object."""

    kind: str
    size: int


Item = tuple[str, int | None]
"""An object that is wanted, by its id, and a number that is handed back with it."""
Problem = Literal["", "missing", "broken", "too large"]
Answer = tuple[Item, str, bytes, Problem]
"""What became of an item: kind and content, or the problem that keeps it from being read."""


def read_ahead(
    repository: Repository,
    following: Callable[[int], Sequence[Item]],
    bytes_max: int,
    *,
    sizes_first: bool = False,
) -> Iterator[Answer]:
    """Yield the objects that `following` wants, in that order, from one git process.

    It gives at most so many as it is asked for, ahead of the answers; nothing means that it wants
    nothing until an answer was looked at, or at all. What is larger than `bytes_max` is not read,
    and with `sizes_first` not even unpacked by git, which happens once without it.
    Raises GitFailed, IoFailed.
    """
    asked: deque[Item] = deque()
    reader = _AheadReader(repository, bytes_max, CatFile(repository) if sizes_first else None)
    try:
        while True:
            if len(asked) <= reader.ahead // 2:
                fresh = following(reader.ahead - len(asked))
                if fresh:
                    asked.extend(fresh)
                    reader.ask(fresh)
            if not asked:
                return
            yield reader.answer(asked)
    finally:
        reader.close()


class NotWhole(Exception):
    """In a row of objects one is missing, broken, of another kind or too large, or git died."""


def read_listed(
    repository: Repository, ids: IO[bytes], kind: Literal["commit", "tree"]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield (id in hex, content) of the objects whose ids stand in a file or come from a pipe.

    Of a commit above CHUNK_BYTES_MAX only its headers, of which the ids are. `ids` is closed here,
    so that a process that writes them ends with this one. Raises NotWhole, GitFailed, IoFailed.
    """
    process = start(repository.git_dir, "cat-file", "--batch", "--buffer", stdin=ids)
    ids.close()
    assert process.stdout is not None
    read, readline = process.stdout.read, process.stdout.readline
    new_hash = hash_function(repository.object_format)
    mark, framed = f" {kind} ".encode(), f"{kind} %d\0%b".encode()
    try:
        for line in iter(readline, b""):
            oid, _, rest = line.partition(mark)
            size = _stated(rest)
            if 0 <= size <= CHUNK_BYTES_MAX:
                content = read(size)
                whole = new_hash(framed % (size, content)).hexdigest().encode() == oid
            elif size >= 0 and kind == "commit":
                content, true_id = _headers(process.stdout, size, new_hash)
                whole = bool(content) and true_id.encode() == oid
            else:
                raise NotWhole
            if read(1) != b"\n" or not whole:
                raise NotWhole
            yield oid, content
        if process.wait() != 0:
            raise NotWhole
    finally:
        stop(process)


@lru_cache(4_096)  # of trees and commits most have the same few
def _stated(rest: bytes) -> int:
    """Return the size that ends a line of git's answer; -1 where none does."""
    size = parse_number(rest.rstrip(b"\n"))
    return -1 if size is None else size


def _headers(source: IO[bytes], size: int, new_hash: HashFunction) -> tuple[bytes, str]:
    """Return the headers of a large commit and the id of all that is read; none without an end."""
    digest = new_hash(b"commit %d\0" % size)
    headers = b""
    while size > 0 and (part := source.read(min(size, _PART_BYTES))):
        digest.update(part)
        size -= len(part)
        if len(headers) < CHUNK_BYTES_MAX:
            headers += part
    headers, end, _ = headers.partition(b"\n\n")
    return headers + end, digest.hexdigest()


class _AheadReader:
    """A `git cat-file` with questions that it has not answered yet."""

    def __init__(self, repository: Repository, bytes_max: int, sizes: "CatFile | None") -> None:
        self.ahead = _AHEAD_MIN
        self._repository = repository
        self._bytes_max = bytes_max
        self._new_hash = hash_function(repository.object_format)
        self._process: Popen[bytes] | None = None
        self._source: IO[bytes] = BytesIO()
        self._sizes = sizes
        """Asked for each size once one was too large: to stop git in one costs a process."""
        self._too_large: dict[str, str] = {}

    def ask(self, items: Iterable[Item]) -> None:
        """Send questions; this waits for nothing, since a pipe holds all that are open."""
        oids = [oid for oid, _ in items]
        if self._sizes is not None:
            oids = [oid for oid in oids if not self._is_too_large(self._sizes, oid)]
        if not oids:
            return
        if self._process is None:
            import subprocess

            self._process = start(
                self._repository.git_dir, "cat-file", "--batch", stdin=subprocess.PIPE
            )
            assert self._process.stdout is not None
            self._source = self._process.stdout
            self.ahead = _ahead(self._process)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died over an object: the answer will tell
            self._process.stdin.write("\n".join((*oids, "")).encode())
            self._process.stdin.flush()

    def _is_too_large(self, sizes: "CatFile", oid: str) -> bool:
        header = sizes.header(oid)
        if header is None or header.size <= self._bytes_max:
            return False
        self._too_large[oid] = header.kind
        return True

    def answer(self, asked: deque[Item]) -> Answer:
        """Return the answer to the first question, and take that off."""
        item = asked.popleft()
        oid = item[0]
        if oid in self._too_large:
            return item, self._too_large[oid], b"", "too large"
        source = self._source
        words = source.readline().split()
        if len(words) != 3:
            if words[1:] == [b"missing"]:
                return item, "", b"", "missing"
            return self._begin_again(asked, (item, "", b"", "broken"))
        kind, size = words[1], parse_number(words[2])
        if size is None:
            return self._begin_again(asked, (item, "", b"", "broken"))
        if size > self._bytes_max:
            self._sizes = self._sizes or CatFile(self._repository)
            return self._begin_again(asked, (item, kind.decode(), b"", "too large"))
        content = source.read(size)
        if source.read(1) != b"\n":
            return self._begin_again(asked, (item, "", b"", "broken"))
        if self._new_hash(b"%b %d\0%b" % (kind, size, content)).hexdigest() != oid:
            return item, "", b"", "broken"
        return item, kind.decode(), content, ""

    def _begin_again(self, asked: deque[Item], answer: Answer) -> Answer:
        """Ask another git for all that this one, which is dead or to be ended, has not answered."""
        self._end()
        self.ask(asked)
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop(process)

    def close(self) -> None:
        """End git, whatever it is doing."""
        self._end()
        if self._sizes is not None:
            self._sizes.close()


def _ahead(process: "Popen[bytes]") -> int:
    """Return how many ids the process's pipe can hold, within the bounds."""
    if sys.platform != "linux":
        return _AHEAD_MIN
    import fcntl

    assert process.stdin is not None
    held = fcntl.fcntl(process.stdin, fcntl.F_GETPIPE_SZ) // _LINE_BYTES
    return max(_AHEAD_MIN, min(held, _AHEAD_MAX))


class CatFile:
    """A `git cat-file` that answers many questions; started anew when damage kills it."""

    __slots__ = ("_asker", "_reader", "_repository")

    def __init__(self, repository: Repository) -> None:
        """Start nothing yet."""
        self._repository = repository
        self._asker: Popen[bytes] | None = None
        self._reader: Popen[bytes] | None = None

    def __enter__(self) -> "CatFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what runs; the next question starts it again."""
        for process in (self._asker, self._reader):
            if process is not None:
                stop(process)
        self._asker = self._reader = None

    def header(self, oid: str) -> Header | None:
        """Return kind and size without reading the object; None when it is missing or broken."""
        if self._asker is None:
            self._asker = self._start("--batch-check")
        line = _ask(self._asker, oid)
        if not line:
            stop(self._asker)
            self._asker = None
        return _parse(line)

    def read(self, oid: str) -> tuple[str, bytes] | None:
        """Return (kind, content), or None when the object is missing or broken.

        An id is checked; another name of an object is believed. Ask for the header first where the
        size is not known to be harmless.
        """
        if self._reader is None:
            self._reader = self._start("--batch")
        line = _ask(self._reader, oid)
        header = _parse(line)
        content = b""
        if header is not None and self._reader.stdout is not None:
            content = self._reader.stdout.read(header.size)
            ended = self._reader.stdout.read(1) == b"\n"
            if ended and len(content) == header.size:
                return (header.kind, content) if self._is_true(oid, header, content) else None
        if header is not None or not line:
            stop(self._reader)
            self._reader = None
        return None

    def read_commit(self, oid: str) -> bytes | None:
        """Return a commit, of a large one its headers; None when it is missing or broken."""
        import subprocess

        header = self.header(oid)
        if header is None or header.kind != "commit":
            return None
        if header.size <= CHUNK_BYTES_MAX:
            found = self.read(oid)
            return found[1] if found else None
        reader = start(
            self._repository.git_dir, "cat-file", "commit", oid, stdin=subprocess.DEVNULL
        )
        try:
            assert reader.stdout is not None
            new_hash = hash_function(self._repository.object_format)
            content, true_id = _headers(reader.stdout, header.size, new_hash)
        finally:
            stop(reader)
        return content if content and true_id == oid else None

    def _is_true(self, oid: str, header: Header, content: bytes) -> bool:
        named = not _HEX.issuperset(oid)
        return named or is_true(self._repository.object_format, oid, header.kind, content)

    def _start(self, mode: str) -> "Popen[bytes]":
        import subprocess

        return start(self._repository.git_dir, "cat-file", mode, stdin=subprocess.PIPE)


def read_small(repository: Repository, objects: CatFile, oid: str) -> tuple[str, bytes] | None:
    """Return (kind, content); None when the object is missing, broken or above CHUNK_BYTES_MAX.

    A commit is never too large: of one above that its headers are given.
    """
    found = read_loose(repository, oid)
    header = objects.header(oid) if found is None else None
    if header is None:
        return found
    if header.kind == "commit":
        content = objects.read_commit(oid)
        return None if content is None else ("commit", content)
    return objects.read(oid) if header.size <= CHUNK_BYTES_MAX else None


def stop(process: "Popen[bytes]") -> None:
    """End a git process that is not needed any more, whatever it is doing."""
    process.kill()
    if process.stdin is not None:
        with suppress(OSError):  # what was buffered has no reader any more
            process.stdin.close()
    if process.stdout is not None:
        process.stdout.close()
    process.wait()


def _ask(process: "Popen[bytes]", oid: str) -> bytes:
    if process.stdin is None or process.stdout is None:
        return b""
    try:
        process.stdin.write(oid.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return b""
    return process.stdout.readline()


def _parse(line: bytes) -> Header | None:
    words = line.split()
    size = parse_number(words[2]) if len(words) == 3 else None
    return None if size is None else Header(words[1].decode(errors="replace"), size)
