"""Background syncs: when they run, what a failing remote does to them; nothing is lost."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from grit.daemon.sync_process import unattended
from tests.daemon.hired import append, hired, log_head, patient, set_up, view_head
from tests.services.clinic import GRIT, REF, Patient


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True, timeout=30)
    return folder


@pytest.fixture
def clone(git_repository: Path, remote: Path) -> Patient:
    one = patient(git_repository)
    one.git("remote", "add", "origin", str(remote))
    return one


def _head(remote: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(remote), "rev-parse", "-q", "--verify", REF],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.strip()


def _another(remote: Path, folder: Path, title: str) -> Patient:
    """Let another clone write an issue and send it."""
    if not folder.exists():
        words = ["git", "clone", "-q", str(remote), str(folder)]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
    one = Patient(folder, now_ms=time.time_ns() // 1_000_000)
    one.data("init")
    one.data("new", title)
    one.data("sync")
    return one


def test_nothing_is_synced_unasked(clone: Patient, remote: Path) -> None:
    """Without the setting no remote is spoken to."""
    with hired(clone.folder) as worker:
        worker.rested()
        append(clone)
        worker.until(lambda state: state["mutations"] == 1)
        state = worker.rested()["sync"]
        assert state == {
            "running": False,
            "unsent": False,
            "last": None,
            "failures": 0,
            "circuit": "closed",
            "retry_ts": None,
        }
    assert _head(remote) == ""


def test_push_sends_after_a_change(clone: Patient, remote: Path) -> None:
    """What was unsent when the worker came is sent, and so is each later change; then it rests."""
    set_up(clone.folder, "sync.auto", "push")
    with hired(clone.folder) as worker:
        state = worker.until(lambda state: state["sync"]["last"])
        assert state["sync"]["last"]["ok"], state
        assert _head(remote) == log_head(clone)
        append(clone)
        append(clone)
        worker.until(lambda state: _sent(state) == 2)
        state = worker.rested()
        assert _head(remote) == log_head(clone)
        last = state["sync"]["last"]
        assert not state["sync"]["unsent"]
        time.sleep(0.5)
        assert worker.rested()["sync"]["last"] == last


def _sent(state: dict[str, object]) -> int:
    sync = state["sync"]
    assert isinstance(sync, dict)
    return sync["last"]["sent"] if sync["last"] else 0


def test_pull_takes_in_by_the_interval(clone: Patient, remote: Path, tmp_path: Path) -> None:
    """What others sent arrives without a command; nothing of this clone is sent."""
    set_up(clone.folder, "sync.auto", "pull")
    set_up(clone.folder, "sync.interval_s", 1)
    with hired(clone.folder) as worker:
        worker.rested()
        _another(remote, tmp_path / "other", "From elsewhere")
        # Not by what the last sync received: the next one, a second later, finds nothing new.
        state = worker.until(lambda state: state["mutations"] == 1)
        assert state["sync"]["last"]["remote"] == "origin"
        append(clone)
        worker.until(lambda state: state["mutations"] == 2)
        worker.rested()
    assert view_head(clone) == log_head(clone)
    assert clone.data("db", "stats")["issue_count"] == 3
    assert _head(remote) != log_head(clone)


def test_both_send_and_take_in(clone: Patient, remote: Path, tmp_path: Path) -> None:
    """Two clones with workers, and writes in both, have the same log soon."""
    other = _another(remote, tmp_path / "other", "From elsewhere")
    for one in (clone, other):
        set_up(one.folder, "sync.auto", "both")
        set_up(one.folder, "sync.interval_s", 1)
    with hired(clone.folder) as left, hired(other.folder) as right:
        for number in range(3):
            clone.data("new", f"left {number}")
            other.data("new", f"right {number}")
        deadline = time.monotonic() + 30
        while not (log_head(clone) == log_head(other) == _head(remote)) or (
            clone.data("db", "stats")["issue_count"] != 8
        ):
            assert time.monotonic() < deadline, (left.state, right.state, left.said, right.said)
            time.sleep(0.2)
        assert other.data("db", "stats")["issue_count"] == 8


def test_push_alone_waits_for_what_is_not_here(
    clone: Patient, remote: Path, tmp_path: Path
) -> None:
    """A remote that is ahead is not pulled from unasked: the state says what to do."""
    set_up(clone.folder, "sync.auto", "push")
    _another(remote, tmp_path / "other", "From elsewhere")
    with hired(clone.folder) as worker:
        state = worker.until(lambda state: state["sync"]["failures"])
        assert "events that are not here" in state["sync"]["last"]["error"]
        assert state["health"][0]["check"] == "sync"
        clone.data("sync")
        worker.until(lambda state: not state["sync"]["failures"] and not state["health"])
        assert worker.rested()["sync"]["unsent"] is False
    assert _head(remote) == log_head(clone)


def test_a_failing_remote_opens_the_circuit_and_a_good_one_closes_it(
    clone: Patient, remote: Path
) -> None:
    """Failures wait longer and longer, then pause; one good try and all is as before."""
    set_up(clone.folder, "sync.auto", "push")
    away = remote.with_name("away.git")
    remote.rename(away)
    with hired(clone.folder, pace="100, 3, 3000, 3000") as worker:
        worker.until(lambda state: state["sync"]["failures"] == 1)
        state = worker.until(lambda state: state["sync"]["circuit"] == "open")
        assert state["sync"]["failures"] == 3
        assert state["sync"]["retry_ts"] > time.time() * 1000
        assert "cannot fetch from origin" in state["sync"]["last"]["error"]
        assert "(3 times in a row)" in worker.said
        worker.until(lambda state: state["sync"]["circuit"] == "half_open")
        worker.until(lambda state: state["sync"]["failures"] == 4)
        away.rename(remote)
        state = worker.until(lambda state: state["sync"]["circuit"] == "closed")
        assert state["sync"]["last"]["ok"]
        assert (state["sync"]["failures"], state["health"]) == (0, [])
        assert "sync: well again" in worker.said
    assert _head(remote) == log_head(clone)


@pytest.mark.parametrize("auto", ["push", "both"])
def test_a_sync_by_hand_closes_the_circuit(auto: str, clone: Patient, remote: Path) -> None:
    """Who reached the remote has shown that it is there: the worker does not wait out its pause."""
    clone.data("sync")
    set_up(clone.folder, "sync.auto", auto)
    away = remote.with_name("away.git")
    remote.rename(away)
    with hired(clone.folder, pace="50, 1, 600000, 600000") as worker:
        append(clone)
        worker.until(lambda state: state["sync"]["circuit"] == "open")
        away.rename(remote)
        time.sleep(0.5)
        clone.data("sync")
        worker.until(lambda state: state["sync"]["circuit"] == "closed" and not state["health"])


def test_new_settings_forget_failures(clone: Patient, remote: Path) -> None:
    """Who names another remote is not kept waiting for the pause of the one before."""
    set_up(clone.folder, "sync.remote", str(remote.with_name("wrong.git")))
    set_up(clone.folder, "sync.auto", "both")
    with hired(clone.folder, pace="50, 1, 600000, 600000") as worker:
        worker.until(lambda state: state["sync"]["circuit"] == "open")
        set_up(clone.folder, "sync.remote", "origin")
        worker.look()
        worker.until(lambda state: state["sync"]["last"]["ok"])
    assert _head(remote) == log_head(clone)


def test_without_a_remote_the_state_says_so(git_repository: Path) -> None:
    """A clone without remotes has nothing to sync with, which is a failure in words."""
    clone = patient(git_repository)
    set_up(clone.folder, "sync.auto", "both")
    with hired(clone.folder, pace="50, 2, 600000, 600000") as worker:
        state = worker.until(lambda state: state["sync"]["circuit"] == "open")
        assert "git remote add origin" in state["sync"]["last"]["error"]


def _hang(clone: Patient) -> dict[str, str]:
    """Let the remote be one that never answers; return the environment for that."""
    clone.git("remote", "set-url", "origin", "ssh://example.invalid/x.git")
    set_up(clone.folder, "sync.auto", "push")
    return {"GIT_SSH_COMMAND": "trap '' TERM; sleep 1000; :"}


def test_a_remote_that_hangs_is_given_up(clone: Patient) -> None:
    """A sync that takes longer than its bound is ended, with all that it has started."""
    environ = _hang(clone)
    with hired(clone.folder, sync_ms_max=1_500, environ=environ) as worker:
        worker.until(lambda state: state["sync"]["running"])
        time.sleep(0.7)
        sleepers = _sleepers(worker.process.pid)
        assert sleepers, "the remote does not hang"
        append(clone)
        worker.until(lambda state: state["mutations"] == 1)
        state = worker.until(lambda state: state["sync"]["failures"])
        assert "does not answer" in state["sync"]["last"]["error"]
        assert not _still(sleepers)


def _sleepers(worker: int) -> set[int]:
    """Return the processes below the worker that wait as the hanging remote."""
    rows = _processes()
    below = {worker}
    for _ in range(8):
        below |= {pid for pid, parent, _ in rows if parent in below}
    return {pid for pid, _, words in rows if pid in below and words == "sleep 1000"}


def _still(sleepers: set[int]) -> set[int]:
    """Return those that live on; one that nobody has asked about yet is dead."""
    return {pid for pid, _, words in _processes() if pid in sleepers and words == "sleep 1000"}


def _processes() -> list[tuple[int, int, str]]:
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, timeout=30
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [(int(row[0]), int(row[1]), row[2]) for row in rows]


def test_sigterm_ends_a_sync_that_hangs(clone: Patient) -> None:
    """The worker does not wait for the remote: it is gone in time, and so is the sync."""
    environ = _hang(clone)
    with hired(clone.folder, environ=environ) as worker:
        worker.until(lambda state: state["sync"]["running"])
        time.sleep(0.7)
        sleepers = _sleepers(worker.process.pid)
        assert sleepers
        assert worker.dismiss() < 2.2
        assert not _still(sleepers)


def test_what_was_not_sent_is_sent_by_the_next_worker(clone: Patient, remote: Path) -> None:
    """Nothing that is to be sent is known by a process alone."""
    set_up(clone.folder, "sync.auto", "push")
    with hired(clone.folder) as worker:
        worker.until(lambda state: state["sync"]["last"])
        worker.process.kill()
        worker.process.wait()
    append(clone)
    with hired(clone.folder) as worker:
        worker.until(lambda state: _sent(state) == 1)
    assert _head(remote) == log_head(clone)


def test_sigterm_sends_what_can_still_be_sent(clone: Patient, remote: Path) -> None:
    """Where the last sync was quick, a change that was just made is sent before leaving."""
    set_up(clone.folder, "sync.auto", "push")
    quick = "syncs.Syncs.took_ms = property(lambda self: 1, lambda self, value: None)"
    with hired(clone.folder, before=quick) as worker:
        worker.rested()
        set_up(clone.folder, "daemon.debounce_ms", 60_000)
        worker.rested()
        append(clone)
        worker.until(lambda state: state["settings"]["daemon.debounce_ms"] == 60_000)
        assert worker.dismiss() < 2.2
    assert view_head(clone) == log_head(clone)
    assert _head(remote) in (log_head(clone), clone.git("rev-parse", f"{REF}^"))


def test_eight_writers_lose_nothing(clone: Patient, remote: Path, tmp_path: Path) -> None:
    """Commands of eight processes beside a worker that syncs: each issue is there, and sent."""
    set_up(clone.folder, "sync.auto", "both")
    set_up(clone.folder, "sync.interval_s", 1)
    loop = 'for n in 1 2 3 4 5; do "$@" new "$W-$n" --quiet || exit 1; done'
    with hired(clone.folder) as worker:
        writers = [
            subprocess.Popen(
                ["sh", "-c", loop, "sh", *GRIT],
                cwd=clone.folder,
                env={**os.environ, "W": f"writer{number}"},
            )
            for number in range(8)
        ]
        _another(remote, tmp_path / "other", "From elsewhere")
        assert [writer.wait(300) for writer in writers] == [0] * 8
        deadline = time.monotonic() + 60
        while _head(remote) != log_head(clone) or worker.asked()["sync"]["running"]:
            assert time.monotonic() < deadline, (worker.state, worker.said)
            time.sleep(0.2)
    rows = clone.data("ls", "--all", "--state", "all")["issues"]
    wanted = {f"writer{number}-{n}" for number in range(8) for n in range(1, 6)}
    assert {row["title"] for row in rows} == wanted | {"First", "From elsewhere"}
    assert len(rows) == 42


def test_a_relative_remote_is_meant_from_the_working_tree(clone: Patient, remote: Path) -> None:
    """The worker is told the git directory, and syncs with what plain git would sync with."""
    clone.git("remote", "set-url", "origin", "../remote.git")
    set_up(clone.folder, "sync.auto", "push")
    with hired(clone.folder) as worker:
        state = worker.until(lambda state: state["sync"]["last"])
        assert state["sync"]["last"]["ok"], state
    assert _head(remote) == log_head(clone)


def test_nothing_can_ask_a_person() -> None:
    """Every way in which git or ssh ask for a password is closed."""
    found = unattended({"SSH_ASKPASS": "/bin/ask", "GIT_ASKPASS": "/bin/ask", "HOME": "/h"})
    assert "SSH_ASKPASS" not in found
    assert found["GIT_ASKPASS"] == ""
    assert found["GIT_TERMINAL_PROMPT"] == "0"
    assert found["GRIT_NO_DAEMON"] == "1"
    assert found["HOME"] == "/h"


def test_a_hook_that_started_the_server_leaves_nothing(clone: Patient, remote: Path) -> None:
    """Variables that git sets for a hook do not mislead the worker or its syncs."""
    set_up(clone.folder, "sync.auto", "push")
    environ = {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_PREFIX": "x/"}
    with hired(clone.folder, environ=environ) as worker:
        state = worker.until(lambda state: state["sync"]["last"])
        assert state["sync"]["last"]["ok"], state
    assert _head(remote) == log_head(clone)
