"""Lock refs: leases as commits behind refs, here and as recorded from remotes (spec/leases.md)."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, InvalidLease, WalDamaged
from grit.core.ids import parse_number
from grit.core.lease import LOCK_NAME_CHARS, Lease, encode_lock, parse_lock
from grit.core.limits import (
    LABEL_CHARS_MAX,
    LOCK_BYTES_MAX,
    LOCK_OBJECT_BYTES_MAX,
    LOCK_USUAL_BYTES,
    LOCKS_BYTES_MAX,
)
from grit.git.catfile import Item, read_ahead
from grit.git.log_reader import absent_objects
from grit.git.objects import commit_links, read_loose, tree_entries
from grit.git.pitfalls import look_below
from grit.git.process import run, text_lines
from grit.git.refs import lies, read_ref, remove_refs, swap_ref
from grit.git.refs import set_aside as set_ref_aside
from grit.git.repository import Repository
from grit.git.tracking import tracking_ref
from grit.git.wal import Wal

LOCK_FILE: Final = "lock.json"
_NAME: Final = re.compile(rf"[0-9a-f]{{{LOCK_NAME_CHARS}}}")
_REF_IN_WORDS: Final = re.compile(rb"refs/[^\s'\"]+")
_PERSON: Final = re.compile(rb"^author ([^<\n]*)<", re.MULTILINE)
_CHANGED: Final = re.compile(rb"^committer [^\n]*> ([0-9]{1,12}) ", re.MULTILINE)


_Object = tuple[str, str, bytes, str]
"""Id, kind, content, and what keeps it from being read."""


class LockRef(NamedTuple):
    """One lock ref as it stands here, or as it was last seen on `remote`."""

    ref: str
    """Its name on its own side: `refs/grit/locks/<16 hex>`."""
    remote: str | None
    oid: str | None
    """None: the ref itself cannot be read."""
    lease: Lease | None
    """None: it is malformed, for the reason in `problem`."""
    problem: str = ""
    person: str = ""
    """Who changed it last, by the commit's author: a claim, not a proof."""
    changed_ms: int = 0
    broken: bool = False
    """The ref cannot be read, or names an object that is missing: git fails over it."""


def locks_folder(wal: Wal) -> str:
    """Return where the lock refs of this log's dialect lie, without a slash at the end."""
    return f"{wal.ref.rpartition('/')[0]}/locks"


def list_locks(wal: Wal) -> list[LockRef]:
    """Return every lock ref, here and recorded from remotes, malformed ones too.

    Raises GitFailed when the refs cannot be listed, or a partial clone left out what they hold: a
    lease that cannot be read must not count as none.
    """
    locks = _listed(wal)
    if any(lock.broken and lock.oid for lock in locks) and wal.heal():
        locks = _listed(wal)
    return locks


def _listed(wal: Wal) -> list[LockRef]:
    repository = wal.repository
    folder = locks_folder(wal)
    recorded = tracking_ref("", f"{folder}/").partition("//")[0]
    found: dict[str, tuple[str, str]] = {}
    form = "--format=%(refname) %(objectname) %(symref)"
    look_below(repository.common_dir, folder, recorded)
    done = run(repository.git_dir, "for-each-ref", form, f"{folder}/", f"{recorded}/")
    if done.status != 0:
        raise GitFailed(f"git cannot list the lock refs: {done.reason}")
    # Broken refs are not listed; git only complains about them, in the user's language.
    for word in _REF_IN_WORDS.findall(done.stderr):
        found[os.fsdecode(word)] = ("", "the ref cannot be read")
    for line in text_lines(done.stdout):
        name, _, rest = line.partition(" ")
        oid, _, target = rest.partition(" ")
        problem = f"it is a symbolic ref to {target}" if target else ""
        if not oid.isascii():
            problem = "the ref cannot be read"
        found[name] = ("" if problem else oid, problem)
    places = [
        (place, oid, problem)
        for name, (oid, problem) in sorted(found.items())
        if (place := _place(name, folder, recorded)) is not None
    ]
    reading = _Reading(repository)
    reading.read(oid for _, oid, problem in places if not problem)
    return [
        LockRef(*place, None, None, problem, broken=True) if problem else reading.lock(*place, oid)
        for place, oid, problem in places
    ]


