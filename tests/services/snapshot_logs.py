"""A log with everything in it, its state in one value, honest snapshots and false ones."""

import json
from collections.abc import Sequence
from typing import Any

from grit.core import events as kinds
from grit.core import signing
from grit.core.codec import chunk_hash, event_set, join_records
from grit.core.events import Event
from grit.core.ids import IssueId
from grit.git.snapshots import Snapshot, SnapshotWriter
from grit.services import refresh, snapshots
from grit.services.export import Asked, export
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader
from tests.core.builders import NOW_MS, OTHER, created, event
from tests.services.clinic import Patient

SEED = b"\x07" * 32
KEYED = signing.actor_id_of(signing.public_key(SEED))
DAY_MS = 24 * 60 * 60 * 1000


def signed(tag: int, *payload: object, ts: int = NOW_MS, **more: Any) -> Event:
    return signing.sign(event(tag, *payload, ts=ts, actor=KEYED, **more), SEED)


def fill(patient: Patient) -> None:
    """Write a log with everything in it: kinds of others, copies, and what is set aside."""
    key = signing.public_key(SEED)
    patient.append(
        signed(kinds.ACTOR_ANNOUNCED, "ann", "Ann", "a@b.c", key, issue=IssueId(bytes(KEYED))),
        actor=KEYED,
    )
    patient.append(created("First", labels=("bug",)))
    comment = signed(kinds.COMMENT_ADDED, "signed", ts=NOW_MS + 1)
    patient.append(comment._replace(sig=bytes(64)))
    patient.append(comment)
    patient.append(comment._replace(sig=None))
    patient.append(event(kinds.COMMENT_ADDED, "orphan", issue=OTHER))
    patient.append(event(999, "of tomorrow", ts=NOW_MS + 2))
    broken = event(kinds.COMMENT_ADDED, "broken", ts=NOW_MS + 3)
    patient.append(
        event(kinds.COMMENT_ADDED, "good neighbour", ts=NOW_MS + 4),
        broken._replace(event_id=created("other").event_id),
    )
    patient.append_chunk(b"GRITCHNK, and no chunk at all")
    for number in range(5):
        patient.append(event(kinds.COMMENT_ADDED, f"number {number}", ts=NOW_MS + 10 + number))


def state(workspace: Workspace, reader: ViewReader) -> tuple[object, ...]:
    """Return everything that a user can learn from a view, in one comparable value."""
    text = "".join(export(workspace, Asked("json")))
    document = json.loads(text)
    document["meta"].pop("generated_ts")
    return (
        document,
        reader.stats()._replace(stale_count=0),
        list(reader.all_rows()),
        list(reader.all_events()),
        reader.asides(),
        reader.actors(),
    )


def full(patient: Patient) -> tuple[object, ...]:
    """Return the state that a replay of the whole log gives."""
    workspace = patient.workspace()
    found = state(workspace, refresh.rebuild(workspace))
    workspace.close()
    return found


def rebuilt(patient: Patient) -> tuple[tuple[object, ...], str | None]:
    """Return the state that a rebuild from a snapshot gives, and which was used."""
    workspace = patient.workspace()
    reader, used = refresh.rebuild_from_snapshot(workspace)
    found = state(workspace, reader)
    workspace.close()
    return found, used


def make(patient: Patient, now_ms: int | None = None) -> Snapshot:
    workspace = patient.workspace(now_ms)
    try:
        return snapshots.create(workspace)
    finally:
        workspace.close()


def statuses(patient: Patient, now_ms: int | None = None) -> dict[str, str]:
    workspace = patient.workspace(now_ms)
    try:
        return {
            ref: one.status for one in snapshots.listing(workspace) for ref in one.snapshot.refs
        }
    finally:
        workspace.close()


def forge(
    patient: Patient,
    records: Sequence[bytes],
    *,
    head: str | None = None,
    asides: Sequence[str] = (),
    at_ms: int = NOW_MS,
    ids: Sequence[bytes] | None = None,
    claimed_hash: bytes | None = None,
) -> Snapshot:
    """Publish a snapshot that holds these records, whatever the log says."""
    workspace = patient.workspace()
    writer = SnapshotWriter(workspace.repository, workspace.wal.config)
    chunk = join_records(records)
    writer.add(chunk, claimed_hash or chunk_hash(chunk), len(records))
    head = head or workspace.wal.head()
    assert head is not None
    claimed = event_set([record[3:35] for record in records] if ids is None else ids)
    made = writer.publish(writer.finish(at_ms, head, claimed, asides))
    workspace.close()
    return made


def contents(patient: Patient) -> tuple[list[bytes], list[str]]:
    """Return what an honest snapshot holds: records, and blobs with something set aside."""
    workspace = patient.workspace()
    with refresh.refresh(workspace).frozen() as view:
        found = list(view.events), sorted(view.asides)
    workspace.close()
    return found


def forget(patient: Patient) -> None:
    """Be a clone that knows nothing about any snapshot."""
    (patient.git_dir / "grit/snapshots.toml").unlink(missing_ok=True)
