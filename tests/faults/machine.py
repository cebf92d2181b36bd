"""What fault tests share: grit as a process, strace around it, the check of a repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

GRIT = [sys.executable, "-P", "-c", "from grit.cli.main import main; main()"]
ROOT = Path(__file__).parents[2]
FULL_SWEEP = os.environ.get("GRIT_FAULTS") == "all"
TIMEOUT_S = 60

CHANGING = (
    "openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,symlinkat,"
    "write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,chmod,fchmod,flock,close,utimensat,"
    "msync"
)
"""The system calls before which a kill may leave something behind."""


class Done(NamedTuple):
    """What a finished command left."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def data(self) -> Any:
        """The result of a command that was run with --json."""
        document = json.loads(self.out)
        assert document["ok"], document
        return document["data"]


class Point(NamedTuple):
    """The `number`th call of `syscall` in a command, as strace counts."""

    syscall: str
    number: int
    line: str

    def __str__(self) -> str:
        return f"{self.syscall}:{self.number}"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the tests' environment with grit importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}


def grit(
    folder: Path | bytes | str,
    *arguments: str | bytes,
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    judged: bool = True,
    **more: Any,
) -> Done:
    """Run grit in `folder` behind the words `before`; a traceback or a bug fails the test."""
    started = time.monotonic()
    done = subprocess.run(
        [*before, *GRIT, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=environment(environ),
        **more,
    )
    seconds = time.monotonic() - started
    result = Done(done.returncode, done.stdout.decode(), done.stderr.decode(), seconds)
    if judged:
        judge(result, f"{before!r} {arguments!r:.300}")
    return result


def judge(done: Done, asked: str) -> None:
    """Fail the test when a command showed a traceback or called itself buggy."""
    shown = f"{asked} -> {done.status}\n{done.err[-3000:]}"
    assert "Traceback" not in done.err, shown
    assert "bug in grit" not in done.err, shown
    assert "internal_error" not in done.out, f"{shown}{done.out[-2000:]}"


def ok(folder: Path | bytes | str, *arguments: str | bytes, **more: Any) -> Done:
    """Run grit; a failure fails the test."""
    done = grit(folder, *arguments, **more)
    assert done.status == 0, f"{arguments!r}: {done.status}\n{done.err}{done.out[-1000:]}"
    return done


def git(folder: Path | bytes | str, *arguments: str, stdin: bytes = b"") -> str:
    """Run git and return what it printed; a failure fails the test."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, input=stdin, capture_output=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr.decode()}"
    return done.stdout.decode(errors="replace").strip()


def titles(folder: Path | bytes | str, **more: Any) -> list[str]:
    """Return the titles of all issues, sorted."""
    rows = ok(folder, "ls", "--all", "--state", "all", "--json", **more).data["issues"]
    return sorted(row["title"] for row in rows)


def need_strace() -> None:
    """Skip where processes cannot be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"processes cannot be traced here: {done.stderr.decode()[:100]}")


def need_root() -> None:
    """Skip where file systems cannot be mounted and owners not be changed."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting and chown need root")


def mounting(target: Path, *arguments: str) -> Iterator[Path]:
    """Mount on `target` until the generator ends; skip where that is not allowed."""
    need_root()
    target.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"mount is not allowed here: {done.stderr.decode()[:100]}")
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True, timeout=30)


def points(
    folder: Path, trace: Path, *arguments: str, syscalls: str = CHANGING, **more: Any
) -> list[Point]:
    """Run a command under strace; return its calls that touch the repository, in order."""
    before = ["strace", "-qq", "-y", "-s", "200", "-e", f"trace={syscalls}", "-o", str(trace)]
    done = grit(folder, *arguments, before=before, **more)
    assert done.status == 0, done.err
    counts: Counter[str] = Counter()
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        name = line.partition("(")[0]
        if not name.isidentifier():
            continue
        counts[name] += 1
        if f"{folder}/" in line and "= ?" not in line:
            found.append(Point(name, counts[name], line))
    return found


def changing(found: Sequence[Point]) -> list[Point]:
    """Leave out what only opens or closes a file for reading."""
    opened = ("openat",)
    written = re.compile(r"O_CREAT|O_RDWR|O_WRONLY")
    kept = [p for p in found if p.syscall not in opened or written.search(p.line)]
    return [p for p in kept if p.syscall != "close" or "objects" in p.line or "/grit" in p.line]


def sample(found: Sequence[Point], count: int) -> list[Point]:
    """Return all points, or `count` of them: both ends, the ref's own, the rest evenly."""
    if FULL_SWEEP or len(found) <= count:
        return list(found)
    own = [
        n
        for n, p in enumerate(found)
        if "wal.lock" in p.line and p.syscall in ("rename", "renameat")
    ]
    around = {m for n in own for m in (n - 1, n, n + 1) if 0 <= m < len(found)}
    evenly = {round(n * (len(found) - 1) / (count - 1)) for n in range(count)}
    return [found[n] for n in sorted(around | evenly)]


def events(folder: Path) -> list[str]:
    """Return every event of the exported log as JSON text, after two checks.

    The view must say what a view built anew says, and git must find nothing wrong.
    """
    first = _export(folder)
    shutil.rmtree(folder / ".git/grit/view", ignore_errors=True)
    second = _export(folder)
    assert first == second, "the view is not what a rebuild gives"
    git(folder, "fsck", "--strict", "--no-dangling")
    return [json.dumps(event) for event in second["events"]]


def _export(folder: Path) -> Any:
    document = json.loads(ok(folder, "export", "--format", "json").out)
    document = document.get("data", document)
    document["meta"].pop("generated_ts", None)
    return document


def fingerprint(folder: Path, *, but: Sequence[str] = ()) -> dict[str, str]:
    """Return path -> mode, link or content hash of everything below, but the paths named."""
    found = {}
    for base, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(base, name)
            short = str(path.relative_to(folder))
            if any(short == one or short.startswith(f"{one}/") for one in but):
                continue
            if path.is_symlink():
                found[short] = f"-> {os.readlink(path)}"
            elif path.is_dir():
                found[short] = f"folder {path.stat().st_mode:o}"
            elif path.is_file():
                digest = sha256(path.read_bytes()).hexdigest()
                found[short] = f"{path.stat().st_mode:o} {path.stat().st_mtime_ns} {digest}"
    return found
