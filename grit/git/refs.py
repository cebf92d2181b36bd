"""Reading and swapping one ref, strictly: what cannot be read is never taken for absent.

Files are read here; they are swapped under git's own `<ref>.lock`. Other ref storages go through
the git program (spec/wal.md, The ref).
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from grit.core.errors import Busy, GitFailed, IoFailed, WalDamaged
from grit.core.limits import (
    LOCK_STALE_MS,
    LOCK_WAIT_MS_MAX,
    LOCKS_AT_ONCE,
    PACKED_REFS_BYTES_MAX,
    PACKED_REFS_MAX,
    REF_BYTES_MAX,
)
from grit.files.private import Folder, NotPrivate, Opened, plain_parts, read_plain
from grit.git.repository import Repository, git_folder

if TYPE_CHECKING:
    from grit.git.reflock import RefLock

GRIT_REF: Final = "refs/grit/wal"
GRITE_REF: Final = "refs/grite/wal"
_NAP_MS: Final = 5
_BESIDE_THE_LOG: Final = frozenset({"locks", "snapshots"})
"""Folders of refs that are not heads of a log, and can be many."""
_HEX: Final = frozenset("0123456789abcdef")


class RefsBelow(NamedTuple):
    """Refs by name, and a stamp of packed-refs: the same stamp, the same packed refs."""

    ids: dict[str, str]
    packed: str


def read_ref(repository: Repository, name: str) -> str | None:
    """Return the object id that the ref names, or None when there is no such ref.

    Raises WalDamaged for a symref or garbage, IoFailed when the ref cannot be read; in neither
    case may anybody conclude that the ref is absent.
    """
    if repository.ref_storage != "files":
        return _read_with_git(repository, name)
    found = _read_loose(repository, name)
    if found is None:
        found = _read_packed(repository, name)
    if found is None:
        # Between the two looks the ref may have left packed-refs for a file of its own.
        found = _read_loose(repository, name)
    return found


def is_absent(repository: Repository, name: str) -> bool:
    """Return whether there is no such ref; one that cannot be read is there."""
    try:
        return read_ref(repository, name) is None
    except (GitFailed, IoFailed, WalDamaged):
        return False


def refs_below(
    repository: Repository, prefix: str, packed_seen: str | None = None, named: str | None = None
) -> RefsBelow:
    """Return the readable refs below `prefix`, which ends in a slash, loose ones over packed ones.

    `named`: only those with this last part; no other file is opened, be they 20,000.
    Packed refs are not read again when their stamp is `packed_seen`. What is no object id is left
    out: these refs record what others have, and nothing is concluded from their absence.
    """
    if repository.ref_storage != "files":
        return RefsBelow(_below_with_git(repository, prefix), "")
    found: dict[str, str] = {}
    stamp = _packed_stamp(repository)
    if stamp and stamp != packed_seen:
        marker = b" " + prefix.encode()
        lines = chain.from_iterable(part.split(b"\n") for part in packed_parts(repository, prefix))
        for line in lines:
            oid, space, rest = line.partition(marker)
            if space and rest and (named is None or rest.rpartition(b"/")[2] == os.fsencode(named)):
                found[prefix + os.fsdecode(rest)] = oid.decode(errors="replace")
            if len(found) == PACKED_REFS_MAX:
                break
    with suppress(OSError), _folder_of(repository, prefix).open() as folder:
        _collect_loose(folder, prefix, found, named)
    size = 64 if repository.object_format == "sha256" else 40
    whole = {ref: oid for ref, oid in found.items() if len(oid) == size and _HEX.issuperset(oid)}
    return RefsBelow(whole, stamp)


def _packed_stamp(repository: Repository) -> str:
    """Return what changes whenever packed-refs is replaced; empty when there is none."""
    try:
        seen = os.stat(f"{repository.common_dir}/packed-refs")
    except OSError:
        return ""
    return f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns}"


def _folder_of(repository: Repository, prefix: str) -> Folder:
    folder, last = git_folder(repository.common_dir, prefix)
    assert not last, "a prefix ends in a slash"
    return folder


def _collect_loose(
    folder: Opened, prefix: str, found: dict[str, str], named: str | None, depth: int = 0
) -> None:
    for name, is_folder in folder.entries():
        with suppress(OSError):
            if not is_folder:
                if named in (None, name):
                    found[f"{prefix}{name}"] = _text(folder, name)
                continue
            with folder.below(name) as inner:
                if depth == 0 or name not in _BESIDE_THE_LOG:
                    _collect_loose(inner, f"{prefix}{name}/", found, named, depth + 1)
                elif named is not None:
                    # The name of a remote may end like that of such a folder.
                    found[f"{prefix}{name}/{named}"] = _text(inner, named)


def _text(folder: Opened, name: str) -> str:
    return folder.read(name, cut=True).strip().decode(errors="replace")


def _below_with_git(repository: Repository, prefix: str) -> dict[str, str]:
    from grit.git.process import output, text_lines

    form = "--format=%(objectname) %(refname)"
    listed = text_lines(output(repository.git_dir, "for-each-ref", form, prefix))
    return {name: oid for oid, _, name in (line.partition(" ") for line in listed)}


def swap_ref(
    repository: Repository,
    name: str,
    old: str | None,
    new: str,
    *,
    shared_mode: int = 0,
    notices: list[str] | None = None,
    sync: bool = True,
) -> bool:
    """Move the ref from `old` (None: absent) to `new`; False when it is somewhere else by now.

    A `<ref>.lock` of a dead process of grit is removed at once. With `notices` the caller holds
    grit's own lock, so that any other one that stays is a killed process's: it is removed too,
    with a notice appended. `sync`: the content is on the disk before the ref moves.
    Raises Busy, IoFailed, WalDamaged, GitFailed.
    """
    if repository.ref_storage != "files":
        return _swap_with_git(repository, name, old, new)
    from grit.git.reflock import RefLock

    folder, last = git_folder(repository.common_dir, name)
    lock = RefLock(folder, last, repository.private, new.encode() + b"\n", shared_mode, sync)
    try:
        _take(lock, repository, name, notices)
        try:
            # Read again under the lock: from here to the rename nobody else may move the ref.
            if read_ref(repository, name) != old:
                lock.drop()
                return False
            if old is None:
                _check_free(repository, name)
            lock.publish()
        except BaseException:
            lock.drop()
            raise
    except OSError as error:
        raise _refused(name, "cannot write", error) from error
    finally:
        lock.close()
    return True


def remove_refs(repository: Repository, refs: Mapping[str, str]) -> list[str]:
    """Remove refs that are not the log's, by name, where they stand so; return those that are gone.

    Many go together, as long as none is in the way; those that are left one by one.
    """
    from grit.git.process import run

    gone: list[str] = []
    names = list(refs)
    for start in range(0, len(names), LOCKS_AT_ONCE):
        some = names[start : start + LOCKS_AT_ONCE]
        try:
            for name in some:
                _open_folders(repository, name)
            lines = b"".join(b"delete %b\0%b\0" % (os.fsencode(x), refs[x].encode()) for x in some)
            words = ("update-ref", "--no-deref", "-z", "--stdin")
            whole = len(some) > 1 and run(repository.git_dir, *words, stdin=lines).status == 0
        except OSError:
            whole = False
        gone += [name for name in some if whole or remove_ref(repository, name, refs[name])]
    return gone


def remove_ref(repository: Repository, name: str, old: str) -> bool:
    """Remove a ref that is not the log's; False when it is not at `old`, or git refuses.

    False, too, where git would go through a link. Locks in the way that a killed process left are
    removed first.
    """
    from grit.git.leftovers import clear, locks_of_refs
    from grit.git.process import run

    try:
        _open_folders(repository, name)
    except OSError:
        return False
    words = ("update-ref", "--no-deref", "-d", name, old)
    if run(repository.git_dir, *words).status == 0:
        return True
    cleared = clear(locks_of_refs(repository.common_dir, [name]))
    return bool(cleared) and run(repository.git_dir, *words).status == 0


def _open_folders(repository: Repository, name: str) -> None:
    """Open the folders in which git changes the file of a ref and its reflog, where there are any.

    Raises NotPrivate where one is a link: git would follow it. And other OSErrors.
    """
    for path in (name, f"logs/{name}"):
        with suppress(FileNotFoundError), git_folder(repository.common_dir, path)[0].open():
            pass


def set_aside(repository: Repository, ref: str, kept: str) -> str:
    """Move the file of a ref into grit's folder, a link itself, and return where it is now.

    Raises OSError.
    """
    folder, name = git_folder(repository.common_dir, ref)
    with folder.open() as refs, repository.private.open(make=True) as private:
        refs.move(name, kept, private)
    return f"{repository.grit_dir}/{kept}"


def lies(repository: Repository, ref: str) -> bool:
    """Return whether anything but a folder lies where the file of a ref is; raises OSError."""
    folder, name = git_folder(repository.common_dir, ref)
    try:
        with folder.open() as refs:
            return refs.lies(name)
    except FileNotFoundError:
        return False


def _read_loose(repository: Repository, name: str) -> str | None:
    path = f"{repository.common_dir}/{name}"
    try:
        data = read_plain(path, REF_BYTES_MAX, follow=False, cut=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return None  # refs live below it; a swap finds the conflict
    except NotPrivate as error:
        raise WalDamaged(f"{name} {error.what}; head unchanged", ref=name) from error
    except OSError as error:
        raise _refused(name, "cannot read", error) from error
    if data.startswith(b"ref:"):
        target = data[4:].strip().decode(errors="replace")
        raise WalDamaged(f"{name} is a symbolic ref to {target}; head unchanged", ref=name)
    return _object_id(repository, name, data.rstrip())


def _read_packed(repository: Repository, name: str) -> str | None:
    suffix = b" " + os.fsencode(name) + b"\n"
    found: bytes | None = None
    part = b"\n"
    for part in packed_parts(repository, name):
        at = -1 if found is not None else part.find(suffix)
        if at >= 0:
            found = part[part.rfind(b"\n", 0, at) + 1 : at]
    if not part.endswith(b"\n"):
        raise WalDamaged("packed-refs ends in the middle of a line; head unchanged", ref=name)
    return None if found is None else _object_id(repository, name, found)


def packed_parts(repository: Repository, name: str) -> Iterator[bytes]:
    """Yield packed-refs in parts of whole lines; what ends it without a newline comes last.

    `name`: what is asked for. Raises GitFailed or IoFailed.
    """
    rest = b""
    try:
        for part in plain_parts(f"{repository.common_dir}/packed-refs", PACKED_REFS_BYTES_MAX):
            lines, end, rest = (rest + part).rpartition(b"\n")
            rest = rest[:REF_BYTES_MAX]  # what is longer is no ref
            if end:
                yield lines + end
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(name, "cannot read packed-refs for", error) from error
    if rest:
        yield rest


def _object_id(repository: Repository, name: str, data: bytes) -> str:
    text = data.decode("ascii", errors="replace")
    size = 64 if repository.object_format == "sha256" else 40
    if len(text) != size or not _HEX.issuperset(text) or text == "0" * size:
        what = "is empty" if not text else "holds no object id"
        raise WalDamaged(f"{name} {what}; head unchanged", ref=name)
    return text


def _check_free(repository: Repository, name: str) -> None:
    """Refuse a name below which packed refs live: git could not hold both."""
    below = os.fsencode(f" {name}/")
    if any(below in part for part in packed_parts(repository, name)):
        raise WalDamaged(f"refs below {name}/ are in the way of the log", ref=name)


def _take(lock: "RefLock", repository: Repository, name: str, notices: list[str] | None) -> None:
    deadline = time.monotonic() + LOCK_WAIT_MS_MAX / 1000
    while True:
        try:
            if lock.take():
                return
        except FileNotFoundError:
            _make_folder(lock, name)  # `git pack-refs --prune` removes empty folders
            continue
        except OSError as error:
            raise _refused(name, "cannot lock", error) from error
        if lock.remove_dead():
            _tell_removed(name, notices)
        elif notices is not None and lock_age_ms(repository, name) > LOCK_STALE_MS:
            remove_stale(repository, name, notices)
        elif time.monotonic() >= deadline:
            raise Busy(f"busy: {name}.lock is held by another git process")
        else:
            time.sleep(_NAP_MS / 1000)


def _make_folder(lock: "RefLock", name: str) -> None:
    try:
        lock.make_folder()
    except OSError as error:
        raise _refused(name, "cannot create the folder of", error) from error


def lock_age_ms(repository: Repository, name: str) -> float:
    """Return how old the lock of a ref is; 0 where none lies there, or it cannot be looked at.

    Raises IoFailed where something else lies there.
    """
    folder, last = git_folder(repository.common_dir, f"{name}.lock")
    try:
        with folder.open() as refs:
            found = refs.look(last)
    except NotPrivate as error:
        raise _refused(name, "cannot lock", error) from error
    except OSError:
        return 0.0  # gone, or about to fail on its own
    return (time.time() - found.st_mtime) * 1000 if found else 0.0


def remove_stale(repository: Repository, name: str, notices: list[str]) -> None:
    """Remove the lock of a ref that nobody can be holding, with a notice; raises IoFailed."""
    folder, last = git_folder(repository.common_dir, f"{name}.lock")
    try:
        with folder.open() as refs:
            refs.remove(last)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(name, "cannot remove the stale lock of", error) from error
    _tell_removed(name, notices)


def _tell_removed(name: str, notices: list[str] | None) -> None:
    if notices is not None:
        notices.append(f"removed {name}.lock, which a killed process had left behind")


def _refused(name: str, what: str, error: OSError) -> IoFailed:
    reason = str(error) if isinstance(error, NotPrivate) else f"{what} {name}: {error.strerror}"
    return IoFailed(f"{reason}; head unchanged", ref=name, errno=error.errno)


def _read_with_git(repository: Repository, name: str) -> str | None:
    from grit.git.process import output, text_lines

    form = "--format=%(refname) %(objectname) %(symref)"
    for line in text_lines(output(repository.git_dir, "for-each-ref", form, name)):
        found, _, rest = line.partition(" ")
        if found != name:
            continue
        object_id, _, target = rest.partition(" ")
        if target:
            raise WalDamaged(f"{name} is a symbolic ref to {target}; head unchanged", ref=name)
        return _object_id(repository, name, object_id.encode(errors="surrogateescape"))
    return None


def _swap_with_git(repository: Repository, name: str, old: str | None, new: str) -> bool:
    from grit.git.process import run

    try:
        _open_folders(repository, name)
    except OSError as error:
        raise _refused(name, "cannot write", error) from error
    expected = "0" * len(new) if old is None else old
    done = run(repository.git_dir, "update-ref", "--no-deref", name, new, expected)
    if done.status == 0:
        return True
    if _read_with_git(repository, name) != old:
        return False
    raise GitFailed(f"git cannot move {name}: {done.reason}; head unchanged", ref=name)
