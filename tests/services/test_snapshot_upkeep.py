"""Snapshots that a sync makes by itself: when, for whom, and what goes away again."""

import subprocess
from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core import limits
from grit.services import sync
from tests.core.builders import NOW_MS, created, event
from tests.services.clinic import Patient
from tests.services.snapshot_logs import DAY_MS, contents, forge, full, make, rebuilt, statuses


@pytest.fixture
def patient(git_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    """A clone with a remote, where ten events are worth a snapshot."""
    monkeypatch.setattr(limits, "SNAPSHOT_EVENTS_MIN", 10)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "remote")], check=True)
    return joined(Patient(git_repository), tmp_path)


def joined(patient: Patient, tmp_path: Path) -> Patient:
    patient.git("remote", "add", "origin", str(tmp_path / "remote"))
    return patient


def another(tmp_path: Path) -> Patient:
    """Return a second clone that has synced."""
    subprocess.run(["git", "init", "-q", str(tmp_path / "another")], check=True)
    return joined(Patient(tmp_path / "another"), tmp_path)


def write(patient: Patient, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        patient.append(event(kinds.COMMENT_ADDED, f"number {number}", ts=NOW_MS + number))


def synced(patient: Patient, now_ms: int = NOW_MS) -> list[str]:
    """Sync, and return the snapshots that are at the remote then."""
    workspace = patient.workspace(now_ms)
    sync.sync(workspace)
    workspace.close()
    return at_remote(patient)


def at_remote(patient: Patient) -> list[str]:
    lines = patient.git("ls-remote", "origin", "refs/grit/snapshots/*").splitlines()
    return [line.split()[1] for line in lines]


def test_a_sync_makes_one_after_enough_events_and_shares_it(patient: Patient) -> None:
    """Below the bound nothing; at it one; then again when as many are new, and not before."""
    patient.append(created("First"))
    write(patient, 8)
    assert synced(patient) == []
    write(patient, 1, 8)
    assert synced(patient) == [f"refs/grit/snapshots/{NOW_MS}"]
    assert own(patient) == {f"refs/grit/snapshots/{NOW_MS}": "made"}
    write(patient, 9, 9)
    assert len(synced(patient, NOW_MS + 1)) == 1
    write(patient, 1, 18)
    assert len(synced(patient, NOW_MS + 2)) == 2
    assert patient.trouble() == {"orphans": "warn"} or patient.trouble() == {}


def test_a_sync_makes_one_after_days_when_anything_is_new(patient: Patient) -> None:
    """Time alone makes no snapshot: there must be an event that the newest one lacks."""
    write(patient, 10)
    synced(patient)
    assert len(synced(patient, NOW_MS + 8 * DAY_MS)) == 1
    write(patient, 1, 10)
    assert len(synced(patient, NOW_MS + 6 * DAY_MS)) == 1
    assert len(synced(patient, NOW_MS + 8 * DAY_MS)) == 2


def test_old_ones_are_removed_here_and_at_the_remote(patient: Patient) -> None:
    """Two stay, the newest ones; the log is untouched."""
    for number in range(4):
        write(patient, 10, 10 * number)
        found = synced(patient, NOW_MS + number)
    assert found == [f"refs/grit/snapshots/{NOW_MS + 2}", f"refs/grit/snapshots/{NOW_MS + 3}"]
    assert set(own(patient)) == set(found)
    assert len(statuses(patient)) == 4
    assert rebuilt(patient) == (full(patient), found[1])


def test_what_was_removed_here_goes_from_another_remote_later(
    patient: Patient, tmp_path: Path
) -> None:
    """A remote that could not be reached for a while loses its old ones with the next gc."""
    write(patient, 10)
    synced(patient)
    old = f"refs/grit/snapshots/{NOW_MS}"
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "second")], check=True)
    patient.git("push", "-q", str(tmp_path / "second"), old)
    for number in (1, 2):
        write(patient, 10, 10 * number)
        synced(patient, NOW_MS + number)
    assert old not in statuses(patient)
    patient.git("remote", "add", "second", str(tmp_path / "second"))
    assert old in patient.data("snapshot", "gc", "--remote", "second")["removed"]
    assert patient.git("ls-remote", "second") == ""


