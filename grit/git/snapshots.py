"""Snapshots in git: commits without parents below refs/grit/snapshots/ (spec/snapshots.md)."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grit.core import limits
from grit.core.errors import GitFailed, IoFailed
from grit.core.ids import parse_hex, parse_number
from grit.core.limits import EVENT_ID_BYTES
from grit.git.blob import Blob, not_a_blob, too_large, unreadable
from grit.git.kept import look_after
from grit.git.objects import ObjectWriter, hash_of
from grit.git.refs import packed_parts, swap_ref
from grit.git.repository import git_folder

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from grit.files.private import Opened
    from grit.git.catfile import CatFile
    from grit.git.gitconfig import GitConfig
    from grit.git.repository import Repository

SNAPSHOTS: Final = "refs/grit/snapshots/"
TRACKED: Final = "refs/grit-remotes/"
_MANIFEST: Final = "snapshot.json"
_SCHEMA: Final = 1
_PERSON: Final = b"grit <snapshot@grit.invalid>"
_NAME: Final = re.compile(r"refs/grit(?:-remotes/.+)?/snapshots/([0-9]{1,15})")
_PATH: Final = re.compile(r"events/[0-9]{4,8}\.bin")
_OID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_COLLISIONS_MAX: Final = 100


class Part(NamedTuple):
    """One chunk of a snapshot, as its manifest states it."""

    path: str
    chunk_hash: bytes
    event_count: int


class Manifest(NamedTuple):
    """What `snapshot.json` states."""

    created_ts: int
    """Unix milliseconds."""
    wal_head: str
    event_count: int
    event_set: bytes
    """BLAKE2b-256 over the sorted event ids."""
    parts: tuple[Part, ...]
    asides: tuple[str, ...]
    """Blobs of the log in which something was set aside: they are read beside the snapshot."""


class Snapshot(NamedTuple):
    """A snapshot that some ref names; without a manifest it cannot be understood."""

    commit: str
    refs: tuple[str, ...]
    """Its own ref, and those that record it at remotes."""
    name_ts: int
    """The time that its name states, unix milliseconds; 0 where the name states none."""
    manifest: Manifest | None

    @property
    def here(self) -> bool:
        """Whether this clone has a ref of its own for it."""
        return any(ref.startswith(SNAPSHOTS) for ref in self.refs)


def list_snapshots(
    repository: Repository, latest_ms: int | None = None, trusted: Container[str] = ()
) -> list[Snapshot]:
    """Return the snapshots that are here or recorded at remotes, the newest name first.

    With `latest_ms`, only as many as may be used: the trusted ones by commit, then the newest, and
    of these none whose name is later than that. Raises GitFailed, IoFailed, WalDamaged.
    """
    if not _any_ref(repository):
        return []
    from grit.git.pitfalls import look_below
    from grit.git.process import output, text_lines

    look_below(repository.common_dir, SNAPSHOTS, TRACKED)
    listed = output(
        repository.git_dir,
        "for-each-ref",
        "--format=%(objectname) %(refname)",
        SNAPSHOTS,
        f"{TRACKED}**/snapshots/*",
    )
    found: dict[str, list[str]] = {}
    for line in text_lines(listed):
        oid, _, ref = line.partition(" ")
        if not ref:
            continue
        found.setdefault(oid, []).append(ref)
    known = sorted(
        ((max(map(name_ts, refs)), commit) for commit, refs in found.items()), reverse=True
    )
    if latest_ms is not None:
        others = [one for one in known if one[1] not in trusted and 0 < one[0] <= latest_ms]
        known = [one for one in known if one[1] in trusted] + others[: limits.SNAPSHOTS_READ_MAX]
    from grit.git.catfile import CatFile

    with CatFile(repository) as objects:
        return [
            Snapshot(commit, _own_first(found[commit]), at, _read_manifest(objects, commit))
            for at, commit in known
        ]


def _own_first(refs: list[str]) -> tuple[str, ...]:
    return tuple(sorted(refs, key=lambda ref: (not ref.startswith(SNAPSHOTS), ref)))


def name_ts(ref: str) -> int:
    """Return the time that the name of a snapshot's ref states, or 0 when it is none."""
    named = _NAME.fullmatch(ref)
    return (parse_number(named[1]) or 0) if named else 0


