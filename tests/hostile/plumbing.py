"""What hostile tests share: logs written by git itself, commands as real processes, safe output."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import cbor2

from grit.core import codec
from grit.core import events as kinds
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId

GRIT = [sys.executable, "-c", "from grit.cli.main import main; main()"]
HEADER = codec.MAGIC + b"\x01\x00\x07cbor-v1"
ACTOR = ActorId(b"\xaa" * 16)
ISSUE = IssueId(b"\x01" * 16)
NOW_MS = 1_700_000_000_000

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]|[\u0300-\u036f]{5}"
)


class Done(NamedTuple):
    """What a finished command left."""

    status: int
    out: str
    err: str


def run(
    folder: Path,
    *arguments: str | bytes,
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
) -> Done:
    """Run grit as a process; no traceback, no bug and no unsafe character may come out."""
    done = subprocess.run(
        [*GRIT, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=60,
        env={**os.environ, **(environ or {})},
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    shown = f"{arguments!r:.300}\n{err[-2000:]}"
    assert "Traceback" not in err, shown
    assert "bug in grit" not in err, shown
    assert "internal_error" not in out, f"{shown}{out[-2000:]}"
    assert done.returncode in (0, 1, 2, 3, 4, 5), shown
    for text in (out.replace("\r\n", "\n"), err):  # CSV ends its lines so
        found = _UNSAFE.search(text)
        assert found is None, f"{arguments!r:.200}: {text[max(0, found.start() - 60) :]!r:.200}"
    return Done(done.returncode, out, err)


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git and return what it printed; a failure fails the test."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def fresh_repository(folder: Path) -> Path:
    """Make a repository with an actor, and return its folder."""
    git(folder.parent, "init", "-q", str(folder))
    assert run(folder, "init").status == 0
    return folder


def push_chunks(folder: Path, chunks: Iterable[bytes], ref: str = "refs/grit/wal") -> None:
    """Append chunks to the log by `git fast-import`, as a hostile peer would: nothing checked."""
    stream = [f"commit {ref}\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx\n".encode()]
    if git(folder, "for-each-ref", ref):
        stream.append(f"from {ref}^0\ndeleteall\n".encode())
    for data in chunks:
        name = blake2b(data, digest_size=32).hexdigest()
        stream.append(f"M 100644 inline {name}.bin\ndata {len(data)}\n".encode() + data + b"\n")
    git(folder, "fast-import", "--quiet", stdin=b"".join(stream))


def event(tag: int, *payload: object, ts: int = 0, issue: IssueId = ISSUE) -> Event:
    """Seal a valid event; `ts` counts from NOW_MS."""
    draft = Draft(issue, tag, payload)  # type: ignore[arg-type]
    return codec.seal(draft, ACTOR, NOW_MS + ts, None)


def comment(text: str, ts: int = 1) -> Event:
    """Seal a comment on the one issue."""
    return event(kinds.COMMENT_ADDED, text, ts=ts)


def forged(*fields: object, sig: object = None) -> bytes:
    """Return a record whose id is right, whatever its six fields are."""
    digest = blake2b(cbor2.dumps([1, *fields]), digest_size=32).digest()
    return cbor2.dumps([digest, *fields, sig])


def array(*records: bytes) -> bytes:
    """Return a chunk of records that may be anything."""
    return HEADER + cbor2.dumps([None] * len(records))[: -len(records) or None] + b"".join(records)


def log_head(folder: Path) -> str:
    """Return what the log's ref says."""
    return git(folder, "for-each-ref", "--format=%(objectname)", "refs/grit/wal", "refs/grite/wal")
