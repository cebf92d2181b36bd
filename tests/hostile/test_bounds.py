"""What a push, a shipped repository or a git says costs bounded memory, time and disk.

Each shape is small on the wire. It is read by a process of its own under a limit of its address
space; what counts is its CPU time and its peak, and those of the git that it starts.
"""

import ast
import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

import grit
from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.errors import GitFailed
from grit.git import process
from tests.hostile.plumbing import (
    HEADER,
    ISSUE,
    array,
    comment,
    event,
    fresh_repository,
    git,
    log_head,
    push_chunks,
    run,
)

GOOD = codec.encode_chunk([event(kinds.ISSUE_CREATED, "Still here", "", ()), comment("beside")])
MEMORY_MB = 200
CPU_S = 5.0
VIEW_BYTES = 8_000_000
PROBE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000))
from grit.cli.main import run
status = run(sys.argv[1:])
own, git = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
cpu = own.ru_utime + own.ru_stime + git.ru_utime + git.ru_stime
print(status, own.ru_maxrss // 1024, git.ru_maxrss // 1024, cpu, file=sys.stderr)
"""


class Cost(NamedTuple):
    """What a command took."""

    status: int
    own_mb: float
    git_mb: float
    cpu_s: float
    out: str
    err: str


def cost(folder: Path, *words: str) -> Cost:
    """Run grit; a process begins with the peak of the one before it, so a shell lies between."""
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", PROBE, *words],
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    err = done.stderr.decode(errors="replace")
    assert "Traceback" not in err and "bug in grit" not in err, err[-2000:]
    *said, figures = err.rstrip("\n").split("\n")
    status, own_mb, git_mb, cpu_s = map(float, figures.split())
    return Cost(int(status), own_mb, git_mb, cpu_s, done.stdout.decode(), "\n".join(said))


def bounded(found: Cost) -> None:
    """Within the bounds of the issue: 200 MB and 5 s."""
    assert found.own_mb < MEMORY_MB
    assert found.git_mb < MEMORY_MB
    assert found.cpu_s < CPU_S


def head(count: int) -> bytes:
    """Return the head of an array, in its long form."""
    return b"\x9a" + struct.pack(">I", count)


def _records(number: int, count: int, record: bytes) -> bytes:
    return HEADER + head(count) + b"\x1a" + struct.pack(">I", number + 100_000) + record


SIZE = 4 * 1024 * 1024 - 64
EVENT_HEAD = b"\x88\x58\x20" + bytes(32)


def _filled(count: int, record: bytes) -> bytes:
    """Return a chunk of one record, an array of that many of these."""
    return HEADER + head(1) + head(count) + record * count


def _stuffed(item: bytes) -> bytes:
    """Return a chunk of one record that begins well, and holds 900,000 of these."""
    return array(EVENT_HEAD + head(900_000) + item * 900_000 + bytes(6))


SHAPES: dict[str, Callable[[], list[bytes]]] = {
    "10,000 small records in each of 60 chunks": lambda: [
        _records(n, 10_000, (b"\x84" + b"\x18\x41" * 36 + b"\x00") * 9_900) for n in range(60)
    ],
    "220,000 records in 16 MiB": lambda: [HEADER + head(220_000) + bytes(16 * 2**20 - 64)],
    "two million small arrays": lambda: [_filled(SIZE // 2, b"\x81\x80")],
    "four million maps": lambda: [_filled(SIZE, b"\xa0")],
    "four million simple values": lambda: [_filled(SIZE, b"\xe0")],
    "a record of 900,000 maps": lambda: [_stuffed(b"\xa0")],
    "a record of 900,000 simple values": lambda: [_stuffed(b"\xe0")],
    "nested to the bound": lambda: [_filled(SIZE // 8, b"\x81" * 6 + b"\x80\x80")],
    "tags on tags": lambda: [HEADER + head(10_000) + b"\xc0\xc0\xc0\x00" * 10_000],
    "records whose ids are wrong": lambda: [
        HEADER + head(10_000) + bytes([n]) + (EVENT_HEAD + bytes(7)) * 9_999 for n in range(4)
    ],
    "12,000 chunks that are none": lambda: [b"%d" % n for n in range(12_000)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_set_aside_is_bounded(tmp_path: Path, shape: str) -> None:
    """Reading, and doctor, stay within 200 MB and 5 s; the view stays small, the rest is shown."""
    folder = fresh_repository(tmp_path / "repository")
    push_chunks(folder, [GOOD, *SHAPES[shape]()])
    found = cost(folder, "ls")
    bounded(found)
    assert (found.status, "Still here" in found.out) == (0, True)
    assert sum(file.stat().st_size for file in (folder / ".git/grit/view").iterdir()) < VIEW_BYTES
    said = cost(folder, "doctor")
    bounded(said)
    assert "set aside" in said.out or "cannot be read whole" in said.out
    assert len(said.out) < 20_000


def _stats(folder: Path) -> dict[str, object]:
    data: dict[str, object] = json.loads(run(folder, "db", "stats", "--json").out)["data"]
    return {key: value for key, value in data.items() if key not in ("size_bytes", "wal_head")}


def test_what_counts_and_is_counted_depends_on_the_log_alone(tmp_path: Path) -> None:
    """In pieces and at once, in any order, over the bound: the same issues and the same counts.

    Without what is set aside the same events count.
    """
    junk = [b"%d" % n for n in range(limits.ASIDES_MAX + 300)]
    few = HEADER + b"\x99\x01\x2c" + bytes(300)
    one, other, clean = (fresh_repository(tmp_path / name) for name in ("one", "other", "clean"))
    push_chunks(clean, [GOOD])
    push_chunks(one, [GOOD, few])
    push_chunks(other, [*reversed(junk), few, GOOD])
    assert _stats(one)["aside_count"] == 300
    for part in (junk[:200], junk[9_000:], junk[:9_500], [few]):
        push_chunks(one, part)
        assert run(one, "ls").status == 0
    found = _stats(one)
    assert (found["aside_more"], found) == (True, _stats(other))
    assert run(one, "rebuild").status == 0
    assert _stats(one) == found
    events = [
        json.loads(run(at, "export", "--format", "json").out)["events"] for at in (one, clean)
    ]
    assert events[0] == events[1]
    assert "at least" in run(one, "db", "stats").out


def _write(folder: Path, kind: str, data: bytes) -> str:
    return git(folder, "hash-object", "-t", kind, "-w", "--stdin", "--literally", stdin=data)


def _lock_commit(folder: Path, data: bytes, message: bytes = b"x\n") -> str:
    blob = _write(folder, "blob", data)
    tree = git(folder, "mktree", stdin=f"100644 blob {blob}\tlock.json\n".encode())
    who = b"A <a@b> 1500000000 +0000"
    return _write(
        folder,
        "commit",
        b"tree %b\nauthor %b\ncommitter %b\n\n%b" % (tree.encode(), who, who, message),
    )


def _point(folder: Path, refs: dict[bytes, str]) -> None:
    lines = b"".join(b"create %b\0%b\0" % (name, oid.encode()) for name, oid in refs.items())
    git(folder, "update-ref", "-z", "--stdin", stdin=lines)


def _names(count: int) -> list[bytes]:
    return [b"refs/grit/locks/%016x" % number for number in range(count)]


def _lease(number: int, more: str = "") -> tuple[bytes, bytes]:
    text = f"path:f{number}"
    name = sha256(text.encode()).hexdigest()[:16]
    fields = {"owner": "aa" * 16, "nonce": "n", "expires_unix_ms": 1, "resource": text, "fence": 1}
    return b"refs/grit/locks/" + name.encode(), json.dumps({**fields, "more": more}).encode()


def _import_leases(folder: Path, count: int, more: str = "") -> None:
    """Make lock refs by `git fast-import`: much faster than object by object."""
    stream = []
    for number in range(count):
        name, data = _lease(number, more)
        stream.append(b"commit %b\ncommitter A <a@b> 1500000000 +0000\ndata 1\nx\n" % name)
        stream.append(b"M 100644 inline lock.json\ndata %d\n%b\n" % (len(data), data))
    git(folder, "fast-import", "--quiet", stdin=b"".join(stream))


def _one_huge_blob(folder: Path) -> None:
    oid = _lock_commit(folder, b" " * (16 * 2**20 - 1))
    _point(folder, dict.fromkeys(_names(1_000), oid))


def _huge_blobs(folder: Path) -> None:
    oids = [_lock_commit(folder, b" " * (16 * 2**20 - n)) for n in range(8)]
    _point(folder, dict(zip(_names(8), oids, strict=True)))


def _huge_message(folder: Path) -> None:
    oid = _lock_commit(folder, _lease(0)[1], b"author " * 2_000_000)
    _point(folder, dict.fromkeys(_names(300), oid))


LOCKS: dict[str, Callable[[Path], None]] = {
    "one lock.json of 16 MiB behind 1,000 refs": _one_huge_blob,
    "eight of 16 MiB": _huge_blobs,
    "a message of 14 MB": _huge_message,
    "1,000 of 30 KB": lambda folder: _import_leases(folder, 1_000, "x" * 30_000),
    "2,000 leases": lambda folder: _import_leases(folder, 2_000),
}


def _found_old_before(folder: Path) -> None:
    """Let an earlier gc have noted them all: only then are they removed (spec/leases.md)."""
    oids = git(folder, "for-each-ref", "--format=%(objectname)", "refs/grit/locks/").split()
    notes = "".join(f"old {oid} 1500000000000\n" for oid in dict.fromkeys(oids))
    (folder / ".git" / "grit" / "leases-seen").write_text(notes)


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize("shape", LOCKS)
def test_lock_refs_are_bounded(tmp_path: Path, shape: str, packed: bool) -> None:
    """Listing, taking and clearing leases costs bounded time, whatever stands behind the refs."""
    folder = fresh_repository(tmp_path / "repository")
    LOCKS[shape](folder)
    if packed:
        git(folder, "-c", "core.bigFileThreshold=1m", "gc", "-q")
    for words in (("lock", "status"), ("lock", "acquire", "path:q"), ("lock", "gc")):
        if words == ("lock", "gc"):
            _found_old_before(folder)
        found = cost(folder, *words)
        assert found.status == 0, found.err
        bounded(found)
        assert len(found.err) < 20_000
    left = git(folder, "for-each-ref", "--format=%(refname)", "refs/grit/locks/").split()
    assert len(left) == 1 if shape == "2,000 leases" else len(left) >= 9


ODD = (b"a\xe2\x80\xa8b", b"\xc2\x85", b"\xff\xfe", "ü".encode(), b"a\xc2\xa0b", b"\xe2\x80\xaex")
"""U+2028, NEL, no UTF-8, a letter, a space that does not break, a mark that turns the line."""


def _odd_refs() -> Iterator[bytes]:
    for name in ODD:
        yield from (
            b"refs/grit/x/" + name,
            b"refs/grit/locks/" + name,
            b"refs/grit/snapshots/" + name,
            b"refs/grit-remotes/" + name + b"/wal",
            b"refs/grit-remotes/" + name + b"/locks/0123456789abcdef",
            b"refs/grit-lost/" + name,
        )


@pytest.mark.parametrize("storage", ["loose", "packed"])
def test_refs_of_any_bytes(tmp_path: Path, storage: str) -> None:
    """Every command goes on whatever bytes a ref's name has: no name ends a line but at LF."""
    folder = fresh_repository(tmp_path / "repository")
    push_chunks(folder, [GOOD])
    issue = ISSUE.hex()
    git(folder, "init", "-q", "--bare", str(tmp_path / "origin.git"))
    git(folder, "remote", "add", "origin", str(tmp_path / "origin.git"))
    assert run(folder, "sync").status == 0
    commit = _lock_commit(folder, b"{}")
    _point(folder, dict.fromkeys(_odd_refs(), commit))
    _point(tmp_path / "origin.git", dict.fromkeys(_odd_refs(), log_head(folder)))
    if storage == "packed":
        git(folder, "pack-refs", "--all")
    for words in (
        *(("lock", "status"), ("lock", "acquire", "repo:x"), ("issue", "claim", issue)),
        *(("lock", "gc"), ("snapshot", "list"), ("snapshot", "gc"), ("doctor",), ("sync",)),
        *(("config", "set", "lock_policy", "warn"), ("comment", issue, "-b", "x"), ("ls",)),
        ("doctor", "--fix"),
    ):
        done = run(folder, *words)
        assert done.status == 0, (words, done.err, done.out)
    shell = {"_GRIT_COMPLETE": "bash_complete", "COMP_WORDS": "grit show ", "COMP_CWORD": "2"}
    assert run(folder, environ=shell).status == 0
    left = git(folder, "for-each-ref", "--format=x", "refs/grit/locks/")
    assert len(left.split()) >= len(ODD)


CONFIGS = {
    "a value 300,000 times": ("[user]\n" + "name = n\n" * 300_000, 0),
    "a section that each value repeats": (f'[a "{"x" * 500_000}"]\n' + "b\n" * 1_000, 1),
    "a file of 5 MB": ("# " + "x" * 5_000_000 + "\n", 1),
}


def test_recorded_heads_that_are_missing_are_passed_over(tmp_path: Path) -> None:
    """Half a million packed records of logs that nobody has cost one look, and are told at once."""
    folder = fresh_repository(tmp_path / "repository")
    push_chunks(folder, [GOOD])
    with (folder / ".git/packed-refs").open("w") as file:
        file.write(f"{git(folder, 'rev-parse', 'refs/grit/wal')} refs/grit/wal\n")
        for number in range(500_000):
            file.write(f"{number + 1:040x} refs/grit-remotes/{'r' * 120}{number:07}/wal\n")
    (folder / ".git/refs/grit/wal").unlink()
    for expected in ("100000 recorded heads of other places are missing and passed over", ""):
        found = cost(folder, "ls")
        bounded(found)
        assert (found.status, "Still here" in found.out) == (0, True)
        assert expected in found.err and bool(expected) == bool(found.err.strip())


def test_many_recorded_heads_are_taken_in_by_and_by(tmp_path: Path) -> None:
    """No command takes in more than 100, and none is left out; missing ones hold up nobody."""
    folder = fresh_repository(tmp_path / "repository")
    push_chunks(folder, [GOOD])
    for number in range(130):
        chunk = codec.encode_chunk([comment(f"from {number}", ts=number + 5)])
        push_chunks(folder, [chunk], f"refs/grit-remotes/r{number:03}/wal")
    with (folder / ".git/packed-refs").open("w") as file:
        for number in range(20):
            file.write(f"{number + 1:040x} refs/grit-remotes/gone{number:03}/wal\n")
    counts = []
    for _ in range(3):
        found = run(folder, "show", ISSUE.hex(), "--json")
        counts.append(len(json.loads(found.out)["data"]["issue"]["comments"]))
    assert counts == [101, 131, 131]


@pytest.mark.parametrize("shape", CONFIGS)
def test_the_configuration_is_bounded(tmp_path: Path, shape: str) -> None:
    """git's configuration costs bounded memory and time, or is refused with what is wrong."""
    folder = fresh_repository(tmp_path / "repository")
    more, status = CONFIGS[shape]
    with (folder / ".git/config").open("a") as file:
        file.write(more)
    found = cost(folder, "new", "one")
    bounded(found)
    assert found.status == status or (status and found.status > 0), found.err
    if status:
        assert "MiB" in found.err or "larger" in found.err, found.err


def test_what_git_prints_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that prints without end is ended; of its complaints the first are kept."""
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nyes complaint >&2 & yes; kill $!\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GitFailed, match="printed more than 1 MiB"):
        process.run(None, "anything", bytes_max=1 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


LINES = {
    "cli/agents.py": "bytes of a text file, whose lines end in LF or CR",
    "cli/completion.py": "grit's own script",
    "cli/manual.py": "grit's own help",
}
"""Files that may cut text with `splitlines`, and why; nothing of git or of a repository."""
WHOLE: dict[str, dict[str, str]] = {
    "communicate": {"git/process.py": "on Windows, where nothing waits for pipes"},
    "splitlines": LINES,
}


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_is_cut_or_read_by(name: str) -> None:
    """Nobody cuts lines at U+2028, VT, FF or NEL, or takes in all that a process prints."""
    package = Path(grit.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == name
    }
    assert found == set(WHOLE[name])