def read_parts(repository: Repository, snapshot: Snapshot) -> Iterator[tuple[Part, Blob]]:
    """Yield every chunk of a snapshot, the size checked before it is read."""
    from grit.git.catfile import CatFile

    assert snapshot.manifest is not None
    with CatFile(repository) as objects:
        for part in snapshot.manifest.parts:
            yield part, _read_part(objects, f"{snapshot.commit}:{part.path}")


def read_blobs(repository: Repository, oids: Iterable[str]) -> Iterator[Blob]:
    """Yield chunk files of the log by their object ids."""
    from grit.git.catfile import CatFile

    with CatFile(repository) as objects:
        for oid in oids:
            yield _read_blob(objects, oid)


def have_blobs(repository: Repository, oids: Iterable[str]) -> bool:
    """Return whether all of these are blobs that are there."""
    from grit.git.catfile import CatFile

    with CatFile(repository) as objects:
        headers = map(objects.header, oids)
        return all(header is not None and header.kind == "blob" for header in headers)


def count_commits(repository: Repository, head: str) -> int:
    """Return the number of commits reachable from `head`."""
    from grit.git.process import output

    said = output(repository.git_dir, "rev-list", "--count", head, "--")
    count = parse_number(said.strip())
    if count is None:
        raise GitFailed("git counted the commits of the log, and told no number")
    return count


class SnapshotWriter:
    """Writes the objects of one snapshot; nothing refers to them before `publish`."""

    def __init__(self, repository: Repository, config: GitConfig) -> None:
        """Write nothing yet."""
        self._repository = repository
        self._config = config
        self._writer = ObjectWriter(repository, config.durable, config.shared_mode)
        self._parts: list[Part] = []
        self._oids: list[str] = []

    def add(self, chunk: bytes, chunk_hash: bytes, event_count: int) -> None:
        """Write the next chunk; raises IoFailed."""
        path = f"events/{len(self._parts):04}.bin"
        self._oids.append(self._writer.write("blob", chunk))
        self._parts.append(Part(path, chunk_hash, event_count))

    def finish(
        self, created_ts: int, wal_head: str, event_set: bytes, asides: Iterable[str]
    ) -> Snapshot:
        """Write manifest, trees and commit, and make them durable; raises IoFailed."""
        from dulwich.objects import Commit, ObjectID, Tree

        parts = tuple(self._parts)
        count = sum(part.event_count for part in parts)
        manifest = Manifest(created_ts, wal_head, count, event_set, parts, tuple(sorted(asides)))
        events, tree, commit = Tree(), Tree(), Commit()
        for part, oid in zip(parts, self._oids, strict=True):
            events.add(part.path.rpartition("/")[2].encode(), 0o100644, ObjectID(oid.encode()))
        json_oid = self._writer.write("blob", _to_json(manifest))
        tree.add(_MANIFEST.encode(), 0o100644, ObjectID(json_oid.encode()))
        below = self._writer.write("tree", events.as_raw_string())
        tree.add(b"events", 0o40000, ObjectID(below.encode()))
        commit.tree = ObjectID(self._writer.write("tree", tree.as_raw_string()).encode())
        commit.author = commit.committer = _PERSON
        commit.author_time = commit.commit_time = created_ts // 1000
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = f"snapshot of {count} events up to {wal_head[:12]}\n".encode()
        oid = self._writer.write("commit", commit.as_raw_string())
        self._writer.sync()
        return Snapshot(oid, (), created_ts, manifest)

    def publish(self, snapshot: Snapshot) -> Snapshot:
        """Let a ref name it, by the next free millisecond; raises Busy, IoFailed, GitFailed."""
        for at in range(snapshot.name_ts, snapshot.name_ts + _COLLISIONS_MAX):
            ref = f"{SNAPSHOTS}{at}"
            if swap_ref(
                self._repository, ref, None, snapshot.commit, shared_mode=self._config.shared_mode
            ):
                look_after(self._repository, self._writer.keeper.oids)
                return snapshot._replace(refs=(ref,), name_ts=at)
        raise AssertionError("no free name for a snapshot")


def one_event_oid(repository: Repository, chunk: bytes) -> bytes:
    """Return the object id, in hex, that a chunk file has as a blob."""
    framed = b"blob %d\0%b" % (len(chunk), chunk)
    return hash_of(repository.object_format, framed).encode()


def remove(repository: Repository, ref: str, commit: str) -> bool:
    """Remove the ref while it names that commit; False when it does not, or git refuses."""
    from grit.git.refs import remove_ref

    return remove_ref(repository, ref, commit)


