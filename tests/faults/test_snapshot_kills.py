"""kill -9 inside snapshot commands and inside a rebuild from one: nothing half, nothing lost."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.machine import Point, changing, git, grit, ok, points, sample


def _kill(point: Point, folder: Path, *arguments: str) -> int:
    inject = f"inject={point.syscall}:signal=KILL:when={point.number}"
    before = ["strace", "-qq", "--seccomp-bpf", "-f", "-o", "/dev/null", "-e", inject]
    return grit(folder, *arguments, before=before).status


def _state(folder: Path, *words: str) -> Any:
    """Return the export of a view that was rebuilt in this way."""
    rebuilt = ok(folder, "rebuild", *words, "--json").data
    document = ok(folder, "export", "--format", "json", "--json").data
    document["meta"].pop("generated_ts", None)
    return document, rebuilt["from_snapshot"]


def _healthy(folder: Path, head: str) -> None:
    """Every snapshot that is named is whole and true, and the log is as it was."""
    assert git(folder, "rev-parse", "refs/grit/wal") == head
    rows = ok(folder, "snapshot", "verify", "--json").data["snapshots"]
    assert all(row["usable"] for row in rows), rows
    whole, _ = _state(folder)
    begun, used = _state(folder, "--from-snapshot")
    assert begun == whole
    assert (used is not None) == bool(rows)
    git(folder, "fsck", "--strict", "--no-dangling")


@pytest.fixture
def filled(tracker: Path) -> Path:
    """A tracker with several issues and three snapshots of different heads."""
    for number in range(3):
        ok(tracker, "new", f"issue {number}")
        ok(tracker, "snapshot", "create")
    return tracker


@pytest.mark.parametrize(
    ("words", "least"),
    [(("snapshot", "create"), 10), (("rebuild", "--from-snapshot"), 8)],
    ids=["create", "rebuild"],
)
def test_fault_4_a_killed_snapshot_is_whole_or_absent(
    words: tuple[str, ...], least: int, filled: Path, tmp_path: Path, traced: None
) -> None:
    """Objects come before the ref, and a view is filled aside: the next command needs no help."""
    head = git(filled, "rev-parse", "refs/grit/wal")
    found = changing(points(filled, tmp_path / "trace", *words))
    assert len(found) >= least, found
    killed = 0
    for point in sample(found, 5):
        killed += _kill(point, filled, *words) == -9
        _healthy(filled, head)
        ok(filled, *words)
    assert killed >= 3, "the points were missed"


def test_fault_4_a_killed_gc_removes_no_more_than_it_would_have(
    filled: Path, tmp_path: Path, traced: None
) -> None:
    """Whenever gc dies, the two best snapshots are there, and so is the log."""
    head = git(filled, "rev-parse", "refs/grit/wal")
    syscalls = "openat,renameat,rename,unlinkat,unlink,write,close"
    found = changing(points(filled, tmp_path / "trace", "snapshot", "gc", syscalls=syscalls))
    for point in [*sample(found, 3), Point("renameat", 1, ""), Point("unlinkat", 1, "")]:
        ok(filled, "snapshot", "create")
        best = _named(filled)[-2:]
        _kill(point, filled, "snapshot", "gc")
        _healthy(filled, head)
        assert _named(filled)[-2:] == best


def _named(folder: Path) -> list[str]:
    return git(folder, "for-each-ref", "--format=%(refname)", "refs/grit/snapshots/").split()


def test_what_a_killed_create_leaves_is_collected_by_git(
    filled: Path, tmp_path: Path, traced: None
) -> None:
    """Objects that no ref names yet are git's to clear away, and the next snapshot is whole."""
    head = git(filled, "rev-parse", "refs/grit/wal")
    found = points(filled, tmp_path / "trace", "snapshot", "create")
    last = [point for point in found if "/snapshots" in point.line and "rename" in point.line]
    assert last, found
    before = git(filled, "for-each-ref")
    assert _kill(last[-1], filled, "snapshot", "create") == -9
    assert git(filled, "for-each-ref") == before
    git(filled, "gc", "-q", "--prune=now")
    ok(filled, "snapshot", "create")
    _healthy(filled, head)
