"""Snapshots: what they hold, when they are read, and that a rebuild is a full replay."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.codec import encode_chunk, encode_record
from grit.core.errors import Conflict, InvalidArgs, NotFound
from grit.git import leftovers
from grit.git.blob import Blob
from grit.git.snapshots import SNAPSHOTS, list_snapshots, remove
from grit.git.wal import Wal
from grit.services import actors, refresh, snapshot_check, snapshots
from grit.view.writer import rebuilding
from tests.core.builders import NOW_MS, created, event
from tests.services.clinic import Patient
from tests.services.snapshot_logs import (
    contents,
    fill,
    forge,
    forget,
    full,
    make,
    rebuilt,
    state,
    statuses,
)


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    return Patient(git_repository)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small logs are treated as large ones."""
    monkeypatch.setattr(limits, "SNAPSHOT_EVENTS_MIN", 3)


def test_a_rebuild_from_a_snapshot_is_a_full_replay(patient: Patient) -> None:
    """Unknown kinds, orphans, the best copies and what was set aside: nothing is different."""
    fill(patient)
    made = make(patient)
    wanted = full(patient)
    assert rebuilt(patient) == (wanted, made.refs[0])
    assert made.manifest is not None and len(made.manifest.asides) == 2
    assert statuses(patient) == {made.refs[0]: "made"}
    assert set(patient.trouble().values()) == {"warn"}
    assert patient.check("snapshots").status == "ok"
    patient.git("fsck", "--strict")


def test_row_22_a_snapshot_one_more_event_and_a_rebuild(patient: Patient) -> None:
    """What came after the snapshot is read from the log."""
    fill(patient)
    made = make(patient)
    late = event(kinds.COMMENT_ADDED, "one more", ts=NOW_MS + 99)
    patient.append(late)
    found, used = rebuilt(patient)
    assert used == made.refs[0]
    assert found == full(patient)
    assert late.event_id.hex() in json.dumps(found[0])


