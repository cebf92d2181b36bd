"""Locks that a killed git left, here and in a remote on this machine (spec/wal.md, Locks)."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.git.leftovers import Lock, clear
from tests.faults.machine import git, grit, ok, titles

TRACKING = "refs/grit-remotes/origin/wal"


@pytest.fixture
def pair(tracker: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A bare remote and a clone that both hold the log; the clone has one event more."""
    bare = tmp_path / "origin.git"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    git(tracker, "remote", "add", "origin", str(bare))
    ok(tracker, "sync")
    git(tmp_path, "clone", "-q", str(bare), "other")
    ok(tmp_path / "other", "new", "from the other")
    ok(tmp_path / "other", "sync")
    ok(tracker, "new", "the second")
    yield bare, tracker


@pytest.mark.parametrize(
    "left", [f"{TRACKING}.lock", "config.lock", "../../origin.git/refs/grit/wal.lock"]
)
def test_fault_4_a_lock_left_by_a_killed_git_delays_one_sync(
    pair: tuple[Path, Path], left: str
) -> None:
    """`git fetch`, `git config` or the receiver was killed: the next sync clears up, and tells."""
    bare, tracker = pair
    git(tracker, "config", "--unset-all", "remote.origin.fetch", "refs/grit/")
    (tracker / ".git" / left).touch()
    first = ok(tracker, "sync")
    assert first.seconds < 10
    if left != "config.lock":
        assert "left behind" in first.err, first.err
    second = ok(tracker, "sync")
    assert second.err == ""
    assert "refs/grit/*" in git(tracker, "config", "--get-all", "remote.origin.fetch")
    assert git(bare, "rev-parse", "refs/grit/wal") == git(tracker, "rev-parse", TRACKING)
    assert titles(tracker) == ["from the other", "the first", "the second"]


def test_a_lock_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    """What changes while it is watched is alive; what another user owns is not ours to judge."""
    lock = tmp_path / "x.lock"
    lock.touch()
    other = tmp_path / "y.lock"
    other.touch()
    os.chown(other, 12345, 12345) if os.geteuid() == 0 else other.unlink()
    child = os.fork()
    if child == 0:
        time.sleep(0.5)
        lock.unlink()
        lock.touch()
        os._exit(0)
    assert clear([Lock(str(tmp_path), "x.lock")]) == []
    os.waitpid(child, 0)
    assert lock.exists()
    assert clear([Lock(str(tmp_path), "y.lock")]) == []
    assert other.exists() == (os.geteuid() == 0)
    assert "left behind" in clear([Lock(str(tmp_path), "x.lock")])[0]
    assert not lock.exists()


def test_fault_4_what_a_killed_fetch_left_does_not_mislead_doctor(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The newest commit came, the ones before it did not: doctor says that events are missing."""
    bare, tracker = pair
    ok(tmp_path / "other", "new", "newest")
    ok(tmp_path / "other", "sync")
    head = git(bare, "rev-parse", "refs/grit/wal")
    for oid in (head, git(bare, "rev-parse", f"{head}^{{tree}}")):
        place = f"objects/{oid[:2]}/{oid[2:]}"
        (tracker / ".git" / place).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "other/.git" / place, tracker / ".git" / place)
    assert git(tracker, "rev-parse", f"{head}^{{tree}}")
    done = grit(tracker, "doctor", "--remote")
    assert done.status == 0, done
    assert "has events that are not here yet" in done.out
    assert len(titles(tracker)) == 2
    ok(tracker, "sync")
    assert len(titles(tracker)) == 4


def test_fault_4_locks_left_by_a_killed_removal_delay_the_next_one(
    pair: tuple[Path, Path],
) -> None:
    """`git update-ref -d` was killed: the next removal clears up, all locks at once."""
    _, tracker = pair
    for _ in range(4):
        ok(tracker, "snapshot", "create")
        ok(tracker, "new", "more")
    refs = git(tracker, "for-each-ref", "--format=%(refname)", "refs/grit/snapshots").split()
    for ref in refs[:2]:
        (tracker / f".git/{ref}.lock").touch()
    lock = tracker / ".git/packed-refs.lock"
    lock.touch()
    grit(tracker, "snapshot", "gc")
    assert lock.exists(), "a living git may hold it for seconds"
    assert len(git(tracker, "for-each-ref", "refs/grit/snapshots").splitlines()) == len(refs)
    os.utime(lock, (0, 0))
    done = ok(tracker, "snapshot", "gc")
    assert done.seconds < 15
    left = git(tracker, "for-each-ref", "--format=%(refname)", "refs/grit/snapshots").split()
    assert left == refs[2:]
    git(tracker, "pack-refs", "--all")
