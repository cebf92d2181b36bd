"""A reader of both dialects that knows the format alone: git's plumbing, CBOR, nothing of grit."""

import json
import re
import subprocess
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import cbor2

_KEYS = ["schema_version", "actor_id", "chunk_hash", "prev_wal"]
_HEADER = re.compile(rb"(GRITCHNK|GRITECNK)\x01\x00\x07cbor-v1")
SHARED_TAG_MAX = 14
Record = list[Any]


class Commit(NamedTuple):
    """A commit and what its tree holds."""

    oid: str
    parents: list[str]
    files: dict[str, str]
    """Blobs by path."""

    @property
    def is_grite(self) -> bool:
        return "meta.json" in self.files


def plumb(folder: Path, *words: str, stdin: str = "") -> bytes:
    """Run a git command that must succeed."""
    done = subprocess.run(
        ["git", "-C", str(folder), *words], input=stdin.encode(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout


_LISTED: dict[str, Commit] = {}
_SOUND: set[str] = set()
"""What was looked at before: a commit never changes."""


def log_refs(folder: Path) -> dict[str, str]:
    """Return the refs of logs, whatever place they have, and their commits."""
    form = "--format=%(objecttype) %(objectname) %(refname)"
    rows = (line.split() for line in plumb(folder, "for-each-ref", form).decode().splitlines())
    return {
        ref: oid for kind, oid, ref in rows
        if kind == "commit" and ref.startswith("refs/grit") and "/locks/" not in ref
    }  # fmt: skip


def commits(folder: Path, *refs: str) -> dict[str, Commit]:
    """Return every commit that is reachable from these refs."""
    found: dict[str, Commit] = {}
    listed = plumb(folder, "rev-list", "--parents", *refs).decode() if refs else ""
    for line in listed.splitlines():
        oid, *parents = line.split()
        if oid not in _LISTED:
            tree = plumb(folder, "ls-tree", "-r", "-z", oid).decode()
            rows = (row.split("\t", 1) for row in tree.split("\0") if row)
            _LISTED[oid] = Commit(oid, parents, {path: what.split()[2] for what, path in rows})
        found[oid] = _LISTED[oid]
    return found


def never_joined(known: dict[str, Commit]) -> None:
    """Fail where a commit with meta.json has a parent without one, or the other way round."""
    for commit in known.values():
        for parent in commit.parents:
            assert known[parent].is_grite == commit.is_grite, (commit, known[parent])


def records(data: bytes) -> list[Record]:
    """Return the records of a chunk; each id is computed again."""
    assert _HEADER.match(data), data[:20]
    found: list[Record] = cbor2.loads(data[18:])
    for one in found:
        assert blake2b(cbor2.dumps([1, *one[1:7]]), digest_size=32).digest() == one[0]
    return found


def by_id(rows: list[Record]) -> dict[bytes, Record]:
    """Return records by their ids."""
    return {one[0]: one for one in rows}


def blob(folder: Path, oid: str) -> bytes:
    return plumb(folder, "cat-file", "blob", oid)


def check_metas(folder: Path, known: Iterable[Commit]) -> None:
    """Fail unless every commit of a grite log is one that the other tools can read."""
    for commit in known:
        if commit.oid in _SOUND:
            continue
        raw = blob(folder, commit.files["meta.json"]).decode()
        meta = json.loads(raw)
        assert list(meta) == _KEYS and raw == json.dumps(meta, indent=2)
        assert meta["schema_version"] == 1
        assert re.fullmatch("[0-9a-f]{32}", meta["actor_id"])
        assert meta["prev_wal"] == (commit.parents[0] if commit.parents else None)
        chunks = {path: oid for path, oid in commit.files.items() if path.endswith(".bin")}
        assert any(path.endswith(f"/{meta['chunk_hash']}.bin") for path in chunks)
        for path, oid in chunks.items():
            data = blob(folder, oid)
            name = blake2b(data, digest_size=32).hexdigest()
            assert re.fullmatch(rf"events/\d\d\d\d/\d\d/\d\d/{name}\.bin", path)
            assert {one[5] for one in records(data)} <= set(range(1, SHARED_TAG_MAX + 1))
        _SOUND.add(commit.oid)


def followed(folder: Path, head: str) -> dict[bytes, Record]:
    """Return the records, by id, that a tool finds which follows prev_wal and nothing else."""
    known = commits(folder, head)
    found: dict[bytes, Record] = {}
    at: str | None = head
    while at is not None:
        files = known[at].files
        for path, oid in files.items():
            if path.endswith(".bin"):
                found.update(by_id(records(blob(folder, oid))))
        at = json.loads(blob(folder, files["meta.json"]))["prev_wal"]
    return found


def held(folder: Path, head: str) -> dict[bytes, Record]:
    """Return the records, by id, in all commits that are reachable."""
    found: dict[bytes, Record] = {}
    seen: set[str] = set()
    for commit in commits(folder, head).values():
        for path, oid in commit.files.items():
            if path.endswith(".bin") and oid not in seen:
                seen.add(oid)
                found.update(by_id(records(blob(folder, oid))))
    return found
