"""Faults of the log, made for real: what is refused, what is set aside, what heals."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.core import codec, limits, signing
from grit.core import events as kinds
from grit.core.codec import encode_chunk
from grit.core.errors import GritError
from grit.core.events import Event
from grit.core.ids import EventId, IssueId
from grit.services import issues
from grit.services.refresh import refresh
from grit.services.workspace import Workspace
from grit.services.write import Transaction, write
from tests.core.builders import ISSUE, NOW_MS, OTHER, created, event
from tests.faults.machine import FULL_SWEEP
from tests.services.clinic import REF, Patient, check_of

APPENDS = 240 if FULL_SWEEP else 60
HEADER = codec.MAGIC + b"\x01\x00\x07cbor-v1"


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    return Patient(git_repository)


@pytest.fixture
def used(git_repository: Path) -> Patient:
    """A clone with two issues made by the program itself, and a commit on its branch."""
    patient = Patient(git_repository, now_ms=time.time_ns() // 1_000_000)
    patient.git("commit", "-q", "--allow-empty", "-m", "code")
    patient.data("init")
    patient.data("new", "one")
    patient.data("new", "two")
    return patient


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_fault_1_a_ref_that_cannot_be_read_is_refused(
    used: Patient, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An error while the ref is read is never taken for absence; --fix changes nothing."""
    head = used.ref.read_bytes()
    real = os.open

    def failing(path: str, flags: int, *more: object, **options: object) -> int:
        if str(path).endswith(REF):
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *more, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("grit.git.refs.os.open", failing)
        found = used.diagnose(fix=True)
    check = check_of(found, "ref")
    assert check.status == "error"
    assert os.strerror(number) in check.message
    assert found.applied == []
    assert used.ref.read_bytes() == head


@pytest.mark.skipif(os.name == "nt", reason="modes")
def test_fault_1_a_ref_file_of_mode_000(used: Patient) -> None:
    """A ref file that may not be read refuses reads and writes alike."""
    head = used.ref.read_bytes()
    used.ref.chmod(0)
    if os.access(used.ref, os.R_OK):
        pytest.skip("this user reads everything")
    used.refused("ls")
    used.refused("new", "three")
    used.ref.chmod(0o600)
    assert used.ref.read_bytes() == head


@pytest.mark.parametrize("damage", ["empty", "garbage", "short", "symref", "symlink", "gone"])
def test_fault_2_a_damaged_ref_is_refused_and_restored(used: Patient, damage: str) -> None:
    """A damaged ref stops reads and writes, naming it; --fix restores the last known head."""
    head = used.ref.read_text().strip()
    branch = used.git("rev-parse", "main")
    used.ref.unlink()
    if damage == "symlink":
        used.ref.symlink_to(used.git_dir / "refs/heads/main")
    elif damage != "gone":
        text = {"empty": "", "garbage": "x" * 41, "short": head[:20]}
        used.ref.write_text(text.get(damage, "ref: refs/heads/main\n"))
    if damage != "gone":
        assert REF in used.refused("ls")
        assert REF in used.refused("new", "three")
    assert used.trouble()["ref"] == "error"
    assert used.grit("doctor", "--fix").returncode == 0
    assert used.ref.read_text().strip() == head
    assert used.git("rev-parse", "main") == branch
    assert used.trouble() == {}
    assert used.data("ls")["total"] == 2


def test_fault_2_a_head_that_the_view_does_not_know_is_not_invented(used: Patient) -> None:
    """Without a remembered head nothing is restored, and no advice destroys anything."""
    (used.git_dir / "grit/view/mark").unlink()
    used.ref.write_text("")
    found = used.diagnose(fix=True)
    assert check_of(found, "ref").status == "error"
    assert used.ref.read_text() == ""
    for check in found.checks:
        assert not {"rm", "delete", "reset", "--force"} & set((check.plan or "").split())


