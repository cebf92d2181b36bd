"""A disk that refuses at any step of a write: a clear refusal, and nothing half done."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.machine import (
    FULL_SWEEP,
    Done,
    Point,
    changing,
    events,
    git,
    grit,
    judge,
    mounting,
    ok,
    points,
    sample,
    titles,
)

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
FAILING = (
    "openat,mkdir,mkdirat,rename,renameat,link,linkat,unlink,unlinkat,write,pwrite64,writev,"
    "pwritev,fsync,fdatasync,ftruncate"
)


def _fail(point: Point, error: str, trace: Path, folder: Path, *arguments: str) -> Done | None:
    """Run a command in which the call at the point fails; None when that was another file's.

    How many files are opened before differs a little from run to run.
    """
    inject = f"inject={point.syscall}:error={error}:when={point.number}"
    before = ["strace", "-qq", "-y", "-o", str(trace), "-e", f"trace={point.syscall}", "-e", inject]
    done = grit(folder, *arguments, before=before, judged=False)
    lines = trace.read_text(errors="replace").splitlines()
    if not any("(INJECTED)" in line and f"{folder}/" in line for line in lines):
        return None
    judge(done, str(point))
    return done


def _assert_clear(done: Done, error: str) -> None:
    """A refusal has status 5 and tells what the system said; success may come with a notice."""
    if done.status == 0:
        return
    assert done.status == 5, f"{done.status}: {done.err}"
    assert os.strerror(getattr(errno, error)) in done.err, done.err


@pytest.mark.parametrize("error", ERRORS)
def test_fault_5_a_call_that_fails_once_refuses_or_stores(
    error: str, tracker: Path, tmp_path: Path, traced: None
) -> None:
    """ENOSPC, EIO, EDQUOT, EROFS at each step: status 0 and stored whole, or 5 and not stored."""
    git(tracker, "config", "core.fsync", "all")
    trace = tmp_path / "trace"
    found = changing(points(tracker, trace, "new", "measured", syscalls=FAILING))
    assert len(found) > 15, found
    hit = 0
    for turn, point in enumerate(sample(found, 6 if error == "ENOSPC" else 3)):
        tag = f"{error}{turn:04}"
        done = _fail(point, error, trace, tracker, "new", tag, "-l", tag)
        if done is None:
            continue
        hit += 1
        _assert_clear(done, error)
        count = sum(title == tag for title in titles(tracker))
        assert count == (done.status == 0), f"{point}: {done}"
        ok(tracker, "new", f"after {tag}")
        if FULL_SWEEP or turn == 1:
            events(tracker)
    assert hit >= 2, "the points were missed"


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_fault_5_a_call_that_keeps_failing_refuses_or_stores(
    error: str, tracker: Path, tmp_path: Path, traced: None
) -> None:
    """A disk that stays full from some step on: the same rule, and afterwards grit works again."""
    trace = tmp_path / "trace"
    found = changing(points(tracker, trace, "new", "measured", syscalls="write,pwrite64,fdatasync"))
    for turn, point in enumerate(sample(found, 3)):
        tag = f"{error}{turn:04}"
        again = f"inject={point.syscall}:error={error}:when={point.number}+"
        # Its own output must get through, so that there is a message to judge.
        before = ["strace", "-qq", "-y", "-o", str(trace), "-e", f"trace={point.syscall}"]
        done = grit(tracker, "new", tag, before=[*before, "-e", again])
        stored = titles(tracker).count(tag)
        assert stored == 1 if done.status == 0 else stored in (0, 1), f"{point}: {done}"
        assert done.status != 1, f"{point}: {done}"
        ok(tracker, "new", f"after {tag}")
    events(tracker)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_fault_5_a_view_that_cannot_be_written_hides_nothing(
    error: str, tracker: Path, tmp_path: Path, traced: None
) -> None:
    """A read that must build the view on a failing disk shows all the same."""
    for number in range(3):
        ok(tracker, "new", f"issue {number}")
    trace = tmp_path / "trace"
    view = tracker / ".git/grit/view"

    def drop() -> None:
        for file in view.iterdir():
            file.unlink()

    drop()
    found = changing(points(tracker, trace, "ls", "--json", syscalls=FAILING))
    hit = 0
    for point in sample(found, 4):
        drop()
        done = _fail(point, error, trace, tracker, "ls", "--json")
        if done is None:
            continue
        hit += 1
        assert done.status == 0, f"{point}: {done}"
        assert len(done.data["issues"]) == 4, point
        assert len(titles(tracker)) == 4, point
    assert hit >= 2, "the points were missed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    yield from mounting(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "none")


def test_fault_5_a_full_disk_refuses_and_works_again_when_freed(small_disk: Path) -> None:
    """No room: status 5 that says so, reading goes on, nothing is lost; with room, all works."""
    folder = small_disk / "tracker"
    git(small_disk, "init", "-q", str(folder))
    ok(folder, "new", "before")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    refused = grit(folder, "new", "during", "-b", "x" * 20_000)
    assert refused.status == 5, refused
    assert "No space left" in refused.err, refused.err
    assert titles(folder) == ["before"]
    assert ok(folder, "show", ok(folder, "ls", "--json").data["issues"][0]["issue_id"]).out
    filler.unlink()
    ok(folder, "new", "after")
    assert titles(folder) == ["after", "before"]
    events(folder)


def test_fault_5_a_disk_that_fills_up_loses_nothing_acknowledged(small_disk: Path) -> None:
    """Writing until the disk is full: what was acknowledged is there, what was refused is not."""
    folder = small_disk / "tracker"
    git(small_disk, "init", "-q", str(folder))
    ok(folder, "init")
    noise = os.urandom(60_000).hex()
    stored = []
    for number in range(40):
        done = grit(folder, "new", f"number {number:02}", "-b", noise[number:])
        if done.status != 0:
            assert done.status == 5, done
            assert "No space left" in done.err, done.err
            break
        stored.append(f"number {number:02}")
    else:
        pytest.fail("the disk never became full")
    assert stored
    assert titles(folder) == stored


@pytest.mark.parametrize("limit_bytes", [0, 100, 20_000])
def test_fault_5_a_limit_on_file_sizes_refuses(limit_bytes: int, tracker: Path) -> None:
    """RLIMIT_FSIZE behaves like a full disk, whichever file it meets first."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = grit(tracker, "new", "limited", "-b", os.urandom(9_000).hex(), preexec_fn=limited)
    if done.status != 0:
        assert done.status == 5, done
        assert "File too large" in done.err, done.err
    assert titles(tracker).count("limited") == (done.status == 0)
    ok(tracker, "new", "after")
    events(tracker)