def clear_locks(repository: Repository) -> list[str]:
    """Remove locks that a killed process left beside snapshots; return what to tell.

    Names of snapshots do not come again, so nobody would ever meet these.
    """
    try:
        with git_folder(repository.common_dir, SNAPSHOTS)[0].open() as folder:
            names = [name for name, _ in folder.entries() if name.endswith(".lock")]
    except OSError:
        return []
    if not names:
        return []
    from grit.git.leftovers import Lock, clear

    return clear(Lock(repository.common_dir, f"{SNAPSHOTS}{name}") for name in names)


def _any_ref(repository: Repository) -> bool:
    """Return False where a look at files shows that no snapshot is named: no process is started."""
    if repository.ref_storage != "files":
        return True
    common_dir = repository.common_dir
    try:
        if any(b"/snapshots/" in part for part in packed_parts(repository, SNAPSHOTS)):
            return True
    except (GitFailed, IoFailed):
        return True  # git says what is wrong with it
    with suppress(OSError), git_folder(common_dir, SNAPSHOTS)[0].open():
        return True
    with suppress(OSError), git_folder(common_dir, TRACKED)[0].open() as folder:
        return _holds_snapshots(folder)
    return False


def _holds_snapshots(folder: Opened) -> bool:
    folders = [name for name, is_folder in folder.entries() if is_folder]
    if "snapshots" in folders:
        return True
    for name in folders:
        with suppress(OSError), folder.below(name) as inner:
            if _holds_snapshots(inner):
                return True
    return False


def _read_blob(objects: CatFile, oid: str) -> Blob:
    header = objects.header(oid)
    if header is not None and header.size > limits.CHUNK_BYTES_MAX:
        return too_large(oid)
    found = objects.read(oid) if header is not None else None
    if found is None:
        return unreadable(oid)
    return Blob(oid, found[1], None) if found[0] == "blob" else not_a_blob(oid, found[0])


def _read_part(objects: CatFile, place: str) -> Blob:
    header = objects.header(place)
    if header is None or header.kind != "blob" or header.size > limits.CHUNK_BYTES_MAX:
        return Blob(place, None, "missing or too large")
    found = objects.read(place)
    return Blob(place, found[1] if found else None, None)


def _read_manifest(objects: CatFile, commit: str) -> Manifest | None:
    """Return what the manifest states, or None when it is not there or not understood."""
    place = f"{commit}:{_MANIFEST}"
    header = objects.header(place)
    if header is None or header.kind != "blob" or header.size > limits.SNAPSHOT_JSON_BYTES_MAX:
        return None
    found = objects.read(place)
    return _parse(found[1]) if found else None


def _parse(data: bytes) -> Manifest | None:
    from grit.core.documents import parse_json

    try:
        stated: Any = parse_json(data)
        if stated["schema_version"] != _SCHEMA:
            return None
        parts = tuple(
            Part(
                _text(one["path"], _PATH),
                _hash(one["chunk_hash"]),
                _count(one["event_count"]),
            )
            for one in stated["chunks"]
        )
        manifest = Manifest(
            _count(stated["created_ts"]),
            _text(stated["wal_head"], _OID),
            _count(stated["event_count"]),
            _hash(stated["event_set"]),
            parts,
            tuple(_text(one, _OID) for one in stated.get("asides", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    bounded = len(parts) <= limits.SNAPSHOT_CHUNKS_MAX
    bounded = bounded and len(manifest.asides) <= limits.SNAPSHOT_ASIDES_MAX
    return manifest if bounded and manifest.event_count == _sum(parts) else None


def _sum(parts: tuple[Part, ...]) -> int:
    return sum(part.event_count for part in parts)


def _text(value: object, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise ValueError
    return value


def _hash(value: object) -> bytes:
    found = parse_hex(value, EVENT_ID_BYTES)
    if found is None or value != str(value).lower():
        raise ValueError
    return found


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= limits.TS_UNIX_MS_MAX:
        raise ValueError
    return value


def _to_json(manifest: Manifest) -> bytes:
    import json

    document = {
        "schema_version": _SCHEMA,
        "created_ts": manifest.created_ts,
        "wal_head": manifest.wal_head,
        "event_count": manifest.event_count,
        "event_set": manifest.event_set.hex(),
        "chunks": [
            {**part._asdict(), "chunk_hash": part.chunk_hash.hex()} for part in manifest.parts
        ],
        "asides": list(manifest.asides),
    }
    return json.dumps(document, indent=2).encode() + b"\n"
