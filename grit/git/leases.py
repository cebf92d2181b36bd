"""Lock refs: leases as commits behind refs, here and as recorded from remotes (spec/leases.md)."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, InvalidLease, WalDamaged
from grit.core.ids import parse_number
from grit.core.lease import LOCK_NAME_CHARS, Lease, encode_lock, parse_lock
from grit.core.limits import LABEL_CHARS_MAX
from grit.git.catfile import CatFile, read_small
from grit.git.log_reader import absent_objects
from grit.git.objects import commit_links, tree_entries
from grit.git.pitfalls import look_below
from grit.git.process import run
from grit.git.refs import lies, read_ref, remove_ref, swap_ref
from grit.git.refs import set_aside as set_ref_aside
from grit.git.repository import Repository
from grit.git.tracking import tracking_ref
from grit.git.wal import Wal

LOCK_FILE: Final = "lock.json"
_NAME: Final = re.compile(rf"[0-9a-f]{{{LOCK_NAME_CHARS}}}")
_REF_IN_WORDS: Final = re.compile(r"refs/[^\s'\"]+")
_PERSON: Final = re.compile(rb"author ([^<\n]*?) ?<", re.MULTILINE)
_CHANGED: Final = re.compile(rb"^committer [^\n]*> ([0-9]{1,12}) ", re.MULTILINE)


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
    for name in _REF_IN_WORDS.findall(done.stderr.decode(errors="replace")):
        found[name] = ("", "the ref cannot be read")
    for line in done.stdout.decode(errors="replace").split("\n"):
        name, _, rest = line.partition(" ")
        oid, _, target = rest.partition(" ")
        found[name] = ("", f"it is a symbolic ref to {target}") if target else (oid, "")
    locks = []
    with CatFile(repository) as objects:
        for name, (oid, problem) in sorted(found.items()):
            place = _place(name, folder, recorded)
            if place is None:
                continue
            ref, remote = place
            if problem:
                locks.append(LockRef(ref, remote, None, None, problem, broken=True))
            else:
                locks.append(_read_lock(repository, objects, ref, remote, oid))
    return locks


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


def remove_lock(wal: Wal, ref: str, old: str) -> bool:
    """Remove a lock ref; False when it stands elsewhere than at `old`, or git refuses."""
    return remove_ref(wal.repository, ref, old)


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


def _read_lock(
    repository: Repository, objects: CatFile, ref: str, remote: str | None, oid: str
) -> LockRef:
    name = ref.rpartition("/")[2]
    commit = _read(repository, objects, oid, "commit")
    if commit is None:
        missing = objects.header(oid) is None
        problem = "the object that it names is missing" if missing else "it names no commit"
        return LockRef(ref, remote, oid, None, problem, broken=missing)
    person = _PERSON.search(commit)
    changed = _CHANGED.search(commit)
    lock = LockRef(
        ref,
        remote,
        oid,
        None,
        person=person[1].decode(errors="replace")[:LABEL_CHARS_MAX] if person else "",
        changed_ms=(parse_number(changed[1]) or 0) * 1000 if changed else 0,
    )
    if not _NAME.fullmatch(name) or ref.count("/") != 3:
        return lock._replace(problem="its name is none of a lock")
    content = _content(repository, objects, commit)
    if content is None:
        if repository.promisor is not None and absent_objects(repository, [oid], walk=False):
            raise GitFailed(
                f"this partial clone lacks what {ref} holds; 'grit lock status --remote' fetches it"
            )
        return lock._replace(problem=f"its commit holds no {LOCK_FILE}")
    try:
        return lock._replace(lease=parse_lock(content, name))
    except InvalidLease as reason:
        return lock._replace(problem=str(reason))


def _content(repository: Repository, objects: CatFile, commit: bytes) -> bytes | None:
    tree = _read(repository, objects, commit_links(commit)[0], "tree")
    for entry in tree_entries(tree or b"", repository.object_format) or ():
        if entry.name == LOCK_FILE.encode() and entry.is_file:
            return _read(repository, objects, entry.oid, "blob")
    return None


def _read(repository: Repository, objects: CatFile, oid: str, kind: str) -> bytes | None:
    """Return the object's content; None when it is missing, broken, too large or another kind."""
    found = read_small(repository, objects, oid) if oid else None
    return found[1] if found is not None and found[0] == kind else None
