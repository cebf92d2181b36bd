"""The log's ref is deleted, set back or replaced by hand: nothing vanishes without a word."""

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.clinic import REF, Patient


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    return Patient(git_repository)


def test_fault_2_a_deleted_ref_is_refused_and_restored(patient: Patient) -> None:
    """A log that is gone is never shown as empty, and doctor --fix brings the known head back."""
    patient.data("new", "one")
    head = patient.git("rev-parse", REF)
    patient.git("update-ref", "-d", REF)
    for words in (("ls",), ("new", "two"), ("export",)):
        assert "doctor --fix" in patient.refused(*words)
    assert patient.grit("doctor").returncode
    patient.grit("doctor", "--fix")
    assert patient.git("rev-parse", REF) == head
    assert patient.data("ls")["total"] == 1


def test_a_ref_that_was_set_back_is_told_and_its_head_kept(patient: Patient) -> None:
    """What the ref does not hold any more is said to be missing, and survives `git gc`."""
    patient.data("new", "one")
    patient.data("new", "two")
    head = patient.git("rev-parse", REF)
    patient.git("update-ref", REF, f"{head}~1")
    done = patient.grit("ls", "--json")
    assert head in done.stderr
    assert '"total": 1' in done.stdout
    assert patient.grit("ls").stderr == ""
    patient.git("gc", "-q", "--prune=now")
    assert patient.git("cat-file", "-t", head) == "commit"
    patient.git("update-ref", REF, head)
    assert patient.data("ls")["total"] == 2


def test_a_view_of_another_repository_is_not_taken_for_a_lost_log(
    patient: Patient, tmp_path: Path
) -> None:
    """A view moved in from elsewhere gives way to the log that is here."""
    patient.git("init", "-q", str(tmp_path / "other"))
    other = Patient(tmp_path / "other")
    other.data("new", "elsewhere")
    patient.data("new", "here")
    (patient.git_dir / "grit" / "view").rename(tmp_path / "view")
    (other.git_dir / "grit" / "view").rename(patient.git_dir / "grit" / "view")
    assert [row["title"] for row in patient.data("ls")["issues"]] == ["here"]
    assert patient.git("for-each-ref", "refs/grit-lost") == ""


def _impatient(patient: Patient, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run grit with short waits; the bound is taken over when modules are imported."""
    program = (
        "from grit.core import limits; limits.LOCK_WAIT_MS_MAX = 200; "
        "from grit.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=patient.folder, capture_output=True, text=True, timeout=10,
    )  # fmt: skip


def test_fault_11_a_writer_behind_a_busy_view_gives_up_in_time(patient: Patient) -> None:
    """A decision needs the newest state: without it the write is refused after one wait."""
    issue = patient.data("new", "one")["issue_id"]
    with (patient.git_dir / "grit" / "view" / "writer.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242 checked".ljust(32))
        lock.flush()
        stored = _impatient(patient, "comment", issue, "-b", "first")
        assert (stored.returncode, "catch up later" in stored.stderr) == (0, True)
        refused = _impatient(patient, "comment", issue, "-b", "second")
        assert refused.returncode == 5
        assert refused.stderr.count("busy (pid 4242)") == 1
    assert patient.data("show", issue)["issue"]["comment_count"] == 1


def test_a_log_that_another_one_hides_is_told(patient: Patient) -> None:
    """A second log, under refs/grite/wal, hides nothing, and is never hidden without a word."""
    patient.data("new", "one")
    own = patient.git("rev-parse", REF)
    bundle = Path(__file__).parents[1] / "compat" / "rust-grite-gritecnk.bundle"
    patient.git("fetch", "-q", str(bundle), "refs/grite/*:refs/grite/*")
    assert "refs/grite/wal holds another log" in patient.grit("ls").stderr
    assert patient.data("ls")["total"] == 1
    patient.git("update-ref", REF, "refs/grite/wal", own)
    assert "another log" not in patient.grit("ls").stderr


def test_doctor_names_a_lost_head_and_takes_it_back(patient: Patient) -> None:
    """A ref that was set back is moved forward by --fix; one that went elsewhere is joined."""
    patient.data("new", "one")
    early = patient.git("rev-parse", REF)
    patient.data("new", "two")
    late = patient.git("rev-parse", REF)
    patient.git("update-ref", REF, early)
    assert patient.data("ls")["total"] == 1
    assert patient.check("lost").status == "warn"
    assert patient.check("lost", fix=True).status == "ok"
    assert patient.git("rev-parse", REF) == late
    assert patient.data("ls")["total"] == 2
    patient.git("update-ref", REF, early)
    patient.data("ls")
    patient.data("new", "three")
    assert patient.check("lost", fix=True).status == "ok"
    assert {row["title"] for row in patient.data("ls")["issues"]} == {"one", "two", "three"}


def test_a_reader_does_not_wait_for_whoever_updates_the_view(patient: Patient) -> None:
    """While another process holds the view, a read answers soon, with the state before."""
    patient.data("new", "one")
    patient.data("ls")
    with (patient.git_dir / "grit" / "view" / "writer.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242 checked".ljust(32))
        lock.flush()
        assert _impatient(patient, "new", "two").returncode == 0
        started = time.monotonic()
        read = patient.grit("ls", "--json=title")
        spent_s = time.monotonic() - started
    assert "busy (pid 4242)" in read.stderr
    assert [row["title"] for row in json.loads(read.stdout)["data"]["issues"]] == ["one"]
    assert spent_s < 5
