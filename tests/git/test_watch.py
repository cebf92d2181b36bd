"""Watching the log's refs: real git commands, real folders, and systems that report nothing."""

import errno
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grit.git import watch
from grit.git.refs import GRIT_REF
from grit.git.repository import discover
from grit.git.watch import Watcher, network_type

SHORT_MS = 300


def _wait(watcher: Watcher, seconds: float = 5.0) -> bool:
    """Serve the watcher as its users do; whether a ref moved within the time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        due = watcher.timeout_s()
        short = due is None or left < due
        told = select.select([watcher], [], [], left if short else due)[0]
        if (told or not short) and watcher.drain():
            return True
    return False


def _settle(watcher: Watcher) -> None:
    """Take what is still under way."""
    while _wait(watcher, 0.2):
        pass


@pytest.fixture
def repository(git_repository):
    return discover(str(git_repository), {})


@pytest.fixture
def heads(git_repository, git):
    """Commits to point at."""
    tree = git(git_repository, "mktree")
    return [git(git_repository, "commit-tree", tree, "-m", str(n)) for n in range(4)]


def test_every_way_in_which_the_log_moves(repository, git_repository, git, heads):
    """The ref appears, moves, is packed, moves again and goes: each is seen, in event mode."""
    with Watcher(repository) as watcher:
        assert watcher.mode == "events" and watcher.reason is None
        assert str(git_repository / ".git" / "refs") in watcher.paths
        assert not watcher.drain()
        git(git_repository, "update-ref", GRIT_REF, heads[0])
        assert _wait(watcher)
        git(git_repository, "update-ref", GRIT_REF, heads[1])
        assert _wait(watcher)
        git(git_repository, "update-ref", "-d", GRIT_REF)
        assert _wait(watcher)
        assert watcher.mode == "events" and watcher.raw_events > 0


def test_reports_come_within_milliseconds(repository, git_repository, git, heads):
    """Nothing is held back: of 40 moves the slowest is reported long before half a second."""
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    slowest = 0.0
    path = git_repository / ".git" / GRIT_REF
    with Watcher(repository) as watcher:
        for number in range(40):
            lock = path.with_name("wal.lock")
            lock.write_text(f"{heads[number % 2 + 1]}\n")
            begin = time.monotonic()
            lock.rename(path)
            assert _wait(watcher)
            slowest = max(slowest, time.monotonic() - begin)
    assert slowest < 0.4


def test_row_33_refs_packed(repository, git_repository, git, heads):
    """Packing moves nothing; a log that lives in packed-refs is seen to move, and out of it."""
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    with Watcher(repository) as watcher:
        git(git_repository, "pack-refs", "--all", "--prune")
        assert not (git_repository / ".git" / GRIT_REF).exists()
        assert not _wait(watcher, 0.5)
        shutil.rmtree(git_repository / ".git" / "refs" / "grit", ignore_errors=True)
        packed = git_repository / ".git" / "packed-refs"
        fresh = packed.with_name("packed-refs.new")
        fresh.write_text(packed.read_text().replace(heads[0], heads[1]))
        fresh.rename(packed)
        assert _wait(watcher)
        git(git_repository, "update-ref", GRIT_REF, heads[2])
        assert _wait(watcher)
        git(git_repository, "update-ref", GRIT_REF, heads[3])
        assert _wait(watcher)
        assert watcher.mode == "events"


def test_row_33_folder_made_again(repository, git_repository, git, heads):
    """A folder of refs that goes and comes back, in whatever way, is watched again."""
    folder = git_repository / ".git" / "refs" / "grit"
    with Watcher(repository) as watcher:
        for number in range(6):
            git(git_repository, "update-ref", GRIT_REF, heads[number % 2])
            assert _wait(watcher)
            git(git_repository, "update-ref", GRIT_REF, heads[2])
            assert _wait(watcher)
            if number % 2:
                shutil.rmtree(folder)
            else:
                folder.rename(git_repository / ".git" / "refs" / f"old{number}")
            assert _wait(watcher)
            _settle(watcher)
        assert watcher.mode == "events"


def test_row_33_folder_made_again_unseen(repository, git_repository, git, heads):
    """A folder that goes and comes back between two looks is another one, and is watched."""
    folder = git_repository / ".git" / "refs" / "grit"
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    with Watcher(repository) as watcher:
        for number in range(4):
            shutil.rmtree(folder)
            folder.mkdir()
            (folder / "wal").write_text(f"{heads[number % 2 + 1]}\n")
            assert _wait(watcher)
            _settle(watcher)
            git(git_repository, "update-ref", GRIT_REF, heads[3])
            assert _wait(watcher)
            _settle(watcher)
        assert watcher.mode == "events"


def test_row_33_reftable(repository, git_repository, git, heads):
    """Where refs are tables, the list of tables is watched and git is asked where they stand."""
    tables = git_repository / ".git" / "reftable"
    tables.mkdir()
    listed = tables / "tables.list"
    with Watcher(repository._replace(ref_storage="reftable")) as watcher:
        assert str(tables) in watcher.paths
        git(git_repository, "update-ref", GRIT_REF, heads[0])
        listed.with_suffix(".lock").write_text("0x1.ref\n")
        listed.with_suffix(".lock").rename(listed)
        assert _wait(watcher)


def test_row_33_head_switched_and_worktree_added(repository, git_repository, git, heads):
    """Another branch, another worktree: nothing moves, and the log is seen to move from there."""
    git(git_repository, "commit", "-q", "--allow-empty", "-m", "code")
    git(git_repository, "branch", "other")
    with Watcher(repository) as watcher:
        git(git_repository, "switch", "-q", "other")
        git(git_repository, "worktree", "add", "-q", "../beside", "main")
        beside = git_repository.parent / "beside"
        assert not _wait(watcher, 0.4)
        git(beside, "update-ref", GRIT_REF, heads[0])
        assert _wait(watcher)
    with Watcher(discover(str(beside), {})) as watcher:
        git(git_repository, "update-ref", GRIT_REF, heads[1])
        assert _wait(watcher)


def test_row_32_what_moves_no_log(repository, git_repository, git, heads):
    """Resets, checkouts, commits, lock files, branches, touched files: nothing is told."""
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    (git_repository / "file").write_text("one")
    git(git_repository, "add", "file")
    git(git_repository, "commit", "-q", "-m", "code")
    ref = git_repository / ".git" / GRIT_REF
    with Watcher(repository) as watcher:
        (git_repository / "file").write_text("two")
        git(git_repository, "reset", "-q", "--hard")
        git(git_repository, "switch", "-q", "-c", "other")
        git(git_repository, "commit", "-q", "--allow-empty", "-m", "more")
        git(git_repository, "update-ref", "refs/grit/locks/abc", heads[1])
        git(git_repository, "tag", "v1")
        ref.with_name("wal.lock").write_text("")
        ref.with_name("wal.lock").unlink()
        os.utime(ref)
        ref.write_text(f"{heads[0]}\n")
        git(git_repository, "gc", "-q")
        assert not _wait(watcher, 1.0)
        seen = watcher.raw_events
        for _ in range(20):
            assert not watcher.drain()
        time.sleep(0.2)
        assert watcher.raw_events == seen  # looking causes no reports
        git(git_repository, "update-ref", GRIT_REF, heads[1])
        assert _wait(watcher)


def test_row_32_what_wakes_nobody(repository, git_repository, git, heads):
    """The index, branches, and lock files are no reason to look at all."""
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    with Watcher(repository) as watcher:
        (git_repository / "file").write_text("one")
        git(git_repository, "add", "file")
        git(git_repository, "commit", "-q", "-m", "code")
        (git_repository / ".git" / f"{GRIT_REF}.lock").write_text("")
        (git_repository / ".git" / f"{GRIT_REF}.lock").unlink()
        assert select.select([watcher], [], [], 0.5)[0] == []
        assert watcher.raw_events > 0


def test_row_32_a_storm(repository, git_repository, git, heads):
    """A thousand refs changed by one git command are few looks, and one move at most."""
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    lines = "".join(f"create refs/heads/b{n} {heads[1]}\n" for n in range(500))
    lines += "".join(f"create refs/grit/locks/{n:04} {heads[1]}\n" for n in range(500))
    with Watcher(repository) as watcher:
        git(git_repository, "update-ref", "--stdin", stdin=lines.encode())
        assert not _wait(watcher, 0.5)
        assert watcher.raw_events < 50


def test_what_was_fetched(repository, git_repository, git, heads, tmp_path):
    """A fetch into the tracking refs is seen, also of a remote that is new and has a slash."""
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    (other / ".git" / "objects" / "info" / "alternates").write_text(
        f"{git_repository}/.git/objects\n"
    )
    with Watcher(repository) as watcher:
        for number, remote in enumerate(("origin", "team/one")):
            git(other, "update-ref", GRIT_REF, heads[number])
            spec = f"+{GRIT_REF}:refs/grit-remotes/{remote}/wal"
            git(git_repository, "fetch", "-q", str(other), spec)
            assert _wait(watcher)
            _settle(watcher)
            git(other, "update-ref", GRIT_REF, heads[number + 2])
            git(git_repository, "fetch", "-q", str(other), spec)
            assert _wait(watcher)
        assert any(path.endswith("team/one") for path in watcher.paths)
        git(git_repository, "pack-refs", "--all", "--prune")
        assert not _wait(watcher, 0.5)


@pytest.mark.parametrize("how", ["removed", "moved", "another"])
def test_the_repository_goes(repository, git_repository, git, how):
    """A repository that is deleted or moved away is told at once, or at the next check."""
    with Watcher(repository, check_ms=SHORT_MS) as watcher:
        if how == "removed":
            shutil.rmtree(git_repository)
        else:
            git_repository.rename(git_repository.with_name("elsewhere"))
            if how == "another":
                git(git_repository.parent, "init", "-q", str(git_repository))
        assert _wait(watcher)
        while not watcher.gone:
            _wait(watcher, 0.1)
        assert not watcher.drain()


def _raising(number):
    def schedule(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    return schedule


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_row_34_no_watches_left(repository, git_repository, git, heads, monkeypatch, number):
    """A system without watches to give is polled, says why, and misses nothing."""
    from watchdog.observers.api import BaseObserver

    monkeypatch.setattr(BaseObserver, "schedule", _raising(number))
    with Watcher(repository, poll_ms=SHORT_MS) as watcher:
        assert watcher.mode == "polling" and os.strerror(number) in (watcher.reason or "")
        assert watcher.paths == ()
        git(git_repository, "update-ref", GRIT_REF, heads[0])
        assert _wait(watcher)
        assert not _wait(watcher, 1.0)


def test_row_34_watches_run_out_later(repository, git_repository, git, heads, monkeypatch):
    """A folder that cannot be watched any more turns it to polling, and nothing is missed."""
    from watchdog.observers.api import BaseObserver

    with Watcher(repository, poll_ms=SHORT_MS) as watcher:
        assert watcher.mode == "events"
        monkeypatch.setattr(BaseObserver, "schedule", _raising(errno.ENOSPC))
        git(git_repository, "update-ref", GRIT_REF, heads[0])
        assert _wait(watcher)
        assert watcher.mode == "polling"
        git(git_repository, "update-ref", GRIT_REF, heads[1])
        assert _wait(watcher)


@pytest.mark.parametrize("lacking", ["instances", "library", "system"])
def test_row_34_nothing_to_watch_with(repository, monkeypatch, lacking):
    """No instance, no library, or a system that the library does not know: polling."""
    import watchdog.observers

    class PollingObserver:
        pass

    if lacking == "instances":
        broken = _raising(errno.EMFILE)
        monkeypatch.setattr(watchdog.observers, "Observer", broken)
    elif lacking == "library":
        monkeypatch.setitem(sys.modules, "watchdog.observers", None)
    else:
        monkeypatch.setattr(watchdog.observers, "Observer", PollingObserver)
    with Watcher(repository) as watcher:
        assert watcher.mode == "polling" and watcher.reason
        assert 4.0 < (watcher.timeout_s() or 0) <= 5.0


def test_row_34_a_watcher_that_never_fires(repository, git_repository, git, heads, monkeypatch):
    """A change that the slow check sees, and that nobody reports, ends the trust in reports."""
    monkeypatch.setattr(Watcher, "_heard", lambda *_: None)
    with Watcher(repository, poll_ms=SHORT_MS, check_ms=SHORT_MS, doubt_ms=SHORT_MS) as watcher:
        git(git_repository, "update-ref", GRIT_REF, heads[0])
        assert _wait(watcher)
        assert watcher.mode == "events"  # the report may still be under way
        assert not _wait(watcher, 1.0)
        assert watcher.mode == "polling"
        assert "not reported" in (watcher.reason or "")
        git(git_repository, "update-ref", GRIT_REF, heads[1])
        assert _wait(watcher)


def test_own_look_before_the_report(repository, git_repository, git, heads):
    """Who looks before the report is there does not end the trust in reports."""
    with Watcher(repository, check_ms=SHORT_MS, doubt_ms=SHORT_MS) as watcher:
        for number in range(5):
            git(git_repository, "update-ref", GRIT_REF, heads[number % 2])
            watcher.drain()
            _wait(watcher, 0.5)
        assert watcher.mode == "events"


@pytest.mark.parametrize(
    ("kind", "polled"),
    [("nfs4", True), ("9p", True), ("fuse.sshfs", True), ("fuse", True), ("cifs", True),
     ("virtiofs", True), ("ext4", False), ("btrfs", False), ("fuseblk", False), ("overlay", False)],
)  # fmt: skip
def test_row_34_network_file_systems(tmp_path, kind, polled):
    """What others may change without a report is known by its type, for the innermost mount."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"23 22 0:9 / /net/a\\040b rw shared:1 - {kind} server:/x rw\n"
        "24 22 0:9 / /net/a rw shared:1 - nfs server:/y rw\n"
        "broken\n"
    )
    assert network_type("/net/a b/c", str(mounts)) == (kind if polled else None)
    assert network_type("/net/ab", str(mounts)) is None
    assert network_type("/net/a", str(mounts)) == "nfs"
    assert network_type("/x", str(tmp_path / "none")) is None


