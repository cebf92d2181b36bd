"""The worker keeps the view warm, does little for it, and leaves when it should."""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.daemon.hired import (
    DEBOUNCE_MS,
    POLLS,
    WAIT_S,
    Hired,
    append,
    hired,
    log_head,
    patient,
    set_up,
    view_head,
)
from tests.services.clinic import GRIT, REF, Patient
from tests.services.writers import wait_until


@pytest.fixture
def clone(git_repository: Path) -> Patient:
    return patient(git_repository)


def _until_warm(worker: Hired, clone: Patient) -> None:
    """Wait until the view stands for the log's head."""
    deadline = time.monotonic() + WAIT_S
    while view_head(clone) != log_head(clone):
        assert time.monotonic() < deadline, (worker.state, worker.said)
        time.sleep(0.01)


def test_what_another_process_wrote_is_in_the_view(clone: Patient) -> None:
    """A write that no command brought into the view is brought there, and counted once."""
    with hired(clone.folder) as worker:
        before = worker.rested()
        assert (before["mode"], before["reason"], before["mutations"]) == ("events", None, 0)
        append(clone)
        assert view_head(clone) != log_head(clone)
        worker.until(lambda state: state["mutations"] == 1)
        assert view_head(clone) == log_head(clone)
        after = worker.rested()
        assert after["runs"] == before["runs"] + 1
        assert after["last_event_ts"] and after["last_run_ts"] and after["raw_events"]
        assert {".", "refs", "refs/grit"} <= set(after["paths"])


def test_a_change_is_soon_in_the_view(clone: Patient) -> None:
    """From the move of the ref to the end of the run passes little more than the debounce.

    What counts is the worker's delay, not how busy the machine is: beside the debounce it may take
    as long as starting Python eight times, which is 100 ms on an idle machine, where it takes 50.
    """
    waits, starts = [], []
    with hired(clone.folder) as worker:
        worker.rested()
        for number in range(1, 16):
            append(clone)
            moved_ms = clone.ref.stat().st_mtime_ns / 1e6
            state = worker.until(lambda state, n=number: state["mutations"] == n)
            waits.append(state["last_run_ts"] - moved_ms)
            begun = time.monotonic()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            starts.append((time.monotonic() - begun) * 1000)
    allowed = DEBOUNCE_MS + 8 * statistics.median(starts)
    assert statistics.median(waits) < allowed, (allowed, waits)


def test_row_32_a_storm_gives_a_handful_of_runs(clone: Patient) -> None:
    """A thousand moves of the log are answered a few times, whole, and then there is silence."""
    with hired(clone.folder, debounce_ms=500) as worker:
        before = worker.rested()["runs"]
        begun = time.monotonic()
        for _ in range(1_000):
            append(clone)
        lasted = time.monotonic() - begun
        _until_warm(worker, clone)
        after = worker.rested()
        # One run at least every five debounces, and one when it is over.
        assert after["runs"] - before <= lasted / 2.5 + 3
        assert after["mutations"] <= after["runs"]
    assert clone.data("db", "stats")["issue_count"] == 1_001


def test_row_32_what_moves_no_log_is_no_event(clone: Patient) -> None:
    """Reset, checkout, branches, lock files, touched files and its own writes cause no run."""
    clone.git("commit", "-q", "--allow-empty", "-m", "one")
    clone.git("commit", "-q", "--allow-empty", "-m", "two")
    with hired(clone.folder) as worker:
        before = worker.rested()
        clone.git("reset", "-q", "--hard", "HEAD^")
        clone.git("checkout", "-q", "-b", "other")
        lock = clone.git_dir / f"{REF}.lock"
        lock.touch()
        lock.unlink()
        os.utime(clone.ref)
        clone.git("update-ref", REF, log_head(clone))
        clone.git("pack-refs", "--all", "--prune")
        clone.grit("ls")
        after = worker.rested()
        assert after["runs"] == before["runs"]
        assert after["mutations"] == 0
        assert after["last_event_ts"] == before["last_event_ts"]


