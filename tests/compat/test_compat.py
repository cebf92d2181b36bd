"""Stored repositories of every dialect and era: read as ever, and written in their dialect."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from grit.core import codec
from tests.hostile.plumbing import Done, git, log_head, run

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
FIRST = "4f2a91c0" * 4
SECOND = "b7e3045d" * 4


class Era(NamedTuple):
    """A stored repository: its name, its ref, the magic that is written to it."""

    name: str
    ref: str
    magic: bytes


GRIT = Era("grit", "refs/grit/wal", b"GRITCHNK")
RUST = [
    Era("rust-grit-gritchnk", "refs/grit/wal", b"GRITCHNK"),
    Era("rust-grite-gritchnk", "refs/grite/wal", b"GRITCHNK"),
    Era("rust-grite-gritecnk", "refs/grite/wal", b"GRITECNK"),
]
ERAS = [GRIT, *RUST]
BUNDLE_SHA256 = {
    "grit": "d4a83ba72743fac3d0ccefe5931fbd5f5397fd7e1b5877d9a9bc53640eb740d5",
    "rust-grit-gritchnk": "d6a16b657495109b017f73b6dff9145cbc3b9ae8daa7cc47f4dcb48dbba81711",
    "rust-grite-gritchnk": "92829931c74ac32f957844efa2d468c8898b3566e57b8c1748b3724de68b2d15",
    "rust-grite-gritecnk": "36bb9fa1c1ca006e4a0dc9e49dc95e2a23cd074edf171dcc5a8d18efaea34f80",
}
"""A stored repository is never edited: what a version could read, every later one must."""

by_name = pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
rust = pytest.mark.parametrize("era", RUST, ids=lambda era: era.name)


def _expected(era: Era) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"{era.name}.json").read_text())
    return found


def _fetched(era: Era, tmp_path: Path) -> Path:
    """Return a fresh repository that has fetched the stored log with plain git."""
    folder = tmp_path / "repository"
    git(tmp_path, "init", "-q", str(folder))
    bundle = str(HERE / f"{era.name}.bundle")
    git(folder, "fetch", "-q", bundle, f"{era.ref}:{era.ref}")
    return folder


def _data(done: Done) -> Any:
    assert done.status == 0, done.err
    return json.loads(done.out)["data"]


def _covers(now: object, stored: object) -> bool:
    """Whether what is said now holds all that was said; later versions may add keys."""
    if isinstance(stored, dict):
        return isinstance(now, dict) and all(
            key in now and _covers(now[key], value) for key, value in stored.items()
        )
    if isinstance(stored, list):
        return isinstance(now, list) and len(now) == len(stored) and all(map(_covers, now, stored))
    return now == stored


@by_name
def test_stored_repositories_are_never_edited(era: Era) -> None:
    """The stored bytes are those that were stored first."""
    stored = (HERE / f"{era.name}.bundle").read_bytes()
    assert sha256(stored).hexdigest() == BUNDLE_SHA256[era.name]


def test_the_program_that_made_them_makes_the_same_commits() -> None:
    """tools/compat says, step by step, where every byte of the stored logs comes from."""
    ran = subprocess.run(
        [sys.executable, str(TOP / "tools" / "compat"), "--heads"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )
    assert ran.returncode == 0, ran.stderr
    heads = dict(line.split() for line in ran.stdout.splitlines())
    assert heads == {era.name: _expected(era)["head"] for era in ERAS}


@by_name
@pytest.mark.parametrize("packed", [False, True], ids=["fetched", "packed"])
def test_every_era_is_read(era: Era, packed: bool, tmp_path: Path) -> None:
    """List, show and export say what they said when the log was stored; the log is untouched."""
    folder, stored = _fetched(era, tmp_path), _expected(era)
    if packed:
        git(folder, "gc", "-q")
    assert _covers(_data(run(folder, "ls", "--state", "all", "--json")), stored["list"])
    for issue, shown in zip((FIRST, SECOND), stored["shown"], strict=True):
        assert _covers(_data(run(folder, "show", issue, "--events", "--json")), shown)
    export = json.loads(run(folder, "export").out)
    assert _covers(export["issues"], stored["issues"])
    assert _covers(export["events"], stored["events"])
    assert log_head(folder) == stored["head"]


@by_name
def test_what_was_stored_means_what_it_should(era: Era) -> None:
    """The expectations are not only what grit said: these facts follow from the events."""
    stored = _expected(era)
    first, second = (shown["issue"] for shown in stored["shown"])
    assert (first["title"], first["state"]) == ("Race in the append of the log", "closed")
    assert first["body"] == "Two writers.\n\nOne wins: ü, 世界, 🦀"
    assert (first["labels"], first["assignees"]) == (["bug", "urgent"], ["ann"])
    assert [one["note"] for one in first["links"]] == ["the trace", None]
    assert [one["issue_id"] for one in first["dependencies"]] == [SECOND]
    assert (second["title"], second["state"], second["dependencies"]) == (
        "Write it down",
        "open",
        [],
    )
    own = era is GRIT
    assert len(stored["events"]) == (28 if own else 19)
    assert first["fields"] == ({"priority": "1"} if own else {})
    bodies = [one["body"] for one in first["comments"]]
    assert bodies == (
        ["Seen three times", ""] if own else ["Seen twice today", "Fixed by the lock"]
    )
    marks = {event["signature"] for event in stored["shown"][0]["events"]}
    assert marks == ({"none", "valid"} if own else {"none"})


@by_name
def test_deleting_the_view_changes_nothing(era: Era, tmp_path: Path) -> None:
    """A rebuild of a stored log gives the same answers."""
    folder = _fetched(era, tmp_path)
    before = run(folder, "show", FIRST, "--events", "--json")
    assert run(folder, "rebuild").status == 0
    assert run(folder, "show", FIRST, "--events", "--json") == before


def _appended(folder: Path, era: Era) -> tuple[dict[str, bytes], bytes]:
    """Comment once; return the files of the new commit by path, and the raw commit."""
    done = run(folder, "comment", SECOND, "--body", "written by grit", "--json")
    head = log_head(folder)
    assert _data(done)["wal_head"] == head
    paths = git(folder, "ls-tree", "-r", "--name-only", head).splitlines()
    files = {}
    for path in paths:
        command = ["git", "-C", str(folder), "cat-file", "blob", f"{head}:{path}"]
        files[path] = subprocess.run(command, check=True, capture_output=True).stdout
    raw = subprocess.run(
        ["git", "-C", str(folder), "cat-file", "commit", head], check=True, capture_output=True
    ).stdout
    assert git(folder, "rev-parse", era.ref) == head
    assert f"parent {_expected(era)['head']}\n".encode() in raw
    git(folder, "fsck", "--strict")
    return files, raw


@rust
def test_what_is_written_obeys_the_dialect_byte_for_byte(era: Era, tmp_path: Path) -> None:
    """meta.json, path, identity, message and magic are those of the Rust tools."""
    folder = _fetched(era, tmp_path)
    files, raw = _appended(folder, era)
    (path,) = (path for path in files if path != "meta.json")
    data = files[path]
    name = blake2b(data, digest_size=32).hexdigest()
    records, problems = codec.decode_chunk(data)
    assert (data[:8], problems, len(records)) == (era.magic, [], 1)
    event = records[0][0]
    assert (event.tag, event.payload) == (3, ("written by grit",))
    day = datetime.fromtimestamp(event.ts_unix_ms / 1000, UTC)
    assert path == f"events/{day:%Y/%m/%d}/{name}.bin"
    assert set(files) == {path, "meta.json"}
    assert files["meta.json"].decode() == (
        "{\n"
        '  "schema_version": 1,\n'
        f'  "actor_id": "{event.actor_id.hex()}",\n'
        f'  "chunk_hash": "{name}",\n'
        f'  "prev_wal": "{_expected(era)["head"]}"\n'
        "}"
    )
    head, _, message = raw.decode().partition("\n\n")
    assert message == f"WAL: 1 events from {event.actor_id.hex()[:8]}"
    by = f"grite <grit@local> {event.ts_unix_ms // 1000} +0000"
    assert head.splitlines()[2:] == [f"author {by}", f"committer {by}"]


@rust
def test_a_reader_that_follows_prev_wal_sees_everything(era: Era, tmp_path: Path) -> None:
    """Walking meta.prev_wal from the head, as the Rust tools do, meets every chunk, old and new."""
    folder = _fetched(era, tmp_path)
    _appended(folder, era)
    _appended_again = run(folder, "close", SECOND, "--comment", "done")
    assert _appended_again.status == 0
    at: str | None = log_head(folder)
    seen: list[bytes] = []
    while at is not None:
        meta = json.loads(git(folder, "cat-file", "blob", f"{at}:meta.json"))
        for path in git(folder, "ls-tree", "-r", "--name-only", at).splitlines():
            if path.endswith(".bin"):
                command = ["git", "-C", str(folder), "cat-file", "blob", f"{at}:{path}"]
                data = subprocess.run(command, check=True, capture_output=True).stdout
                assert blake2b(data, digest_size=32).hexdigest() == meta["chunk_hash"]
                seen += [raw for _, raw in codec.decode_chunk(data).records]
        at = meta["prev_wal"]
    assert len(seen) == 19 + 3
    tags = {codec.decode_record(raw).tag for raw in seen}
    assert tags <= set(range(1, 15)), "another reader rejects a chunk for one unknown kind"


NEEDS_OWN_KINDS = {
    "field": ("issue", "update", SECOND, "--field", "priority=1"),
    "delete": ("issue", "delete", SECOND),
    "edit": ("issue", "comment-edit", FIRST, "1", "--body", "other"),
    "redact": ("issue", "comment-redact", FIRST, "1"),
    "create with a field": ("new", "--title", "T", "--priority", "1"),
}


@rust
@pytest.mark.parametrize("name", NEEDS_OWN_KINDS)
def test_kinds_from_100_are_refused_with_the_reason(era: Era, name: str, tmp_path: Path) -> None:
    """In a shared log a command that needs a kind of grit's own is refused, and nothing moves."""
    folder = _fetched(era, tmp_path)
    done = run(folder, *NEEDS_OWN_KINDS[name])
    assert done.status == 2
    assert "shared" in done.err
    assert log_head(folder) == _expected(era)["head"]


