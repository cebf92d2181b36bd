"""Many writers at once, and writers that are killed: contracts 1 and 2 of the log."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
WRITER = """
import os, sys
from grit.git.repository import discover
from grit.git.wal import HeadMoved, Wal
wal = Wal(discover(sys.argv[1], {}), {"GIT_AUTHOR_NAME": "W", "GIT_AUTHOR_EMAIL": "w@x"})
for number in range(int(sys.argv[3])):
    chunk = b"GRITCHNK\\x01\\x00\\x07cbor-v1\\x81" + f"{sys.argv[2]}-{number}.".encode()
    while True:
        try:
            with wal.lock():
                done = wal.append(
                    [chunk], old=wal.head(), message="m", trailers=[], ts_unix_ms=10**12,
                    actor_id=bytes(16), event_count=1)
            break
        except HeadMoved:
            continue
    os.write(1, f"{sys.argv[2]}-{number} {done.head}\\n".encode())
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


def _start(folder, name, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
    )


def _names(log):
    return [chunk.rpartition(b"\x81")[2].rstrip(b".").decode() for chunk in log.read()]


def test_fault_6_writers_beside_pack_refs_and_gc(log, git):
    """Four processes with 25 appends each, beside pack-refs and gc: 100 chunks, each once."""
    writers = [_start(log.folder, f"p{n}", 25) for n in range(4)]
    while any(writer.poll() is None for writer in writers):
        git(log.folder, "pack-refs", "--all", "--prune")
        subprocess.run(["git", "-C", str(log.folder), "gc", "-q"], capture_output=True)
    for writer in writers:
        _, errors = writer.communicate(timeout=30)
        assert (errors.decode(), writer.returncode) == ("", 0)
    expected = {f"p{n}-{number}" for n in range(4) for number in range(25)}
    names = _names(log)
    assert len(names) == 100
    assert set(names) == expected
    git(log.folder, "fsck", "--strict")


def test_regression_17_writers_beside_plain_git(log, git):
    """Somebody who moves the log with plain git beside a writer neither loses nor breaks it."""
    writer = _start(log.folder, "p", 20)
    tree = git(log.folder, "mktree")
    moved = 0
    while writer.poll() is None:
        head = log.wal.head()
        if head is None:
            continue
        commit = git(log.folder, "commit-tree", tree, "-p", head, "-m", "by hand")
        update = ["git", "-C", str(log.folder), "update-ref", log.wal.ref, commit, head]
        moved += subprocess.run(update, capture_output=True).returncode == 0
    _, errors = writer.communicate(timeout=30)
    assert (writer.returncode, errors) == (0, b"")
    assert len(set(_names(log))) == 20
    assert git(log.folder, "rev-list", "--count", log.wal.ref) == str(20 + moved)


def test_fault_4_killed_writers(log, git):
    """After kill -9 at any moment the log is whole and holds all that was acknowledged."""
    seed = int(os.environ.get("GRIT_TEST_SEED", "7"))
    chance = random.Random(seed)
    acknowledged = set()
    for turn in range(20):
        writer = _start(log.folder, f"k{turn}", 1000)
        writer.stdout.readline() if turn % 2 else None
        time.sleep(chance.random() * (0.02 if turn % 2 else 0.2))
        writer.send_signal(signal.SIGKILL)
        out, errors = writer.communicate(timeout=30)
        assert errors == b"", f"seed {seed}"
        acknowledged |= {line.split()[0] for line in out.decode().splitlines() if " " in line}
        for lock in log.folder.glob(".git/refs/grit/*.lock"):
            os.utime(lock, (1, 1))  # as if the kill were a while ago
    log.append(b"GRITCHNK\x01\x00\x07cbor-v1\x81last.")
    names = _names(log)
    assert acknowledged <= set(names), f"seed {seed}"
    assert len(names) == len(set(names))
    assert "last" in names
    git(log.folder, "fsck", "--strict")
    assert not list(log.folder.glob(".git/refs/grit/*.lock"))


def test_fault_7_collected_objects_are_written_again(log, git):
    """What `git gc --prune=now` took before the ref named it comes back from the journal."""
    journal = [log.append() for _ in range(5)]
    head = log.wal.head()
    git(log.folder, "update-ref", "-d", log.wal.ref)
    git(log.folder, "gc", "-q", "--prune=now")
    assert git(log.folder, "count-objects", "-v").startswith("count: 0")
    for done in journal:
        assert log.wal.restore(done.objects)[-1] == done.head
    git(log.folder, "update-ref", log.wal.ref, head)
    assert len(log.read()) == 5
    git(log.folder, "fsck", "--strict")