def test_row_34_a_network_file_system_is_polled(repository, monkeypatch):
    """On such a file system nothing is watched at all."""
    monkeypatch.setattr(watch, "network_type", lambda _: "nfs4")
    with Watcher(repository) as watcher:
        assert watcher.mode == "polling" and "nfs4" in (watcher.reason or "")


def test_a_damaged_ref_is_a_move(repository, git_repository, git, heads):
    """A ref that cannot be read any more is told, so that somebody says what is wrong."""
    git(git_repository, "update-ref", GRIT_REF, heads[0])
    with Watcher(repository) as watcher:
        (git_repository / ".git" / GRIT_REF).write_text("garbage\n")
        assert _wait(watcher)
        assert not _wait(watcher, 0.3)


def test_lost_reports(repository, git_repository, git, heads, caplog):
    """What the library only logs, lost reports, is taken as a report."""
    import logging

    with Watcher(repository) as watcher:
        before = watcher.raw_events
        logging.getLogger("watchdog.observers").warning("Inotify queue overflowed")
        assert select.select([watcher], [], [], 1.0)[0]
        assert not watcher.drain() and watcher.raw_events == before


PROBE = """
import sys, time
from grit.git.repository import discover
from grit.git.watch import Watcher
with Watcher(discover(sys.argv[1], {})) as watcher:
    assert watcher.mode == "events", watcher.reason
    print("ready", flush=True)
    import select
    select.select([watcher, sys.stdin], [], [])
"""


def _switches(pid: int) -> int:
    """Return how often the threads of a process went to sleep or were stopped."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def test_no_wake_ups(git_repository):
    """While nothing happens no thread runs."""
    with subprocess.Popen(
        [sys.executable, "-c", PROBE, str(git_repository)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        before = _switches(process.pid)
        time.sleep(4)
        assert _switches(process.pid) - before <= 2
        process.kill()


def test_nothing_stays_behind(repository):
    """Descriptors and threads are given back, as often as one likes."""
    import threading

    def counted() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with Watcher(repository):
        pass
    before = counted()
    for _ in range(5):
        with Watcher(repository):
            pass
    assert counted() == before
