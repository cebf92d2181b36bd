"""The dialects: what older repositories look like is detected, read, and written the same way."""

import json
from hashlib import blake2b

import pytest

from grit.core.codec import encode_chunk, seal
from grit.core.errors import InvalidArgs
from grit.core.events import Draft
from grit.git.dialects import GRIT
from grit.git.wal import Wal

ERAS = [
    ("refs/grit/wal", b"GRITCHNK"),
    ("refs/grite/wal", b"GRITCHNK"),
    ("refs/grite/wal", b"GRITECNK"),
]
ACTOR = "0123456789abcdef0123456789abcdef"


def _old_commit(chunk, previous):
    meta = {
        "schema_version": 1,
        "actor_id": ACTOR,
        "chunk_hash": blake2b(chunk, digest_size=32).hexdigest(),
        "prev_wal": previous,
    }
    return {
        "meta.json": json.dumps(meta, indent=2).encode(),
        f"events/2024/02/29/{meta['chunk_hash']}.bin": chunk,
    }


def test_a_new_log_speaks_grit(log):
    """Without any log the dialect is grit, and all kinds may be written."""
    assert log.wal.dialect == GRIT
    assert not log.wal.dialect.shared
    log.append()
    assert Wal(log.wal.repository).dialect == GRIT


@pytest.mark.parametrize(("ref", "magic"), ERAS)
@pytest.mark.parametrize("packed", [False, True])
def test_eras_are_detected_read_and_written(log, git, write_commit, ref, magic, packed):
    """Each era is read as it is; what is written has its ref, its magic and its layout."""
    old_magic = b"GRITCHNK"
    first, second, third = log.chunk(old_magic), log.chunk(magic), log.chunk(magic)
    one = write_commit(log.folder, ref, _old_commit(first, None))
    two = write_commit(log.folder, ref, _old_commit(second, one), [one])
    if packed:
        git(log.folder, "gc", "-q")
    log.wal = Wal(log.wal.repository)
    dialect = log.wal.dialect
    assert (dialect.name, dialect.ref, dialect.magic, dialect.shared) == ("grite", ref, magic, True)
    done = log.append(third, ts_unix_ms=1_709_251_199_000)
    assert git(log.folder, "rev-parse", ref) == done.head
    name = blake2b(third, digest_size=32).hexdigest()
    files = git(log.folder, "ls-tree", "-r", "--name-only", done.head).splitlines()
    assert files == [f"events/2024/02/29/{name}.bin", "meta.json"]
    assert git(log.folder, "cat-file", "blob", f"{done.head}:meta.json") == (
        '{\n  "schema_version": 1,\n  "actor_id": "000102030405060708090a0b0c0d0e0f",\n'
        f'  "chunk_hash": "{name}",\n  "prev_wal": "{two}"\n}}'
    )
    raw = git(log.folder, "cat-file", "commit", done.head)
    assert raw.endswith("\n\nWAL: 1 events from 00010203")
    assert "author grite <grit@local> 1709251199 +0000\n" in raw
    assert log.read() == [first, second, third]
    git(log.folder, "fsck", "--strict")


def test_grite_writes_one_chunk_a_commit_and_moves_once(log, git, write_commit):
    """Several chunks become several commits, each naming the one before, and one ref move."""
    one = write_commit(log.folder, "refs/grite/wal", _old_commit(log.chunk(b"GRITECNK"), None))
    log.wal = Wal(log.wal.repository)
    head = log.append(log.chunk(b"GRITECNK"), log.chunk(b"GRITECNK")).head
    shown = git(log.folder, "rev-list", head).splitlines()
    assert len(shown) == 3
    assert shown[-1] == one
    for child, parent in zip(shown, shown[1:], strict=False):
        meta = json.loads(git(log.folder, "cat-file", "blob", f"{child}:meta.json"))
        assert meta["prev_wal"] == parent


def test_the_wrong_magic_is_refused(log):
    """A chunk of another era never gets into the log."""
    with pytest.raises(InvalidArgs, match="GRITCHNK"):
        log.append(log.chunk(b"GRITECNK"))
    assert log.wal.head() is None


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 70_000])
def test_event_counts_in_grite_messages(log, git, write_commit, count):
    """The message counts the events of its chunk, whatever the width of the CBOR head."""
    head = _array_head(count)
    chunk = b"GRITECNK\x01\x00\x07cbor-v1" + head + bytes(8)
    write_commit(log.folder, "refs/grite/wal", _old_commit(log.chunk(b"GRITECNK"), None))
    log.wal = Wal(log.wal.repository)
    log.append(chunk)
    subject = git(log.folder, "log", "-1", "--format=%s", log.wal.ref)
    assert subject == f"WAL: {count} events from 00010203"


def _array_head(count):
    if count < 24:
        return bytes([0x80 + count])
    if count < 256:
        return bytes([0x98, count])
    if count < 65_536:
        return b"\x99" + count.to_bytes(2, "big")
    return b"\x9a" + count.to_bytes(4, "big")


def test_grite_files_chunks_under_the_day_of_their_first_event(log, git, write_commit):
    """The folder is the UTC day of the first event, whatever the time of the append."""
    events = [
        seal(Draft(bytes(16), 3, (text,)), bytes(16), ts_unix_ms, None)
        for text, ts_unix_ms in (("a", 951_782_399_999), ("b", 1_700_000_000_000))
    ]
    write_commit(log.folder, "refs/grite/wal", _old_commit(log.chunk(b"GRITECNK"), None))
    log.wal = Wal(log.wal.repository)
    head = log.append(encode_chunk(events, b"GRITECNK")).head
    names = git(log.folder, "ls-tree", "-r", "--name-only", head).splitlines()
    assert names[0].startswith("events/2000/02/28/")
    assert git(log.folder, "log", "-1", "--format=%s", head) == "WAL: 2 events from 00010203"


def test_a_log_of_grit_is_not_hidden_by_one_beside_it(log, write_commit):
    """In a mirror, whoever pushes refs/grite/wal does not take the place of refs/grit/wal."""
    head = log.append().head
    write_commit(log.folder, "refs/grite/wal", _old_commit(log.chunk(b"GRITECNK"), None))
    wal = Wal(log.wal.repository)
    assert (wal.ref, wal.hidden_ref, wal.head()) == ("refs/grit/wal", "refs/grite/wal", head)
    # Nor does a commit of the other kind on top of it, which anybody who can push may add.
    write_commit(log.folder, log.wal.ref, _old_commit(log.chunk(), None), [head])
    assert Wal(log.wal.repository).ref == "refs/grit/wal"


def test_what_tools_of_era_1_left_does_not_hide_era_2(log, write_commit):
    """Where both refs are of dialect "grite", the younger one is the log."""
    write_commit(log.folder, "refs/grit/wal", _old_commit(log.chunk(), None))
    new = write_commit(log.folder, "refs/grite/wal", _old_commit(log.chunk(b"GRITECNK"), None))
    wal = Wal(log.wal.repository)
    assert (wal.ref, wal.hidden_ref, wal.head()) == ("refs/grite/wal", "refs/grit/wal", new)
