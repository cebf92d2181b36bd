"""Contents of attachments in a log, each checked against its name (spec/wal.md)."""

import hashlib
from collections.abc import Iterator, Set

from grit.core.limits import ATTACHMENT_BYTES_MAX
from grit.git.catfile import CatFile
from grit.git.log_reader import find_attachments
from grit.git.repository import Repository


def contents(repository: Repository, head: str, names: Set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (SHA-256 in hex, content) of those of these names that the log holds, each once.

    Raises as `read_log` does.
    """
    left = set(names)
    if not left:
        return
    with CatFile(repository) as objects:
        for name, oid in find_attachments(repository, head, left):
            header = objects.header(oid) if name in left else None
            if header is None or header.size > ATTACHMENT_BYTES_MAX:
                continue
            found = objects.read(oid)
            if found is not None and hashlib.sha256(found[1]).hexdigest() == name:
                left.remove(name)
                yield name, found[1]
            if not left:
                return