def test_a_lost_view_begins_with_the_snapshot_by_itself(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read after the view was deleted uses a snapshot that was made here."""
    fill(patient)
    wanted = full(patient)
    make(patient)
    shutil.rmtree(patient.git_dir / "grit/view")
    patient.git("pack-refs", "--all")
    reads: list[str | None] = []
    read = Wal.read

    def counted(wal: Wal, head: str, old: str | None, *more: Any) -> Iterator[Blob]:
        reads.append(old)
        return read(wal, head, old, *more)

    monkeypatch.setattr(Wal, "read", counted)
    workspace = patient.workspace()
    assert state(workspace, refresh.refresh(workspace)) == wanted
    assert reads == []
    workspace.close()


def test_a_trusted_snapshot_that_broke_is_not_used(patient: Patient) -> None:
    """What was verified once is checked again when it is read: its chunk can be gone."""
    fill(patient)
    made = make(patient)
    patient.loose(patient.git("rev-parse", f"{made.commit}:events/0000.bin")).unlink()
    wanted = full(patient)
    patient.notices.clear()
    assert rebuilt(patient) == (wanted, None)
    assert any(made.refs[0] in notice for notice in patient.notices)


def test_what_is_set_aside_now_counts_when_a_later_grit_understands_it(patient: Patient) -> None:
    """The chunks that were set aside are read beside the snapshot, by today's rules."""
    fill(patient)
    future = encode_chunk([event(kinds.COMMENT_ADDED, "of version 2", ts=NOW_MS + 60)])
    chunk = b"GRITCHNK\x02" + future[9:]
    patient.append_chunk(chunk)
    made = make(patient)
    taught = codec._open_chunk

    def open_chunk(data: bytes) -> tuple[bytes, int]:
        return taught(data.replace(b"K\x02", b"K\x01", 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_open_chunk", open_chunk)
        found, used = rebuilt(patient)
        assert used == made.refs[0]
        assert "of version 2" in json.dumps(found[0])


def test_a_fresh_clone_reads_a_snapshot_beside_the_log(
    patient: Patient, tmp_path: Path, eager: None
) -> None:
    """The first read of a clone uses a snapshot of somebody else once the log agreed with it."""
    fill(patient)
    make(patient)
    wanted = full(patient)
    clone = Patient(tmp_path / "clone")
    subprocess.run(["git", "clone", "-q", str(patient.folder), str(clone.folder)], check=True)
    workspace = clone.workspace()
    actors.init(workspace)
    found = state(workspace, refresh.refresh(workspace))
    workspace.close()
    assert found == wanted
    [(ref, status)] = statuses(clone).items()
    assert (ref.startswith("refs/grit-remotes/origin/snapshots/"), status) == (True, "agrees")
    assert rebuilt(clone) == (wanted, ref)


def test_reading_beside_the_log_skips_what_the_snapshot_holds(
    patient: Patient, eager: None
) -> None:
    """Chunks of one event that the snapshot holds are listed and not read."""
    fill(patient)
    made = make(patient)
    patient.git("gc", "-q")
    workspace = patient.workspace()
    claim = snapshot_check.Claim(workspace, made, trusted=False)
    taken = [oid for oid, _ in claim.chunks()]
    assert claim.verdict(refresh.refresh(workspace)) is None
    workspace.close()
    # The snapshot itself, the two worse copies, and the two chunks with something set aside.
    assert len(taken) == 1 + 2 + 2


def test_large_chunks_are_not_read_twice(patient: Patient, eager: None) -> None:
    """Beside a log of few large chunks a snapshot of somebody else would cost, not save."""
    patient.append(*[event(kinds.COMMENT_ADDED, str(n), ts=NOW_MS + n) for n in range(30)])
    made = make(patient)
    workspace = patient.workspace()
    assert made.manifest is not None
    assert not snapshot_check.pays(workspace, made.manifest)
    workspace.close()
    forget(patient)
    assert rebuilt(patient)[1] is None


def test_chunks_stay_within_the_bounds_of_a_writer(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot has as many chunks as the bounds of events and bytes ask for."""
    fill(patient)
    monkeypatch.setattr(limits, "CHUNK_EVENTS_MAX", 3)
    made = make(patient)
    assert made.manifest is not None
    counts = [part.event_count for part in made.manifest.parts]
    assert sum(counts) == made.manifest.event_count and max(counts) == 3 and len(counts) == 4
    monkeypatch.setattr(limits, "CHUNK_TARGET_BYTES", 1)
    assert len(make(patient, NOW_MS + 1).manifest.parts) == sum(counts)  # type: ignore[union-attr]
    assert rebuilt(patient)[0] == full(patient)


def test_an_empty_log_and_a_shared_one_have_no_snapshot(patient: Patient) -> None:
    """There is nothing to hold, or nobody else who would know what it is."""
    with pytest.raises(NotFound):
        make(patient)
    patient.append(created("First"))
    patient.git("update-ref", "refs/grite/wal", "refs/grit/wal")
    patient.git("update-ref", "-d", "refs/grit/wal")
    with pytest.raises(InvalidArgs):
        make(patient)


def test_gc_keeps_the_two_best_and_what_is_not_its_own(patient: Patient) -> None:
    """Superfluous is what two trusted ones of later heads hold as well; lies and others stay."""
    fill(patient)
    made = []
    for number in range(4):
        patient.append(event(kinds.COMMENT_ADDED, f"more {number}", ts=NOW_MS + 100 + number))
        made.append(make(patient, NOW_MS + number).refs[0])
    records, asides = contents(patient)
    lie = forge(patient, records[:-1], asides=asides).refs[0]
    head = patient.git("rev-parse", "refs/grit/wal")
    workspace = patient.workspace()
    snapshots.verify(workspace)
    assert snapshots.clear(workspace).removed == [made[1], made[0]]
    assert snapshots.clear(workspace).removed == []
    workspace.close()
    assert set(statuses(patient)) == {made[2], made[3], lie}
    assert patient.git("rev-parse", "refs/grit/wal") == head


def test_a_ref_that_moved_is_not_removed(patient: Patient) -> None:
    """Removing is a compare-and-swap: what somebody else put there stays."""
    fill(patient)
    made = make(patient)
    other = make(patient, NOW_MS + 1)
    workspace = patient.workspace()
    assert not remove(workspace.repository, made.refs[0], other.commit)
    assert remove(workspace.repository, made.refs[0], made.commit)
    assert [one.commit for one in list_snapshots(workspace.repository)] == [other.commit]
    workspace.close()


def test_two_of_one_millisecond_get_two_names(patient: Patient) -> None:
    """A name that is taken is never overwritten."""
    fill(patient)
    first, second = make(patient).refs[0], make(patient).refs[0]
    assert [first, second] == [f"{SNAPSHOTS}{NOW_MS}", f"{SNAPSHOTS}{NOW_MS + 1}"]


def test_a_snapshot_is_named_by_the_beginning_of_its_commit(patient: Patient) -> None:
    """Digits from its middle name nothing, as with issues."""
    fill(patient)
    made = make(patient)
    workspace = patient.workspace()
    assert snapshots.find(workspace, made.commit[:10]) == made.commit
    with pytest.raises(NotFound):
        snapshots.find(workspace, made.commit[3:20])


def test_without_snapshots_nothing_is_started_to_look_for_them(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that has none pays nothing for them."""
    fill(patient)
    workspace = patient.workspace()
    from grit.git import process

    monkeypatch.setattr(process, "output", None)
    assert list_snapshots(workspace.repository) == []
    workspace.close()


def test_the_commands_speak_json(patient: Patient) -> None:
    """create, list, verify, gc and rebuild have the documented keys and exit statuses."""
    patient.data("new", "First")
    row = patient.data("snapshot", "create")["snapshot"]
    assert row["status"] == "made" and row["usable"] and row["event_count"] == 2
    assert patient.data("snapshot", "list")["snapshots"] == [row]
    assert patient.data("snapshot", "verify", row["refs"][0])["snapshots"] == [row]
    assert patient.data("rebuild", "--from-snapshot")["from_snapshot"] == row["refs"][0]
    assert patient.data("rebuild")["from_snapshot"] is None
    assert patient.data("snapshot", "gc") == {"removed": [], "kept": row["refs"]}
    assert "no snapshot" in patient.refused("snapshot", "verify", "nothing")
    patient.git("update-ref", f"{SNAPSHOTS}1", "refs/grit/wal")
    assert patient.grit("snapshot", "verify").returncode == 1


@pytest.mark.parametrize("flags", [["--object-format=sha256"], ["--bare"]], ids=["sha256", "bare"])
def test_other_repositories_have_snapshots_too(
    flags: list[str], tmp_path: Path, eager: None
) -> None:
    """Object ids of another length, and no working tree, change nothing."""
    folder = tmp_path / "other"
    subprocess.run(["git", "init", "-q", *flags, str(folder)], check=True)
    patient = Patient(folder)
    if "--bare" in flags:
        patient.git_dir = folder
    fill(patient)
    made = make(patient)
    wanted = full(patient)
    assert rebuilt(patient) == (wanted, made.refs[0])
    forget(patient)
    assert rebuilt(patient) == (wanted, made.refs[0])
    assert statuses(patient) == {made.refs[0]: "agrees"}


def test_a_view_that_lost_something_makes_no_snapshot(patient: Patient) -> None:
    """What the view does not hold would be lost to all who take the snapshot: it is refused."""
    fill(patient)
    workspace = patient.workspace()
    head = workspace.wal.head()
    records = [(one, encode_record(one)) for one in refresh.refresh(workspace).all_events()]
    with rebuilding(workspace.database, force=True) as writer:
        writer.apply(records[:-1], head)
    with pytest.raises(Conflict):
        snapshots.create(workspace)
    workspace.close()
    assert statuses(patient) == {}


def test_many_junk_names_do_not_hide_a_good_one(patient: Patient) -> None:
    """A hostile remote can fill the names: what was verified here is used all the same."""
    fill(patient)
    made = make(patient)
    for number in range(limits.SNAPSHOTS_READ_MAX + 4):
        patient.git("update-ref", f"{SNAPSHOTS}{NOW_MS + 1 + number}", "refs/grit/wal")
    patient.notices.clear()
    assert rebuilt(patient) == (full(patient), made.refs[0])
    assert len(patient.notices) == 1


def test_events_that_are_held_back_are_in_the_snapshot(patient: Patient) -> None:
    """A snapshot is the log's, whatever policy its maker has: others may count these events."""
    fill(patient)
    wanted = full(patient)
    patient.data("config", "set", "verify", "require")
    made = make(patient)
    workspace = patient.workspace()
    assert refresh.refresh(workspace).stats().held_count > 0
    workspace.close()
    assert rebuilt(patient)[1] is None
    patient.data("config", "set", "verify", "off")
    assert rebuilt(patient) == (wanted, made.refs[0])


def test_gc_tells_what_git_cannot_remove_and_clears_dead_locks(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ref under a fresh lock stays, with a word; a lock that a killed `create` left goes."""
    fill(patient)
    made = []
    for number in range(3):
        patient.append(event(kinds.COMMENT_ADDED, f"more {number}", ts=NOW_MS + 100 + number))
        made.append(make(patient, NOW_MS + number).refs[0])
    common = patient.folder / ".git"
    dead, held = common / f"{SNAPSHOTS}{NOW_MS + 7}.lock", common / "packed-refs.lock"
    for lock in (dead, held):
        lock.touch()
    monkeypatch.setattr(leftovers, "LOCK_STALE_MS", 50)
    workspace = patient.workspace()
    heard: list[str] = []
    monkeypatch.setattr(workspace, "notice", heard.append)
    cleared = snapshots.clear(workspace)
    assert (cleared.removed, set(cleared.kept)) == ([], set(made))
    assert [line for line in heard if "stays" in line] == [
        f"{made[0]} stays: git could not remove it now; try again later"
    ]
    assert not dead.exists() and any(str(dead) in line for line in heard)
    held.unlink()
    assert snapshots.clear(workspace).removed == [made[0]]
    workspace.close()
