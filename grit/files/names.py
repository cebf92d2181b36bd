"""The table of names that grit uses below the git directory (spec/wal.md, Private files).

A name that is not in the table cannot be opened. A `*` stands for any part of one name; a test
puts something else at each of them.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from grit.core import limits

Kind = Literal["file", "folder", "link"]
Owner = Literal["repository", "user", "anybody"]


class Named(NamedTuple):
    """What lies at a name: `bytes_max` is what is read of a file, 0 where grit never reads it."""

    kind: Kind
    bytes_max: int = 0
    owner: Owner = "repository"
    """`user`: a secret. `anybody`: a name of git's, which has a rule of its own about owners."""
    way_out: str = "move it away"
    """What to do where something else lies there."""


GRIT: Final = "grit"
REFS: Final = "refs"
OBJECTS: Final = "objects"
WORKTREE: Final = "worktree"

_FOLDER: Final = Named("folder")
_OF_KEYS: Final = Named(
    "folder", way_out="put the folder itself in its place, since signing keys belong in it"
)
_SETTINGS: Final = Named("file", limits.SETTINGS_BYTES_MAX)
_MARK: Final = Named("file", limits.MARK_BYTES_MAX)
_LOCK: Final = Named("file", limits.LOCK_FILE_BYTES_MAX)
_QUEUE: Final = Named("file", 2 * limits.QUEUE_BYTES_MAX)
_LMDB: Final = Named("file")

NAMES: Final[Mapping[str, Mapping[str, Named]]] = {
    "": {"grit": _OF_KEYS},
    "grit": {
        "config.toml": _SETTINGS._replace(
            way_out="put your settings there as a plain file, or signatures hold nothing back"
        ),
        "config.toml.mark": _MARK,
        "config.lock-file": _LOCK,
        "actors": _OF_KEYS,
        "actors.lock-file": _LOCK,
        "view": _FOLDER,
        "kept": _FOLDER,
        "queue": _QUEUE,
        "queue-taken": _QUEUE,
        "queue.lock-file": _LOCK,
        "wal.lock-file": _LOCK,
        "leases.lock-file": _LOCK,
        "leases-seen": Named("file", limits.LEASES_SEEN_BYTES_MAX),
        "remotes": Named("file", limits.REMOTES_BYTES_MAX),
        "verified": Named("file", limits.VERIFIED_BYTES_MAX),
        "verified-mark": _MARK,
        "snapshots.toml": _SETTINGS,
        "snapshots-mark": _MARK,
        "snapshots.lock-file": _LOCK,
        "swap-*": Named("file", limits.REF_BYTES_MAX),
        "draft-*": Named("file", limits.DRAFT_BYTES_MAX),
        "damaged-*": Named("file"),
        "server-*.lock": _LOCK,
        "server-*.log": Named("file", limits.SERVER_LOG_BYTES_MAX * 4),
        "server-*": Named("link"),
    },
    "grit/actors": {"*": _OF_KEYS},
    "grit/actors/*": {"config.toml": _SETTINGS, "keys": _OF_KEYS},
    "grit/actors/*/keys": {
        "signing.key": Named(
            "file", limits.KEY_FILE_BYTES_MAX, "user", "put the key itself in its place"
        )
    },
    "grit/kept": {"*": _FOLDER},
    # Of whoever wrote them, in a clone that several share: they are checked against their names.
    "grit/kept/*": {"*": Named("file", limits.ATTACHMENT_BYTES_MAX, "anybody")},
    "grit/view": {
        "data.mdb": _LMDB,
        "lock.mdb": _LMDB,
        "mark": _MARK,
        "writer.lock": _LOCK,
        "build": _FOLDER,
    },
    "grit/view/build": {"data.mdb": _LMDB},
    # Git's own, at any depth.
    "refs": {"*": Named("file", limits.REF_BYTES_MAX, "anybody")},
    "objects": {"*": Named("file", 2 * limits.CHUNK_BYTES_MAX, "anybody")},
    "worktree": {
        "AGENTS.md": Named(
            "file", limits.AGENTS_BYTES_MAX, "anybody", "write the section into it yourself"
        )
    },
}
"""By the folder that they are in; "" is the git directory."""


def look_up(within: str, name: str) -> tuple[str, Named]:
    """Return the pattern that a name fits, and what lies there; raises LookupError for a bug."""
    table = NAMES[within]
    found = table.get(name)
    if found is not None:
        return name, found
    for pattern, named in table.items():
        start, star, end = pattern.partition("*")
        if star and name.startswith(start) and name.endswith(end):
            return pattern, named
    raise LookupError(f"'{name}' is in no table of {within or 'the git directory'}")


def inside(within: str, name: str) -> str:
    """Return under which heading the names inside a folder stand."""
    if within in (REFS, OBJECTS):
        return within
    return f"{within}/{look_up(within, name)[0]}".lstrip("/")
