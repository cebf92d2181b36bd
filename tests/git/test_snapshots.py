"""Snapshots in git: names, manifests of any quality, and reading a log beside known chunks."""

import json
from pathlib import Path
from typing import Any

import pytest

from grit.core import limits
from grit.git.snapshots import (
    SNAPSHOTS,
    SnapshotWriter,
    list_snapshots,
    name_ts,
    one_event_oid,
    read_parts,
)
from tests.git.conftest import Git, Log

HEAD = "1" * 40
GOOD: dict[str, Any] = {
    "schema_version": 1,
    "created_ts": 5,
    "wal_head": HEAD,
    "event_count": 2,
    "event_set": "0" * 64,
    "chunks": [{"path": "events/0000.bin", "chunk_hash": "0" * 64, "event_count": 2}],
    "asides": [],
    "later": {"any": "thing"},
}


def write(git: Git, folder: Path, manifest: bytes, ref: str = f"{SNAPSHOTS}7") -> str:
    """Let a ref name a commit whose snapshot.json holds these bytes."""
    blob = git(folder, "hash-object", "-w", "--stdin", stdin=manifest)
    tree = git(folder, "mktree", stdin=f"100644 blob {blob}\tsnapshot.json\n".encode())
    commit = git(folder, "commit-tree", tree, "-m", "snapshot")
    git(folder, "update-ref", ref, commit)
    return commit


def test_unknown_keys_are_ignored(log: Log, git: Git) -> None:
    """A manifest of a later minor version is understood."""
    commit = write(git, log.folder, json.dumps(GOOD).encode())
    [found] = list_snapshots(log.wal.repository)
    assert (found.commit, found.refs, found.name_ts) == (commit, (f"{SNAPSHOTS}7",), 7)
    assert found.manifest is not None
    assert (found.manifest.wal_head, found.manifest.event_count) == (HEAD, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"wal_head": "refs/heads/main"},
        {"wal_head": None},
        {"event_count": 3},
        {"event_count": -1},
        {"event_count": True},
        {"event_set": "xyz"},
        {"chunks": [{"path": "../../HEAD", "chunk_hash": "0" * 64, "event_count": 2}]},
        {"chunks": [{"path": "events/0000.bin\nHEAD", "chunk_hash": "0" * 64, "event_count": 2}]},
        {"chunks": "abc"},
        {"chunks": [1]},
        {"asides": ["HEAD"]},
        {"asides": 5},
        {"created_ts": "now"},
    ],
    ids=str,
)
def test_a_manifest_of_the_wrong_form_is_not_understood(
    change: dict[str, Any], log: Log, git: Git
) -> None:
    """Nothing that a manifest states reaches git before its form was checked."""
    write(git, log.folder, json.dumps({**GOOD, **change}).encode())
    [found] = list_snapshots(log.wal.repository)
    assert found.manifest is None


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b"[" * 100_000, b"1" * 5000, b'"x"', b"null"]
)
def test_garbage_in_place_of_a_manifest_is_not_understood(data: bytes, log: Log, git: Git) -> None:
    """Whatever the bytes, there is no traceback and no manifest."""
    write(git, log.folder, data)
    assert [one.manifest for one in list_snapshots(log.wal.repository)] == [None]


def test_a_manifest_that_is_too_large_is_not_read(
    log: Log, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is asked for first."""
    monkeypatch.setattr(limits, "SNAPSHOT_JSON_BYTES_MAX", 100)
    write(git, log.folder, json.dumps(GOOD).encode())
    assert [one.manifest for one in list_snapshots(log.wal.repository)] == [None]


def test_the_trusted_come_first_and_then_the_newest_few(
    log: Log, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of names cost no more than a few, and hide nothing that was verified."""
    monkeypatch.setattr(limits, "SNAPSHOTS_READ_MAX", 3)
    trusted = write(git, log.folder, json.dumps(GOOD).encode(), f"{SNAPSHOTS}1")
    for number in range(10, 20):
        write(git, log.folder, b"junk %d" % number, f"{SNAPSHOTS}{number}")
    found = list_snapshots(log.wal.repository, 17, [trusted])
    assert [one.name_ts for one in found] == [1, 17, 16, 15]
    assert len(list_snapshots(log.wal.repository)) == 11


def test_names_are_numbers_below_one_folder() -> None:
    """Only a plain number is a time; anything else is a name that nobody gave."""
    assert name_ts("refs/grit/snapshots/12") == 12
    assert name_ts("refs/grit-remotes/a/b/snapshots/12") == 12
    for ref in ("refs/grit/snapshots/x", "refs/grit/snapshots/1/2", "refs/grit/wal", "12"):
        assert name_ts(ref) == 0
    assert name_ts(f"refs/grit/snapshots/{'9' * 16}") == 0


def test_what_is_written_is_read_back(log: Log, git: Git) -> None:
    """Chunks and manifest come back as they were given, packed or not."""
    writer = SnapshotWriter(log.wal.repository, log.wal.config)
    chunks = [log.chunk() for _ in range(3)]
    for number, chunk in enumerate(chunks):
        writer.add(chunk, bytes([number]) * 32, number + 1)
    made = writer.publish(writer.finish(1_000, HEAD, bytes(32), ["2" * 40]))
    for _ in range(2):
        assert list_snapshots(log.wal.repository) == [made]
        assert [blob.data for _, blob in read_parts(log.wal.repository, made)] == chunks
        git(log.folder, "gc", "-q")
    assert git(log.folder, "rev-list", "--parents", made.refs[0]) == made.commit
    git(log.folder, "fsck", "--strict")


@pytest.mark.parametrize("shape", ["loose", "packed", "damaged"])
def test_known_chunks_are_listed_and_not_read(shape: str, log: Log, git: Git) -> None:
    """Whatever way the log is read, what is known comes as a mark and not as a blob."""
    chunks = [log.chunk() for _ in range(6)]
    heads = [log.append(chunk).head for chunk in chunks]
    oids = [one_event_oid(log.wal.repository, chunk) for chunk in chunks]
    if shape == "packed":
        git(log.folder, "gc", "-q")
    elif shape == "damaged":
        git(log.folder, "gc", "-q")
        log.append(chunk := log.chunk())
        oid = one_event_oid(log.wal.repository, chunk).decode()
        path = log.folder / ".git/objects" / oid[:2] / oid[2:]
        path.chmod(0o644)
        path.write_bytes(b"damage")
    known = {**dict.fromkeys(oids[1:4], False), b"0" * 40: False}
    head = log.wal.head()
    assert head is not None
    blobs = list(log.wal.read(head, None, known))
    assert {blob.data for blob in blobs if blob.data} == {chunks[0], *chunks[4:]}
    assert shape == "damaged" or len(blobs) == 3
    assert known == {**dict.fromkeys(oids[1:4], True), b"0" * 40: False}
    part = {**dict.fromkeys(oids, False)}
    assert not [blob for blob in log.wal.read(heads[2], heads[1], part) if blob.data]
    assert [oid for oid, listed in part.items() if listed] == [oids[2]]


def test_a_known_chunk_that_is_named_twice_is_known(log: Log, git: Git) -> None:
    """A chunk hidden behind an attachment of the same bytes is marked all the same."""
    from hashlib import sha256

    chunk = log.chunk()
    log.append(log.chunk(), attachments={sha256(chunk).hexdigest(): chunk})
    head = log.append(chunk).head
    git(log.folder, "gc", "-q")
    known = {one_event_oid(log.wal.repository, chunk): False}
    assert chunk not in [blob.data for blob in log.wal.read(head, None, known)]
    assert list(known.values()) == [True]
