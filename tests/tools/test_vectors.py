"""The vectors in spec/vectors: as generated, as the codec and other implementations compute."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grit.core import codec, signing
from grit.core.events import KINDS, SHARED_TAG_MAX, Draft, Event, Value
from grit.core.ids import ActorId, EventId, IssueId

TOP = Path(__file__).resolve().parents[2]
VECTORS = TOP / "spec" / "vectors"
FOREIGN = TOP.parent / "shared" / "vectors" / "format-v1.json"

Row = dict[str, Any]


def _rows(name: str) -> list[Row]:
    rows: list[Row] = json.loads((VECTORS / name).read_text())
    return rows


def _value(plain: Any) -> Value:
    if isinstance(plain, list):
        return tuple(map(_value, plain))
    return bytes.fromhex(plain["$hex"]) if isinstance(plain, dict) else plain


def _sealed(row: Row) -> Event:
    payload = _value(row["payload"])
    assert isinstance(payload, tuple)
    draft = Draft(IssueId(bytes.fromhex(row["issue_id"])), row["kind_tag"], payload)
    parent = EventId(bytes.fromhex(row["parent"])) if row["parent"] else None
    return codec.seal(draft, ActorId(bytes.fromhex(row["actor"])), row["ts_unix_ms"], parent)


def _bytes(row: Row) -> bytes:
    if "bytes" in row:
        return bytes.fromhex(row["bytes"])
    head, byte, count = row["repeat"]
    return bytes.fromhex(head) + bytes.fromhex(byte) * int(count)


def test_files_are_as_generated() -> None:
    """What tools/vectors computes today is what the specification says, byte for byte."""
    command = [sys.executable, str(TOP / "tools" / "vectors"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("row", _rows("events.json"), ids=lambda row: str(row["kind"]))
def test_event_ids(row: Row) -> None:
    """An event's id and record are those of the vector, and the record decodes to the event."""
    event = _sealed(row)
    assert event.event_id.hex() == row["event_id"]
    assert codec.encode_record(event).hex() == row["record"]
    assert codec.decode_record(bytes.fromhex(row["record"])) == event
    chunk = codec.decode_chunk(codec.encode_chunk([event]))
    assert chunk == ([(event, bytes.fromhex(row["record"]))], [])


def test_every_kind_has_a_vector() -> None:
    """No kind is specified without a vector, and one unknown kind is among them."""
    tags = {row["kind_tag"] for row in _rows("events.json")}
    assert tags > set(KINDS)
    assert max(tags) not in KINDS


@pytest.mark.parametrize(
    "row", _rows("chunks.json"), ids=lambda row: f"{len(row['events'])}-{row['magic']}"
)
def test_chunks(row: Row) -> None:
    """A chunk's bytes and hash are those of the vector; reading gives its events in order."""
    data = bytes.fromhex(row["bytes"])
    assert codec.chunk_hash(data).hex() == row["chunk_hash"]
    records, problems = codec.decode_chunk(data)
    assert [event.event_id.hex() for event, _ in records] == row["events"]
    assert problems == []
    events = [event for event, _ in records]
    assert codec.encode_chunk(events, row["magic"].encode()) == data


@pytest.mark.parametrize("row", _rows("signatures.json"), ids=lambda row: str(row["name"]))
def test_signatures(row: Row) -> None:
    """A signature is judged as the vector says; a valid one is what the seed signs again."""
    event = Event(
        EventId(bytes.fromhex(row["event_id"])),
        IssueId(bytes(16)),
        ActorId(bytes.fromhex(row["actor"])),
        0,
        None,
        3,
        ("",),
        bytes.fromhex(row["signature"]) if row["signature"] else None,
    )
    key = bytes.fromhex(row["public_key"]) if row["public_key"] else None
    assert signing.signature_status(event, key) == row["status"]
    if row["status"] == "valid":
        assert signing.sign(event, bytes.fromhex(row["seed"])) == event


@pytest.mark.parametrize("row", _rows("hostile.json"), ids=lambda row: str(row["name"]))
def test_fault_14_hostile_chunk_is_set_aside(row: Row) -> None:
    """What breaks a rule is reported with a reason; the good event beside it is kept."""
    started = time.process_time()
    records, problems = codec.decode_chunk(_bytes(row))
    assert time.process_time() - started < 0.5
    assert [event.event_id.hex() for event, _ in records] == row["kept"]
    assert problems
    assert all(problem.reason.isprintable() for problem in problems)


def test_other_implementations_agree() -> None:
    """Ids and chunks are those that the other implementations of this format compute."""
    if not FOREIGN.exists():
        pytest.skip("the vectors of other implementations are not beside this checkout")
    foreign = json.loads(FOREIGN.read_text())
    ids = {}
    for row in foreign["vectors"]:
        event = _sealed(row)
        assert (row["kind"], event.event_id.hex()) == (row["kind"], row["event_id"])
        ids[row["event_id"]] = event
    assert {event.tag for event in ids.values()} == set(range(1, SHARED_TAG_MAX + 1))
    for row in foreign["chunks"]:
        events = [ids[event_id] for event_id in row["events"]]
        data = codec.encode_chunk(events, row["magic"].encode())
        assert data.hex() == row["bytes"]
        assert codec.chunk_hash(data).hex() == row["chunk_hash"]