def test_row_32_what_a_run_joined_starts_no_other(clone: Patient, tmp_path: Path) -> None:
    """A fetched log is joined by one run, whose own write to the log is no event."""
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", clone.folder, other], check=True, capture_output=True)
    away = Patient(other, now_ms=clone.now_ms)
    away.data("init")
    away.data("new", "Elsewhere")
    append(clone)
    with hired(clone.folder) as worker:
        before = worker.rested()
        clone.git("fetch", "-q", str(other), f"+{REF}:refs/grit-remotes/away/wal")
        worker.until(lambda state: state["mutations"] == 1)
        after = worker.rested()
        assert after["runs"] == before["runs"] + 1
    assert view_head(clone) == log_head(clone)
    assert clone.data("db", "stats")["issue_count"] == 3


@pytest.mark.parametrize("way", ["packed", "head", "worktree"])
def test_row_33_the_log_is_seen_to_move(way: str, clone: Patient, tmp_path: Path) -> None:
    """Packed refs, another branch and a new worktree hide no later move of the log."""
    clone.git("commit", "-q", "--allow-empty", "-m", "one")
    with hired(clone.folder) as worker:
        worker.rested()
        place = clone.folder
        if way == "packed":
            clone.git("pack-refs", "--all", "--prune")
            assert not clone.ref.exists()
        elif way == "head":
            clone.git("symbolic-ref", "HEAD", "refs/heads/elsewhere")
        else:
            place = tmp_path / "tree"
            clone.git("worktree", "add", "-q", str(place))
        done = subprocess.run([*GRIT, "new", "Later"], cwd=place, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        worker.until(lambda state: state["mutations"] == 1)
        append(clone)
        worker.until(lambda state: state["mutations"] == 2)
        assert view_head(clone) == log_head(clone)


def test_row_33_a_log_in_a_reftable_is_seen_to_move(tmp_path: Path) -> None:
    """Where git keeps refs in a table, a move of the log is seen as well."""
    folder = tmp_path / "tables"
    words = ["git", "init", "-q", "--ref-format=reftable", str(folder)]
    if subprocess.run(words, capture_output=True, timeout=30).returncode != 0:
        pytest.skip("this git has no reftable (needs 2.45)")
    clone = patient(folder)
    with hired(folder) as worker:
        worker.rested()
        clone.data("new", "Later")
        worker.until(lambda state: state["mutations"] == 1)


_RAISES = f"""
{POLLS}
def refuse(heard):
    raise OSError(28, "inotify watch limit reached")
watch._new_observer = refuse
"""
_SILENT = f"""
{POLLS}
watch.Watcher._heard = lambda self, event: None
"""


@pytest.mark.parametrize(
    ("before", "reason"), [(_RAISES, "watch limit reached"), (_SILENT, "not reported")]
)
def test_row_34_without_events_the_worker_polls(before: str, reason: str, clone: Patient) -> None:
    """A watcher that cannot start, or reports nothing, is replaced by polling, and that is said."""
    with hired(clone.folder, before=before) as worker:
        worker.rested()
        append(clone)
        worker.until(lambda state: state["mutations"] == 1)
        state = worker.until(lambda state: state["mode"] == "polling")
        assert reason in state["reason"]
        assert state["paths"] == []
        append(clone)
        worker.until(lambda state: state["mutations"] == 2)
        assert view_head(clone) == log_head(clone)


def test_an_idle_worker_sleeps(clone: Patient) -> None:
    """While nothing happens nothing wakes any of its threads, and no view is open."""
    with hired(clone.folder) as worker:
        worker.rested()
        tasks = Path(f"/proc/{worker.process.pid}/task")
        before = _switches(tasks)
        time.sleep(3)
        assert _switches(tasks) - before <= 1
        fds = Path(f"/proc/{worker.process.pid}/fd")
        opened = [os.readlink(fd) for fd in fds.iterdir()]
        assert not [path for path in opened if "/grit/" in path], opened


def _switches(tasks: Path) -> int:
    texts = [(task / "status").read_text() for task in tasks.iterdir()]
    lines = [line for text in texts for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


def test_row_31_a_deleted_repository_ends_the_worker(clone: Patient) -> None:
    """It leaves at once, with status 0, and makes nothing anew."""
    with hired(clone.folder) as worker:
        worker.rested()
        shutil.rmtree(clone.folder)
        assert worker.process.wait(5) == 0
        assert not clone.folder.exists()


def test_row_31_another_repository_in_its_place_ends_the_worker(clone: Patient) -> None:
    """What is at the same path later is not the repository that it knows."""
    with hired(clone.folder) as worker:
        worker.rested()
        clone.folder.rename(clone.folder.with_name("moved"))
        subprocess.run(["git", "init", "-q", str(clone.folder)], check=True, timeout=30)
        worker.look()
        assert worker.process.wait(5) == 0
        assert not (clone.git_dir / "grit").exists()


def test_the_end_of_the_server_ends_the_worker(clone: Patient) -> None:
    """When the other end of its pipe is gone it brings the view up and leaves."""
    with hired(clone.folder, debounce_ms=60_000) as worker:
        worker.asked()
        append(clone)
        worker.until(lambda state: state["last_event_ts"])
        worker.abandon()
        assert worker.process.wait(2) == 0
    assert view_head(clone) == log_head(clone)


def test_sigterm_flushes_what_is_gathered(clone: Patient) -> None:
    """What waits for its debounce is done before the worker leaves, within two seconds."""
    with hired(clone.folder, debounce_ms=60_000) as worker:
        worker.asked()
        append(clone)
        worker.until(lambda state: state["last_event_ts"])
        assert worker.dismiss() < 2
    assert view_head(clone) == log_head(clone)


@pytest.mark.parametrize("before", ["", _RAISES])
def test_sigterm_ends_an_idle_worker(before: str, clone: Patient) -> None:
    """Watching or polling: it is gone at once."""
    with hired(clone.folder, before=before) as worker:
        worker.rested()
        assert worker.dismiss() < 2


_SLOW = """
import time
from grit.services import refresh
def slow(workspace):
    time.sleep(60)
refresh.refresh = slow
"""


def test_sigterm_ends_a_run_that_lasts(clone: Patient) -> None:
    """A run that would take a minute is ended after its share of the two seconds."""
    with hired(clone.folder, before=_SLOW) as worker:
        worker.asked()
        time.sleep(0.3)
        (run,) = _children(worker)
        assert worker.dismiss() < 2
        assert not os.path.exists(f"/proc/{run}")


def test_a_long_run_keeps_the_worker_from_nothing(clone: Patient) -> None:
    """While a run lasts the worker takes note of events, and shows what it is asked for."""
    with hired(clone.folder, before=_SLOW) as worker:
        worker.asked()
        time.sleep(0.3)
        append(clone)
        worker.until(lambda state: state["last_event_ts"], 5)
        set_up(clone.folder, "daemon.debounce_ms", 70)
        assert worker.asked()["settings"]["daemon.debounce_ms"] == 70


_DIES = """
from grit.services import refresh
catching = refresh.refresh
def die(workspace):
    if not os.path.exists(workspace.repository.common_dir + "/healed"):
        os.kill(os.getpid(), 7)
    return catching(workspace)
refresh.refresh = die
"""


def test_a_run_that_is_killed_kills_no_worker(clone: Patient) -> None:
    """A view that kills its reader (SIGBUS) ends one run: that is told, and tried again later."""
    with hired(clone.folder, before=_DIES) as worker:
        state = worker.until(lambda state: "run" in _troubles(state))
        assert "ended with status -7" in state["health"][0]["message"]
        (clone.git_dir / "healed").touch()
        worker.until(lambda state: state["runs"] == 1 and not _troubles(state))


def _children(worker: Hired) -> list[int]:
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, timeout=30
    ).stdout
    rows = [[int(word) for word in line.split()] for line in listed.splitlines()]
    return [pid for pid, parent in rows if parent == worker.process.pid]


def test_a_stopped_worker_goes_on(clone: Patient) -> None:
    """What happened while it was stopped is answered when it goes on, and nothing waits for it."""
    with hired(clone.folder) as worker:
        worker.rested()
        worker.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            append(clone)
        assert clone.data("new", "Meanwhile")["event_id"]
        worker.process.send_signal(signal.SIGCONT)
        worker.until(lambda state: state["mutations"] == 1)
        assert view_head(clone) == log_head(clone)
        assert worker.rested()["runs"] <= 3


@pytest.mark.parametrize("harm", ["deleted", "cut", "garbage"])
def test_a_harmed_view_is_made_anew(harm: str, clone: Patient) -> None:
    """A view that is deleted or damaged while the worker runs is whole again after its look."""
    with hired(clone.folder, health_ms=200) as worker:
        worker.rested()
        data = clone.git_dir / "grit/view/data.mdb"
        if harm == "deleted":
            shutil.rmtree(data.parent)
        elif harm == "cut":
            os.truncate(data, 5_000)
        else:
            data.write_bytes(os.urandom(data.stat().st_size))
        _until_warm(worker, clone)
        append(clone)
        _until_warm(worker, clone)
    assert clone.data("db", "check")["errors"] == []
    assert clone.data("db", "stats")["issue_count"] == 2


def test_a_broken_log_is_told_once_and_healed(clone: Patient) -> None:
    """A ref that says nothing is a problem in the state, said once; it ends with its cause."""
    with hired(clone.folder, health_ms=100) as worker:
        worker.rested()
        head = clone.ref.read_text()
        clone.ref.write_text("garbage\n")
        state = worker.until(lambda state: {"log", "run"} <= _troubles(state))
        time.sleep(1)
        assert worker.said.count("log: ") == 1, worker.said
        assert worker.state["runs"] == state["runs"]
        clone.ref.write_text(head)
        worker.until(lambda state: not _troubles(state))
        assert "log: well again" in worker.said


def _troubles(state: dict[str, object]) -> set[str]:
    health = state["health"]
    assert isinstance(health, list)
    return {row["check"] for row in health}


def test_a_full_disk_is_told(clone: Patient) -> None:
    """Little free space is a problem in the state."""
    before = "health.DISK_FREE_BYTES_MIN = 1 << 60"
    with hired(clone.folder, before=before, health_ms=100) as worker:
        state = worker.until(lambda state: "disk" in _troubles(state))
        assert "MiB are free" in state["health"][0]["message"]
        time.sleep(0.5)
        assert worker.said.count("MiB") == 1, worker.said


def test_a_view_that_cannot_be_stored_is_not_built_again_and_again(clone: Patient) -> None:
    """It is a problem, with longer and longer waits; no temporary view is left behind."""
    view = clone.git_dir / "grit/view"
    shutil.rmtree(view)
    view.symlink_to("/proc")
    scratch = clone.folder.parent / "scratch"
    scratch.mkdir()
    environ = {"TMPDIR": str(scratch)}
    with hired(clone.folder, environ=environ, pace="400, 9, 1000, 1000", health_ms=100) as worker:
        state = worker.until(lambda state: "run" in _troubles(state))
        assert state["runs"] == 0
        time.sleep(1)
        wait_until(lambda: not list(scratch.iterdir()))  # but for a try that is under way
        assert worker.said.count("built in a temporary folder") == 1
        view.unlink()
        worker.until(lambda state: state["runs"] == 1 and not _troubles(state))
        assert view_head(clone) == log_head(clone)


def test_settings_count_at_once_when_asked(clone: Patient) -> None:
    """A changed setting counts when the worker is told to look; a wrong one is told."""
    with hired(clone.folder) as worker:
        worker.rested()
        set_up(clone.folder, "daemon.debounce_ms", 120)
        assert worker.asked()["settings"]["daemon.debounce_ms"] == 120
        set_up(clone.folder, "sync.auto", "sometimes")
        state = worker.asked()
        assert state["settings"]["sync.auto"] == "off"
        assert "sync.auto is off, pull" in state["health"][0]["message"]
        (clone.git_dir / "grit/config.toml").write_text("no toml")
        assert "cannot be read" in worker.asked()["health"][0]["message"]
        append(clone)
        worker.until(lambda state: state["mutations"] == 1)


def test_a_folder_without_repository_is_told(tmp_path: Path) -> None:
    """The worker does not start, says why, and shows no traceback."""
    done = subprocess.run(
        [GRIT[0], "-m", "grit.daemon.worker", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no git repository" in done.stderr
    assert "Traceback" not in done.stderr
