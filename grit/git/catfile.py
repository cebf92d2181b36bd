"""Objects one by one from the git program, for what is not loose and for damaged logs."""

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from grit.git.process import start
from grit.git.repository import Repository

if TYPE_CHECKING:
    from subprocess import Popen


class Header(NamedTuple):
    """Kind (`blob`, `tree`, `commit`, `tag`) and size in bytes of an object."""

    kind: str
    size: int


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

        Ask for the header first where the size is not known to be harmless.
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
                return header.kind, content
        if header is not None or not line:
            stop(self._reader)
            self._reader = None
        return None

    def _start(self, mode: str) -> "Popen[bytes]":
        import subprocess

        return start(self._repository.git_dir, "cat-file", mode, stdin=subprocess.PIPE)


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
    if len(words) != 3 or not words[2].isdigit():
        return None
    return Header(words[1].decode(), int(words[2]))
