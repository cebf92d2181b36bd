"""Which files of a commit's tree are chunks and attachments: the definition for every reader.

All names are bytes (spec/wal.md, What a log holds).
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from grit.core.limits import TREE_DEPTH_MAX
from grit.git.dialects import ATTACHMENTS, CHUNK_SUFFIX
from grit.git.objects import TreeEntry, tree_entries

_SUFFIX: Final = CHUNK_SUFFIX.encode()
_ATTACHMENTS: Final = ATTACHMENTS.encode()
_USUAL: Final = re.compile(rb"100644 [0-9a-f]{64}\.bin\0.{20}", re.DOTALL)
_USUAL_BYTES: Final = 96


class Listed(NamedTuple):
    """What one tree names: chunk files, and the folders in which more may lie."""

    chunks: list[TreeEntry]
    folders: list[TreeEntry]


def only_chunk(content: bytes) -> str | None:
    """Return the id of its chunk where a tree is what nearly every tree of a log is.

    A shortcut, for SHA-1 repositories: `list_tree` says the same.
    """
    usual = len(content) == _USUAL_BYTES and _USUAL.fullmatch(content)
    return content[76:].hex() if usual else None


def list_tree(content: bytes, object_format: str, depth: int) -> Listed | None:
    """Return what a tree names that lies `depth` folders below a commit's own (0: that itself).

    None when it is malformed: then none of its entries counts.
    """
    entries = tree_entries(content, object_format)
    if entries is None:
        return None
    chunks = [one for one in entries if one.name.endswith(_SUFFIX) and one.is_file]
    if len(chunks) == len(entries) or depth >= TREE_DEPTH_MAX:
        return Listed(chunks, [])
    folders = [one for one in entries if one.is_folder and (depth or one.name != _ATTACHMENTS)]
    return Listed(chunks, folders)


def walk_tree(
    read: Callable[[str], bytes | None], object_format: str, tree: str
) -> Iterator[TreeEntry | None]:
    """Yield the chunk files of a commit's tree; None for a tree that is missing or malformed.

    `read` returns the content of a tree by its id.
    """
    seen: set[tuple[str, int]] = set()
    waiting = [(tree, 0)]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        oid, depth = place
        content = read(oid)
        listed = None if content is None else list_tree(content, object_format, depth)
        if listed is None:
            yield None
            continue
        yield from listed.chunks
        waiting += [(one.oid, depth + 1) for one in reversed(listed.folders)]