def test_fault_3_a_ref_that_names_a_missing_object(used: Patient) -> None:
    """Nothing is written on a head that is not there; --fix writes the commit again."""
    head = used.ref.read_text().strip()
    used.loose(head).unlink()
    assert used.trouble()["ref"] == "error"
    done = used.grit("doctor", "--fix")
    assert done.returncode == 0, done.stdout
    assert used.git("cat-file", "-t", head) == "commit"
    assert used.trouble() == {}


@pytest.mark.parametrize("damage", ["missing", "empty", "flipped"])
@pytest.mark.parametrize("kind", ["commit", "tree", "blob"])
def test_fault_3_a_damaged_object_is_healed_from_the_view(
    used: Patient, kind: str, damage: str
) -> None:
    """Whatever is wrong with an object of an own append, --fix writes it again bit for bit."""
    oid = next(oid for oid in used.objects() if used.git("cat-file", "-t", oid) == kind)
    path = used.loose(oid)
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        changed = bytes([data[len(data) // 2] ^ 0xFF])
        flipped = data[: len(data) // 2] + changed + data[len(data) // 2 + 1 :]
        path.write_bytes(b"" if damage == "empty" else flipped)
    assert "error" in used.trouble().values()
    found = used.diagnose(fix=True)
    assert any("again" in done for done in found.applied)
    assert used.trouble() == {}
    assert used.git("cat-file", "-t", oid) == kind
    used.git("fsck", "--strict")


def test_fault_3_an_object_that_nobody_has_is_named(patient: Patient) -> None:
    """What came from elsewhere cannot be written again: it is named, and the rest is read."""
    patient.append(created())
    patient.append(event(kinds.ISSUE_CREATED, "Other", "", (), issue=OTHER))
    lost = patient.objects()[2]
    patient.loose(lost).unlink()
    found = patient.diagnose(fix=True)
    check = check_of(found, "objects")
    assert check.status == "error"
    assert lost in check.message
    assert "git fetch" in (check.plan or "")


_WRITER = """
import os, sys, time
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.workspace import Ports, open_workspace
from grit.services.write import write
now_ms = lambda: time.time_ns() // 1_000_000
workspace = open_workspace(".", Ports(dict(os.environ), now_ms, os.urandom))
for _ in range(10):
    work = lambda t: issues.create(t, IssueId(os.urandom(16)), "one of many")
    write(workspace, work, lambda _: "create")
"""


def test_fault_6_writers_of_one_actor_fork_nothing(used: Patient) -> None:
    """Processes of one actor beside `pack-refs --prune`: every event is there, in one chain."""
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER], cwd=used.folder) for _ in range(3)]
    while any(writer.poll() is None for writer in writers):
        used.git("pack-refs", "--all", "--prune")
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert used.trouble() == {}
    assert used.data("ls", "--limit", "1")["total"] == 32


def test_fault_7_gc_that_prunes_at_once_beside_appends(used: Patient) -> None:
    """Appends beside `git gc --prune=now`: all are there afterwards, with the same ids."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            subprocess.run(
                ["git", "-C", str(used.folder), "gc", "-q", "--prune=now"],
                capture_output=True,
                timeout=60,
                check=False,
            )

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        heads = _append_many(used)
    finally:
        stop.set()
        collector.join()
    used.diagnose(fix=True)
    listed = used.git("rev-list", REF).split()
    assert [oid for oid in listed if oid in set(heads)] == list(reversed(heads))
    assert len(heads) == APPENDS
    assert used.data("ls", "--limit", "1")["total"] == APPENDS + 2
    assert check_of(used.diagnose(), "objects").status == "ok"


def _append_many(used: Patient) -> list[str]:
    heads: list[str] = []
    while len(heads) < APPENDS:
        workspace = used.workspace()
        try:
            while len(heads) < APPENDS:
                head = _append_one(workspace)
                assert head is not None
                heads.append(head)
        except GritError:
            # An append may be refused when its parent was collected: doctor brings it back.
            used.diagnose(fix=True)
        finally:
            workspace.close()
    return heads


def _append_one(workspace: Workspace) -> str | None:
    def work(transaction: Transaction) -> None:
        issues.create(transaction, IssueId(os.urandom(16)), "beside a collection")

    _, written = write(workspace, work, lambda _: "create")
    return written.head


def test_fault_13_bombs_are_set_aside(patient: Patient) -> None:
    """Zeros without end, deep nesting and empty arrays without number cost only themselves."""
    patient.append(created())
    patient.append_chunk(HEADER + b"\x81" * 100_000)
    patient.append_chunk(HEADER + b"\x9a\x00\x98\x96\x80" + b"\x80" * 10_000_000)
    patient.append_chunk(HEADER + bytes(limits.CHUNK_BYTES_MAX))
    found = patient.diagnose()
    assert not found.failed
    message = check_of(found, "chunks").message
    assert message.startswith("3 chunk files")
    assert f"larger than {limits.CHUNK_BYTES_MAX}" in message
    assert patient.data("ls")["total"] == 1


def _records() -> Iterator[tuple[str, bytes]]:
    """Records that say what a valid one says, in encodings that are not canonical."""
    whole = codec.encode_record(event(kinds.COMMENT_ADDED, "x"))
    assert whole[:1] == b"\x88"
    yield "indefinite", b"\x9f" + whole[1:] + b"\xff"
    yield "long head", b"\x98\x08" + whole[1:]
    yield "tag", b"\xc1" + whole
    yield "float", whole[:-1] + b"\xf9\x7e\x00"
    yield "bignum", whole[:-1] + b"\xc2\x41\x01"
    yield "duplicate keys", whole[:-1] + b"\xa2\x01\x01\x01\x02"


@pytest.mark.parametrize(("name", "record"), list(_records()))
def test_fault_14_what_is_not_canonical_is_set_aside(
    patient: Patient, name: str, record: bytes
) -> None:
    """An encoding that is not the one canonical costs that record alone, and says so."""
    good = codec.encode_record(created())
    patient.append_chunk(HEADER + b"\x82" + good + record)
    facts = patient.diagnose()
    kept = check_of(facts, "records").message + check_of(facts, "chunks").message
    assert "canonical" in kept or "sig is not" in kept, name
    assert patient.data("ls")["total"] == 1


def test_fault_14_trailing_bytes(patient: Patient) -> None:
    """Bytes behind the last record are reported; the records before them count."""
    patient.append_chunk(encode_chunk([created()]) + b"\x00")
    assert check_of(patient.diagnose(), "chunks").status == "warn"
    assert patient.data("ls")["total"] == 1


def test_fault_15_bad_ids_and_signatures_in_any_order(patient: Patient) -> None:
    """An id that is not the hash is set aside; of copies the best one counts."""
    seed = b"\x07" * 32
    actor = signing.actor_id_of(signing.public_key(seed))
    first = event(
        kinds.ACTOR_ANNOUNCED,
        "",
        "",
        "",
        signing.public_key(seed),
        issue=IssueId(bytes(actor)),
        actor=actor,
    )
    note = event(kinds.COMMENT_ADDED, "text", actor=actor, parent=first.event_id, ts=NOW_MS + 1)
    good, forged = signing.sign(note, seed), signing.sign(note, b"\x08" * 32)
    patient.append(created(), signing.sign(first, seed), forged)
    patient.append(note)
    patient.append(good)
    patient.append(forged, good._replace(event_id=EventId(bytes(32))))
    found = patient.diagnose()
    assert check_of(found, "signatures").status == "ok"
    assert "not the hash" in check_of(found, "records").message
    (shown,) = patient.data("show", ISSUE.hex())["issue"]["comments"]
    assert shown["body"] == "text"


def test_fault_16_a_fork_keeps_both_events(patient: Patient) -> None:
    """Two events with one parent by one actor both count; doctor says that the actor forked."""
    first = created()
    twins = [event(kinds.COMMENT_ADDED, text, parent=first.event_id) for text in "ab"]
    patient.append(first, *twins)
    assert "forked" in check_of(patient.diagnose(), "chain").message
    assert len(patient.data("show", ISSUE.hex())["issue"]["comments"]) == 2


@pytest.mark.parametrize(
    ("ts", "valid"), [(0, True), (limits.TS_UNIX_MS_MAX, True), (2**53, False), (2**64 - 1, False)]
)
def test_fault_17_extreme_times(patient: Patient, ts: int, valid: bool) -> None:
    """Times beyond the bound are set aside; at the bound they count and are named."""
    odd = _with_time(event(kinds.COMMENT_ADDED, "odd"), ts)
    patient.append(created(), odd)
    found = patient.diagnose()
    assert (check_of(found, "records").status == "ok") is valid
    assert (check_of(found, "clock").status == "warn") is (ts == limits.TS_UNIX_MS_MAX)
    assert patient.data("show", ISSUE.hex())["issue"]["comment_count"] == int(valid)


def test_fault_17_a_later_edit_wins_over_the_future(patient: Patient) -> None:
    """An edit made after reading a time far ahead wins over it."""
    future = event(kinds.ISSUE_UPDATED, "From the future", None, ts=NOW_MS + 10**12)
    patient.append(created(), future)
    patient.data("issue", "update", ISSUE.hex(), "--title", "Now")
    assert patient.data("show", ISSUE.hex())["issue"]["title"] == "Now"


def _with_time(one: Event, ts: int) -> Event:
    """Seal an event again with a time that the program itself would refuse."""
    from hashlib import blake2b

    moved = one._replace(ts_unix_ms=ts)
    preimage = codec.pack((1, *moved[1:7]))
    return moved._replace(event_id=EventId(blake2b(preimage, digest_size=32).digest()))


def test_fault_18_unknown_kinds_are_kept_byte_for_byte(patient: Patient) -> None:
    """An event of a later version survives appends, rebuild and export, and is named."""
    strange = event(4711, "x", 1, b"\xff", (None, ("deep",)))
    patient.append(created(), strange)
    assert "kind 4711" in check_of(patient.diagnose(), "kinds").message
    patient.data("comment", ISSUE.hex(), "--body", "more")
    patient.data("rebuild")
    reader = refresh(patient.workspace())
    raw = {one.event_id: codec.encode_record(one) for one in reader.all_events()}
    assert raw[strange.event_id] == codec.encode_record(strange)
    done = patient.grit("export", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert codec.pack(strange.payload).hex() in done.stdout


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\0b", "CON", "n" * 300])
def test_fault_22_attachment_names_from_elsewhere_are_harmless(patient: Patient, name: str) -> None:
    """A name that climbs out or is no file name comes in as data and is shown; nothing breaks."""
    odd = event(kinds.ATTACHMENT_ADDED, name, b"\x05" * 32, "text/plain", ts=NOW_MS + 1)
    patient.append(created(), odd)
    assert not patient.diagnose().failed
    listed = patient.data("issue", "attachment", "list", ISSUE.hex())["attachments"]
    assert len(listed) == 1
    before = set(patient.folder.iterdir())
    assert patient.grit("issue", "attachment", "get", ISSUE.hex(), "x").returncode != 0
    assert set(patient.folder.iterdir()) == before


@pytest.mark.parametrize("title", ["", "x" * 10**5])
def test_fault_22_titles_out_of_bounds_are_refused_and_set_aside(
    patient: Patient, title: str
) -> None:
    """A title of 0 or too many characters is refused on the way in and set aside on the way out."""
    patient.refused("new", title)
    good = created()
    bad = good._replace(payload=(title, "", ()))
    patient.append(good, _with_time(bad, NOW_MS))
    assert "bad title" in check_of(patient.diagnose(), "records").message
    assert patient.data("ls")["total"] == 1


def test_fault_22_labels_without_number_are_set_aside(patient: Patient) -> None:
    """A creation with more labels than the bound is set aside."""
    many = tuple(sorted(str(number) for number in range(limits.LABELS_MAX + 1)))
    bad = _with_time(created()._replace(payload=("Title", "", many)), NOW_MS)
    patient.append(bad)
    assert "bad labels" in check_of(patient.diagnose(), "records").message
