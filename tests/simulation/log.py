"""A log in memory: commits that hold chunks, and the rules by which heads move (spec/sync.md)."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from grit.core import codec
from grit.core.events import Event


class Commit(NamedTuple):
    """Ids of the parents, and the chunks of its tree."""

    parents: tuple[str, ...]
    chunks: tuple[bytes, ...]


Objects = dict[str, Commit]
"""Commits by id; what one repository holds."""


def put(objects: Objects, commit: Commit) -> str:
    """Store a commit and return its id, which is the hash of its content as in git."""
    oid = blake2b(codec.pack(tuple(commit)), digest_size=20).hexdigest()
    objects[oid] = commit
    return oid


def span(objects: Objects, head: str | None, old: str | None = None) -> dict[str, Commit]:
    """Return the commits reachable from `head` and not from `old`.

    Raises KeyError when one is missing, as git does.
    """
    seen = _walk(objects, old, {})
    return _walk(objects, head, seen)


def _walk(objects: Objects, head: str | None, without: Objects) -> Objects:
    found: Objects = {}
    waiting = [] if head is None else [head]
    while waiting:
        oid = waiting.pop()
        if oid not in found and oid not in without:
            found[oid] = objects[oid]
            waiting += objects[oid].parents
    return found


def is_ancestor(objects: Objects, old: str | None, head: str | None) -> bool:
    """Return whether everything reachable from `old` is reachable from `head`."""
    return old is None or (old in objects and old in span(objects, head))


def join(objects: Objects, ours: str | None, theirs: str | None) -> str | None:
    """Return the head that holds both; the same two heads give the same commit on both sides."""
    if is_ancestor(objects, theirs, ours):
        return ours
    if is_ancestor(objects, ours, theirs):
        return theirs
    assert ours is not None and theirs is not None
    return put(objects, Commit(tuple(sorted((ours, theirs))), ()))


def events_of(commits: Objects) -> Iterator[Event]:
    """Yield the events of all chunks as a reader decodes them; a bad one fails the run."""
    for commit in commits.values():
        for chunk in commit.chunks:
            records, problems = codec.decode_chunk(chunk)
            assert not problems, problems
            yield from (event for event, _ in records)
