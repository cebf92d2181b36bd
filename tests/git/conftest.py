"""What the tests of grit.git share: real repositories, and chunks that are only bytes."""

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from grit.git.repository import discover
from grit.git.wal import Appended, Wal

ACTOR = bytes(range(16))
TS = 1_700_000_000_000

Git = Callable[..., str]


@pytest.fixture
def git() -> Git:
    """Run git in a folder and return what it printed; a failure fails the test."""

    def run(folder: Path | str, *arguments: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    return run


class Log:
    """A log under test: appends one chunk at a time and keeps track of the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wal = Wal(discover(str(folder), {}))

    def chunk(self, magic: bytes = b"GRITCHNK", size: int = 40) -> bytes:
        """Return a file that looks like a chunk of one event; the log does not look inside."""
        return magic + b"\x01\x00\x07cbor-v1\x81" + os.urandom(size)

    def append(self, *chunks: bytes, **changes: Any) -> Appended:
        """Append as the write path does: under the lock, on the head as it is now."""
        options: dict[str, Any] = {
            "message": "create 4f2a91c Title",
            "trailers": ["Grit-Events: 1"],
            "ts_unix_ms": TS,
            "actor_id": ACTOR,
            "event_count": len(chunks),
        }
        with self.wal.lock():
            options["old"] = self.wal.head()
            return self.wal.append(list(chunks) or [self.chunk()], **{**options, **changes})

    def read(self, head: str | None = None, old: str | None = None) -> list[bytes]:
        """Return all chunks; a problem fails the test."""
        head = head or self.wal.head()
        assert head is not None
        blobs = list(self.wal.read(head, old))
        assert [blob.problem for blob in blobs if blob.problem] == []
        return [blob.data for blob in blobs if blob.data is not None]


@pytest.fixture
def log(git_repository: Path) -> Log:
    """The log of a fresh repository."""
    return Log(git_repository)


@pytest.fixture
def open_log() -> type[Log]:
    """Open the log of any folder."""
    return Log


@pytest.fixture
def loose_path() -> Callable[[Path, str], Path]:
    """Return where a loose object lies."""

    def path(folder: Path, oid: str) -> Path:
        return folder / ".git" / "objects" / oid[:2] / oid[2:]

    return path


@pytest.fixture
def write_commit(git: Git) -> Callable[..., str]:
    """Write a commit by hand with git plumbing from {path: content} and move a ref to it."""

    def write(folder: Path, ref: str, files: dict[str, bytes], parents: Iterable[str] = ()) -> str:
        index = {**os.environ, "GIT_INDEX_FILE": str(folder / "by-hand.index")}
        lines = []
        for path, content in files.items():
            oid = git(folder, "hash-object", "-w", "--stdin", stdin=content)
            lines.append(f"100644 {oid}\t{path}\n")
        base = ["git", "-C", str(folder)]
        (folder / "by-hand.index").unlink(missing_ok=True)
        subprocess.run(
            [*base, "update-index", "--add", "--index-info"],
            input="".join(lines).encode(),
            env=index,
            check=True,
        )
        tree = subprocess.run([*base, "write-tree"], env=index, check=True, capture_output=True)
        options = [word for parent in parents for word in ("-p", parent)]
        commit = git(folder, "commit-tree", tree.stdout.decode().strip(), *options, "-m", "by hand")
        git(folder, "update-ref", ref, commit)
        return commit

    return write