def test_grit_writes_its_own_dialect(tmp_path: Path) -> None:
    """In grit's own log the tree holds chunks alone, and the message is a line for people."""
    folder = _fetched(GRIT, tmp_path)
    files, raw = _appended(folder, GRIT)
    ((path, data),) = files.items()
    assert path == f"{blake2b(data, digest_size=32).hexdigest()}.bin"
    assert data.startswith(b"GRITCHNK\x01\x00\x07cbor-v1")
    assert b"author Ann Example <ann@example.org>" in raw
    assert raw.partition(b"\n\n")[2].startswith(b"comment b7e3045 Write it down\n")


def test_attachments_of_the_stored_log_are_found(tmp_path: Path) -> None:
    """The content of a stored attachment comes out of the log as it went in."""
    folder = _fetched(GRIT, tmp_path)
    done = run(folder, "issue", "attachment", "get", FIRST, "trace.log", "-o", "-")
    assert done.out == "an attached log\n"


@by_name
def test_every_era_can_be_taken_into_a_new_log(era: Era, tmp_path: Path) -> None:
    """Export of any era, imported into an empty repository, gives the same issues."""
    folder = _fetched(era, tmp_path)
    export = run(folder, "export").out
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", str(other))
    assert run(other, "import", "json", "-", stdin=export.encode()).status == 0
    assert json.loads(run(other, "export").out)["issues"] == json.loads(export)["issues"]
