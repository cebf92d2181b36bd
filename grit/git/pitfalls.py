"""What lies in the place of a file that git reads, and would keep git waiting (spec/wal.md).

Git opens a pipe as it opens a file, waits for who writes into it, and reads a device without end.
"""

import os
import stat
from collections.abc import Mapping
from typing import Final

from grit.core.errors import GitFailed
from grit.core.limits import GIT_POINTER_BYTES_MAX
from grit.files.looks import odd, odd_below
from grit.files.private import read_plain

_AT_THE_TOP: Final = (
    *("HEAD", "config", "config.worktree", "commondir", "shallow", "packed-refs"),
    "refs/replace",
)
"""Not `info/grafts`: a guarded git reads none."""
_SYMREF_DEPTH: Final = 5
_BORROWED_DEPTH: Final = 5
"""How far git follows the stores that stores borrow from."""
_BORROWED_MAX: Final = 100
_sound: Final[set[str]] = set()
"""Stores that were looked at by this process: what was shipped does not change."""
_OF_OBJECTS: Final = (
    *("info/alternates", "info/commit-graph", "info/commit-graphs/commit-graph-chain"),
    "pack/multi-pack-index",
)


def look_out(git_dir: str, *, objects: bool = False) -> None:
    """Refuse a git directory in which git would wait; raises GitFailed with the path.

    `objects`: it is to read some, and those of its store are looked at, too.
    """
    _look_at(git_dir, _AT_THE_TOP)
    common_dir = _pointed(f"{git_dir}/commondir", b"", git_dir)
    if common_dir is not None:
        _look_at(common_dir, _AT_THE_TOP)
    # What HEAD leads to is read whenever an include may depend on the branch.
    name = "HEAD"
    for _ in range(_SYMREF_DEPTH):
        target = _symref(git_dir, name) or _symref(common_dir or git_dir, name)
        if target is None:
            break
        name = target
        _look_at(git_dir, (name,))
        _look_at(common_dir or git_dir, (name,))
    store = f"{common_dir or git_dir}/objects"
    if not objects:
        _look_at(store, _OF_OBJECTS)
    elif store not in _sound:
        _look_at_objects(store)
        _sound.add(store)


def _symref(folder: str, name: str) -> str | None:
    """Return the ref that a ref names; None where it names a commit, or none."""
    target = _pointed(f"{folder}/{name}", b"ref:", "")
    return target.strip() if target is not None else None


def look_ahead(start: str, environ: Mapping[str, str]) -> None:
    """Refuse the git directory that git would find from a folder; raises GitFailed."""
    named = environ.get("GIT_DIR")
    if named:
        look_out(_behind(os.path.join(start, named)))
        return
    directory = start
    while True:
        git_dir = f"{directory}/.git"
        if os.path.lexists(git_dir):
            look_out(_behind(git_dir))
            return
        if os.path.lexists(f"{directory}/HEAD"):
            look_out(directory)  # maybe a bare one
        parent = os.path.dirname(directory)
        if parent == directory:
            return
        directory = parent


def look_below(common_dir: str, *prefixes: str) -> None:
    """Refuse loose refs below these prefixes that git would wait for; raises GitFailed.

    Git reads the other files of the folders on the way, too.
    """
    flat: dict[str, None] = {}
    for prefix in prefixes:
        parts = prefix.strip("/").split("/")
        flat.update(("/".join(parts[:count]), None) for count in range(1, len(parts)))
    looks = [(name, False) for name in flat] + [(prefix.strip("/"), True) for prefix in prefixes]
    for name, deep in looks:
        found = odd_below(f"{common_dir}/{name}", deep=deep)
        if found is not None:
            raise _waits(*found)


def _look_at_objects(store: str) -> None:
    """Look at every object and pack of a store, and of those that it borrows from."""
    stores = [store]
    for _ in range(_BORROWED_DEPTH + 1):
        borrowed: list[str] = []
        for store in stores:
            _look_at(store, _OF_OBJECTS)
            found = odd_below(store)
            if found is not None:
                raise _waits(*found)
            borrowed += _borrowed(store)
        stores = list(dict.fromkeys(borrowed))[:_BORROWED_MAX]


def _borrowed(store: str) -> list[str]:
    """Return the stores that `info/alternates` names, one a line; quoted ones are read, too."""
    try:
        text = read_plain(f"{store}/info/alternates", GIT_POINTER_BYTES_MAX, cut=True)
    except (OSError, ValueError):
        return []
    lines = (line.strip(b'"') for line in text.split(b"\n") if line and line[:1] != b"#")
    return [os.path.join(store, os.fsdecode(line)) for line in lines if b"\0" not in line]


def _look_at(folder: str, names: tuple[str, ...]) -> None:
    for name in names:
        path = f"{folder}/{name}"
        what = odd(path)
        if what is not None:
            raise _waits(path, what)


def _waits(path: str, what: str) -> GitFailed:
    way_out = "move it away"
    return GitFailed(f"{path} {what}; git would wait for it: {way_out}", way_out=way_out)


def _behind(path: str) -> str:
    """Return the git directory that a `.git` file names; a folder is one itself."""
    return _pointed(path, b"gitdir: ", os.path.dirname(path)) or path


def _pointed(path: str, prefix: bytes, base: str) -> str | None:
    """Return what a regular file names; None where there is none, or it names nothing."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        line = read_plain(path, GIT_POINTER_BYTES_MAX, cut=True)
    except (OSError, ValueError):
        return None
    target = line.removeprefix(prefix).rstrip(b"\r\n")
    if not line.startswith(prefix) or not target or b"\0" in target:
        return None
    return os.path.join(base, os.fsdecode(target))
