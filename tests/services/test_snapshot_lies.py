"""Snapshots that are not what they claim to be: none is believed, and none is removed."""

from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core import limits
from grit.core.codec import encode_chunk, encode_record
from grit.git.snapshots import SNAPSHOTS, Snapshot
from grit.services import snapshots
from tests.core.builders import NOW_MS, event
from tests.services.clinic import Patient
from tests.services.snapshot_logs import (
    DAY_MS,
    contents,
    fill,
    forge,
    forget,
    full,
    make,
    rebuilt,
    signed,
    statuses,
)


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    return Patient(git_repository)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small logs are treated as large ones."""
    monkeypatch.setattr(limits, "SNAPSHOT_EVENTS_MIN", 3)


def _leaves_out(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    return forge(patient, records[:-1], asides=asides)


def _adds(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    lie = encode_record(event(kinds.STATE_CHANGED, "closed", ts=NOW_MS + 500))
    return forge(patient, [*records, lie], asides=asides)


def _strips_a_signature(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    [at] = [n for n, record in enumerate(records) if b"fsigned" in record]
    unsigned = signed(kinds.COMMENT_ADDED, "signed", ts=NOW_MS + 1)._replace(sig=None)
    records[at] = encode_record(unsigned)
    return forge(patient, records, asides=asides)


def _twice(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    ids = [record[3:35] for record in records]
    return forge(patient, [*records, records[0]], asides=asides, ids=ids)


def _wrong_hash(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    return forge(patient, records, asides=asides, claimed_hash=bytes(32))


def _wrong_set(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    return forge(patient, records, asides=asides, ids=[bytes(32)])


def _hides_asides(patient: Patient) -> Snapshot:
    return forge(patient, contents(patient)[0])


def _invents_asides(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    lie = encode_chunk([event(kinds.STATE_CHANGED, "closed", ts=NOW_MS + 500)])
    blob = patient.git("hash-object", "-w", "--stdin", stdin=lie)
    return forge(patient, records, asides=[*asides, blob])


def _broken_record(patient: Patient) -> Snapshot:
    records, asides = contents(patient)
    return forge(patient, [*records[:-1], records[-1][:-3] + b"abc"], asides=asides)


LIES = {
    "leaves an event out": _leaves_out,
    "adds an event": _adds,
    "strips a signature": _strips_a_signature,
    "an event twice": _twice,
    "a wrong set": _wrong_set,
    "a wrong hash": _wrong_hash,
    "hides what was set aside": _hides_asides,
    "invents what was set aside": _invents_asides,
    "a broken record": _broken_record,
}


@pytest.mark.parametrize("name", LIES)
def test_fault_20_a_snapshot_that_lies_changes_nothing(
    name: str, patient: Patient, eager: None
) -> None:
    """Right hashes or not: the state is that of the log, a notice comes once, doctor names it."""
    fill(patient)
    wanted = full(patient)
    lie = LIES[name](patient)
    forget(patient)
    patient.notices.clear()
    assert rebuilt(patient)[0] == wanted
    assert [notice for notice in patient.notices if lie.refs[0] in notice], patient.notices
    assert patient.check("snapshots").status == "warn"
    assert lie.refs[0] in patient.check("snapshots").message
    patient.notices.clear()
    assert rebuilt(patient) == (wanted, None)
    assert patient.notices == []
    workspace = patient.workspace()
    [verified] = snapshots.verify(workspace)
    workspace.close()
    assert not verified.usable
    assert statuses(patient)[lie.refs[0]] == verified.status


def test_fault_20_a_head_of_the_future_waits_for_its_log(patient: Patient, eager: None) -> None:
    """A snapshot of a log that is not here yet is not used; once the log is, it can be."""
    fill(patient)
    old = patient.git("rev-parse", "refs/grit/wal")
    patient.append(event(kinds.COMMENT_ADDED, "later", ts=NOW_MS + 50))
    new = patient.git("rev-parse", "refs/grit/wal")
    made = make(patient)
    patient.git("update-ref", "refs/grit/wal", old)
    wanted = full(patient)
    patient.notices.clear()
    assert rebuilt(patient) == (wanted, None)
    told = [notice for notice in patient.notices if made.refs[0] in notice]
    assert len(told) == 1
    patient.notices.clear()
    rebuilt(patient)
    assert patient.notices == []
    assert patient.check("snapshots").status == "warn"
    patient.git("update-ref", "refs/grit/wal", new)
    assert rebuilt(patient) == (full(patient), made.refs[0])


def test_fault_20_a_name_far_in_the_future_does_not_win(patient: Patient, eager: None) -> None:
    """A name is a claim too: what bears one of next year is not even looked into."""
    fill(patient)
    records, asides = contents(patient)
    late = forge(patient, records, asides=asides, at_ms=NOW_MS + 400 * DAY_MS)
    made = make(patient)
    assert rebuilt(patient) == (full(patient), made.refs[0])
    assert statuses(patient)[late.refs[0]] == snapshots.FUTURE
    assert late.refs[0] in patient.check("snapshots").message


def test_fault_20_garbage_below_the_snapshots_is_left_alone(patient: Patient, eager: None) -> None:
    """Blobs, foreign trees, wrong JSON: not used, named by doctor, and never removed."""
    fill(patient)
    blob = patient.git("hash-object", "-w", "--stdin", stdin=b"garbage")
    patient.git("update-ref", f"{SNAPSHOTS}1", blob)
    tree = patient.git("mktree", stdin=f"100644 blob {blob}\tsnapshot.json\n".encode())
    patient.git("update-ref", f"{SNAPSHOTS}2", patient.git("commit-tree", tree, "-m", "x"))
    patient.git("update-ref", f"{SNAPSHOTS}evil/name", "refs/grit/wal")
    nested = patient.git("hash-object", "-w", "--stdin", stdin=b"[" * 100_000)
    tree = patient.git("mktree", stdin=f"100644 blob {nested}\tsnapshot.json\n".encode())
    patient.git("update-ref", f"{SNAPSHOTS}3", patient.git("commit-tree", tree, "-m", "x"))
    before = patient.git("for-each-ref", SNAPSHOTS)
    assert rebuilt(patient) == (full(patient), None)
    assert set(statuses(patient).values()) == {snapshots.UNREADABLE}
    assert patient.check("snapshots").status == "warn"
    workspace = patient.workspace()
    assert snapshots.clear(workspace, keep=0).removed == []
    workspace.close()
    assert patient.git("for-each-ref", SNAPSHOTS) == before


def test_a_shipped_record_does_not_vouch_for_a_snapshot(patient: Patient, eager: None) -> None:
    """The verdicts are believed where grit left them: a copy, or an edited file, says nothing."""
    fill(patient)
    wanted = full(patient)
    lie = _leaves_out(patient)
    make(patient)
    path = patient.git_dir / "grit/snapshots.toml"
    text = f'[checked]\n{lie.commit} = "made"\n'
    path.write_text(text)
    assert set(statuses(patient).values()) == {snapshots.UNCHECKED}
    assert rebuilt(patient)[0] == wanted
    path.write_bytes(path.read_bytes())
    assert set(statuses(patient).values()) == {snapshots.UNCHECKED}
    path.write_text("no = [toml")
    assert rebuilt(patient)[0] == wanted