def test_a_second_clone_takes_over_what_is_there(patient: Patient, tmp_path: Path) -> None:
    """Only one of many clones makes the snapshot: the next finds it, and compares it first."""
    write(patient, 10)
    [ref] = synced(patient)
    other = another(tmp_path)
    assert synced(other) == [ref]
    assert set(statuses(other).values()) == {"agrees"}
    assert rebuilt(other)[0] == full(other)


def test_a_false_one_at_the_remote_keeps_nobody_from_making_one(
    patient: Patient, tmp_path: Path
) -> None:
    """A snapshot that claims much and holds less does not count as the newest one."""
    write(patient, 10)
    other = another(tmp_path)
    workspace = patient.workspace()
    sync.sync(workspace, push=False)
    workspace.close()
    patient.git("push", "-q", "origin", "refs/grit/wal")
    records, _ = contents(patient)
    lie = forge(patient, records[:-1], at_ms=NOW_MS + 5)
    patient.git("push", "-q", "origin", lie.refs[0])
    assert synced(other, NOW_MS + 6) == [f"refs/grit/snapshots/{NOW_MS + n}" for n in (5, 6)]
    assert own(other) == {f"refs/grit/snapshots/{NOW_MS + 6}": "made"}
    assert "does not" in statuses(other)[lie.refs[0].replace("/grit/", "/grit-remotes/origin/")]
    assert other.check("snapshots").status == "warn"


def own(patient: Patient) -> dict[str, str]:
    """Return the snapshots that this clone has refs of its own for."""
    found = statuses(patient)
    return {ref: status for ref, status in found.items() if ref.startswith("refs/grit/")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"events": "0", "days": "0"}, 0),
        ({"events": "0"}, 1),
        ({"events": "30"}, 1),
        ({"events": "5"}, 1),
    ],
)
def test_the_settings_say_when(patient: Patient, settings: dict[str, str], expected: int) -> None:
    """0 is never; a log below the bound gets none whatever they say."""
    for name, value in settings.items():
        patient.data("config", "set", f"snapshot.{name}", value)
    write(patient, 9)
    assert synced(patient) == []
    write(patient, 1, 9)
    assert len(synced(patient)) == expected


def test_fewer_events_can_be_asked_for(patient: Patient) -> None:
    """`snapshot.events` counts what is new, down to one."""
    patient.data("config", "set", "snapshot.events", "1")
    write(patient, 10)
    synced(patient)
    write(patient, 1, 10)
    assert len(synced(patient, NOW_MS + 1)) == 2
    assert len(synced(patient, NOW_MS + 2)) == 2


def test_a_remote_that_takes_no_snapshot_does_not_fail_the_sync(
    patient: Patient, tmp_path: Path
) -> None:
    """The sync is done before; what went wrong with the snapshot is told."""
    hook = tmp_path / "remote/hooks/update"
    hook.write_text('#!/bin/sh\ncase "$1" in */snapshots/*) echo no room >&2; exit 1;; esac\n')
    hook.chmod(0o755)
    write(patient, 10)
    assert synced(patient) == []
    assert any("no room" in notice for notice in patient.notices), patient.notices
    assert statuses(patient) == {f"refs/grit/snapshots/{NOW_MS}": "made"}


def test_a_sync_that_need_not_make_one_starts_no_process_for_it(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the last sync found is remembered: nothing is listed or asked for."""
    write(patient, 12)
    synced(patient)
    monkeypatch.setattr("grit.services.snapshots.listing", None)
    monkeypatch.setattr("grit.services.snapshot_upkeep._remote_refs", None)
    workspace = patient.workspace()
    sync.sync(workspace)
    workspace.close()


def test_one_that_was_made_by_hand_counts(patient: Patient) -> None:
    """A snapshot made by `grit snapshot create` spares the sync its own."""
    write(patient, 12)
    made = make(patient)
    assert synced(patient, NOW_MS + 1) == []
    assert set(statuses(patient)) == {made.refs[0]}