def newest(wal: Wal, locks: list[LockRef]) -> list[LockRef]:
    """Return the lock refs without those that another side has moved on from."""
    sides: dict[str, list[LockRef]] = {}
    for lock in locks:
        sides.setdefault(lock.ref, []).append(lock)
    return [lock for lock in locks if not any(_outdates(wal, one, lock) for one in sides[lock.ref])]


def outruns(wal: Wal, newer: LockRef, older: LockRef) -> bool:
    """Return whether one side of a lock ref has moved on from what the other side has."""
    if newer.lease is None or older.lease is None or newer.oid == older.oid:
        return False  # garbage on top of a lease does not end it
    assert newer.oid is not None and older.oid is not None
    return wal.contains(newer.oid, older.oid)


def _outdates(wal: Wal, newer: LockRef, older: LockRef) -> bool:
    if newer.oid == older.oid:
        return (newer.remote or "") < (older.remote or "")  # one of several that are the same
    return outruns(wal, newer, older)


def write_lock(
    wal: Wal, environ: Mapping[str, str], lease: Lease, parents: tuple[str, ...], now_ms: int
) -> str:
    """Write the commit of one change and return its id; no ref moves.

    The parents are the commits that it follows, so that a clone which still has one of them
    cannot push it back over this one. Raises IoFailed.
    """
    from grit.git.dialects import Plan
    from grit.git.gitconfig import identity
    from grit.git.objects import ObjectWriter
    from grit.git.wal import write_commit

    people = tuple(
        "{} <{}>".format(*identity(wal.config, environ, role, lease.owner))
        for role in ("author", "committer")
    )
    verb = "release" if lease.released else "lease"
    message = f"{verb} {lease.resource.text[:160]}\n"
    plan = Plan({LOCK_FILE: encode_lock(lease)}, message, (people[0], people[1]), now_ms // 1000)
    writer = ObjectWriter(wal.repository, wal.config.durable, wal.config.shared_mode)
    oid = write_commit(writer, plan, parents, [])
    writer.sync()
    return oid


def move_lock(wal: Wal, ref: str, old: str | None, new: str, notices: list[str]) -> bool:
    """Move a lock ref, or a record of one; False when it stands elsewhere than at `old`.

    The caller holds the clone's lock of leases. Raises Busy, IoFailed, WalDamaged, GitFailed.
    """
    from grit.git.kept import look_after

    mode = wal.config.shared_mode
    moved = swap_ref(wal.repository, ref, old, new, shared_mode=mode, notices=notices)
    if moved:
        look_after(wal.repository, [new])
    return moved


def remove_locks(wal: Wal, refs: Mapping[str, str]) -> list[str]:
    """Remove lock refs that stand where it says; return those that are gone."""
    return remove_refs(wal.repository, refs)


def set_aside(wal: Wal, ref: str, now_ms: int) -> str | None:
    """Move the file of a broken ref into grit's folder and return where it is now.

    None: there is nothing to move. Raises WalDamaged when the damage is not in a file of its own.
    """
    repository = wal.repository
    try:
        if repository.ref_storage != "files" or not lies(repository, ref):
            read_ref(repository, ref)  # raises unless it has been mended meanwhile
            return None
        name = f"damaged-lock-{ref.rpartition('/')[2]}-{now_ms}"
        return set_ref_aside(repository, ref, name)
    except OSError as error:
        raise WalDamaged(f"{ref} is broken and cannot be moved aside: {error.strerror}") from error


def _place(name: str, folder: str, recorded: str) -> tuple[str, str | None] | None:
    """Return (the ref on its own side, the remote) of a ref that stands for a lock, or None."""
    if name.startswith(f"{folder}/"):
        return name, None
    remote, found, last = name.removeprefix(f"{recorded}/").rpartition("/locks/")
    if name.startswith(f"{recorded}/") and found:
        return f"{folder}/{last}", remote
    return None


class _Reading:
    """Reads what many lock refs name: each object once at most, and none that is too large."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._commits: dict[str, _Commit | str] = {}
        """By id; words: why it is none."""
        self._blobs: dict[str, str | None] = {}
        """By the id of a tree: the lock.json in it."""
        self._leases: dict[str, Lease | str] = {}
        """By the id of a blob; words: why it is none."""
        self._missing: set[str] = set()
        self._large_bytes = 0

    def read(self, commits: Iterable[str]) -> None:
        """Read these commits and what they hold."""
        for oid, kind, content, problem in self._objects(commits, LOCK_OBJECT_BYTES_MAX):
            self._commits[oid] = _commit(kind, content, problem, self._repository.object_format)
        known = [one.tree for one in self._commits.values() if isinstance(one, _Commit)]
        for oid, kind, content, _ in self._objects(known, LOCK_OBJECT_BYTES_MAX):
            self._blobs[oid] = self._blob(content if kind == "tree" else b"")
        blobs = filter(None, self._blobs.values())
        for oid, kind, content, problem in self._objects(blobs, LOCK_BYTES_MAX):
            if problem == "too large":
                self._leases[oid] = f"{LOCK_FILE} has over {LOCK_BYTES_MAX} bytes"
            elif kind == "blob" and not problem:
                self._leases[oid] = self._lease(content)

    def lock(self, ref: str, remote: str | None, oid: str) -> LockRef:
        """Return the lock ref that names a commit which was read."""
        commit = self._commits[oid]
        if isinstance(commit, str):
            return LockRef(ref, remote, oid, None, commit, broken=oid in self._missing)
        lock = LockRef(ref, remote, oid, None, person=commit.person, changed_ms=commit.changed_ms)
        name = ref.rpartition("/")[2]
        if not _NAME.fullmatch(name) or ref.count("/") != 3:
            return lock._replace(problem="its name is none of a lock")
        blob = self._blobs.get(commit.tree)
        if not self._missing.isdisjoint((commit.tree, blob)):
            self._check_fetched(ref, oid)
        lease = self._leases.get(blob or "", f"its commit holds no {LOCK_FILE}")
        if isinstance(lease, str):
            return lock._replace(problem=lease)
        if lease.resource.lock_name != name:
            return lock._replace(problem="the resource belongs to another ref")
        return lock._replace(lease=lease)

    def _objects(self, oids: Iterable[str], bytes_max: int) -> Iterator[_Object]:
        packed: list[Item] = []
        for oid in dict.fromkeys(oids):
            found = read_loose(self._repository, oid, bytes_max)
            if found is None:
                packed.append((oid, None))
            else:
                yield oid, *found, ""
        if not packed:
            return
        rest = iter(packed)
        answers = read_ahead(
            self._repository, lambda count: [*islice(rest, count)], bytes_max, sizes_first=True
        )
        for (oid, _), kind, content, problem in answers:
            if problem in ("missing", "broken"):
                self._missing.add(oid)
            yield oid, kind, content, problem

    def _blob(self, tree: bytes) -> str | None:
        for entry in tree_entries(tree, self._repository.object_format) or ():
            if entry.name == LOCK_FILE.encode() and entry.is_file:
                return entry.oid
        return None

    def _lease(self, content: bytes) -> Lease | str:
        if len(content) > LOCK_USUAL_BYTES:
            self._large_bytes += len(content)
            if self._large_bytes > LOCKS_BYTES_MAX:
                return f"its {LOCK_FILE} is large, like too many others"
        try:
            return parse_lock(content)
        except InvalidLease as reason:
            return str(reason)

    def _check_fetched(self, ref: str, oid: str) -> None:
        repository = self._repository
        if repository.promisor is not None and absent_objects(repository, [oid], walk=False):
            raise GitFailed(
                f"this partial clone lacks what {ref} holds; 'grit lock status --remote' fetches it"
            )


class _Commit(NamedTuple):
    tree: str
    person: str
    changed_ms: int


def _commit(kind: str, content: bytes, problem: str, object_format: str) -> _Commit | str:
    """Return what a commit says, or why it is none."""
    if problem == "missing" or (problem == "broken" and not kind):
        return "the object that it names is missing"
    if problem == "too large":
        return f"the object that it names has over {LOCK_OBJECT_BYTES_MAX} bytes"
    if kind != "commit" or problem:
        return "it names no commit"
    headers = content.partition(b"\n\n")[0]
    person, changed = _PERSON.search(headers), _CHANGED.search(headers)
    return _Commit(
        commit_links(content, object_format)[0],
        person[1].strip().decode(errors="replace")[:LABEL_CHARS_MAX] if person else "",
        (parse_number(changed[1]) or 0) * 1000 if changed else 0,
    )
