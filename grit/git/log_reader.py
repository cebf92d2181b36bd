"""Reading the log: its commits, their trees, the chunks in these (spec/wal.md, Reading).

Git proposes which commits there are and delivers objects; what a log holds is decided here alone.
"""

from binascii import unhexlify
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import IO, Final

from grit.core.errors import GitFailed, WalDamaged
from grit.core.limits import CHUNK_BYTES_MAX, SEEN_OBJECTS_MAX, SHALLOW_BYTES_MAX
from grit.files.private import failed, read_plain
from grit.git.blob import Blob, is_broken, not_a_blob, too_large, unreadable
from grit.git.catfile import CatFile, Item, NotWhole, read_ahead, read_listed, stop
from grit.git.dialects import ATTACHMENTS
from grit.git.log_tree import list_tree, only_chunk
from grit.git.loose_tail import read_loose_tail
from grit.git.objects import commit_ids, commit_links, tree_entries
from grit.git.process import start
from grit.git.repository import Repository

_ATTACHMENTS: Final = ATTACHMENTS.encode()
_MANY_TREES: Final = 500

Known = dict[bytes, bool]
"""Object ids (hex) of chunks that need not be read, and whether the log lists them."""


class HeadUnknown(WalDamaged):
    """The head where a reader stood is not in the repository any more: read the whole log."""


def read_log(
    repository: Repository, head: str, old: str | None, known: Known | None = None
) -> Iterator[Blob]:
    """Yield the chunk files reachable from `head` and not from `old`, oldest first.

    Those in `known` are not read: it is only noted there that the log lists them. What cannot be
    read is yielded with its problem. Raises HeadUnknown when `old` is not in the repository,
    WalDamaged when a commit is missing or broken, GitFailed when the log is cut off by a shallow
    clone, or objects of it were left out by a partial one.
    """
    if head == old:
        return
    known = {} if known is None else known
    tail = read_loose_tail(repository, head, old)
    if tail is None:
        for blob in _Chunks(repository, known).read(commit_trees(repository, head, old)):
            if blob.problem:
                check_fetched(repository, head, old)
            yield blob
        return
    for blob in tail:
        oid = blob.oid.encode()
        if oid in known:
            known[oid] = True
        else:
            yield blob


class Trees:
    """The trees of commits, oldest first: 20 bytes each (32 in SHA-256 repositories)."""

    def __init__(self, object_format: str) -> None:
        self._size = 32 if object_format == "sha256" else 20
        self._ids = bytearray()
        """The newest first."""

    def add(self, tree: bytes) -> None:
        """Add the tree, in hex, of the next older commit."""
        self._ids += unhexlify(tree)

    def __len__(self) -> int:
        return len(self._ids) // self._size

    def to_file(self) -> IO[bytes]:
        """Return a file with the ids in hex, oldest first, a line each."""
        import tempfile

        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by who reads it
        file.writelines(f"{tree}\n".encode() for tree in self)
        file.seek(0)
        return file

    def __iter__(self) -> Iterator[str]:
        """Give the ids in hex, oldest first."""
        size = self._size
        return (self._ids[end - size : end].hex() for end in range(len(self._ids), 0, -size))

    def __reversed__(self) -> Iterator[str]:
        """Give the ids in hex, newest first."""
        size = self._size
        return (self._ids[at : at + size].hex() for at in range(0, len(self._ids), size))


def commit_trees(repository: Repository, head: str, old: str | None) -> Trees:
    """Return the trees of the commits reachable from `head` and not from `old`.

    Raises as `read_log` does.
    """
    # Git names commits by their times at once; where clocks differ a parent may come too early.
    for order in ((), ("--topo-order",)):
        proposed = _proposed(repository, head, old, order)
        if proposed is not None:
            return proposed
    return _walked(repository, head, old)


def _proposed(
    repository: Repository, head: str, old: str | None, order: tuple[str, ...]
) -> Trees | None:
    """Return the trees of the commits that git names; None unless these are all there are.

    Children must come before their parents, so that few parents are open at any time. At the end
    those must be left that git says are reached from `old`: a false commit-graph cannot be behind
    that, since git looks at commits alone then.
    """
    import subprocess

    span = (head,) if old is None else (head, f"^{old}")
    graph = "true" if old is None else "false"
    listing = start(
        repository.git_dir,
        *("-c", f"core.commitGraph={graph}", "rev-list", *order, *span, "--"),
        stdin=subprocess.DEVNULL,
    )
    assert listing.stdout is not None
    trees, parents_open = Trees(repository.object_format), {head.encode()}
    shallow = shallow_commits(repository)
    try:
        for oid, content in read_listed(repository, listing.stdout, "commit"):
            tree, parents = commit_ids(content, repository.object_format)
            if oid not in parents_open or not tree:
                return None
            if oid in shallow:
                raise _cut_off(oid.decode())
            parents_open.remove(oid)
            parents_open.update(parents)
            trees.add(tree)
        whole = listing.wait() == 0
    except NotWhole:
        return None
    finally:
        stop(listing)
    return trees if whole and (not parents_open or old is not None) else None


def _walked(repository: Repository, head: str, old: str | None) -> Trees:
    """Return the same by walking from commit to commit, or raise what is in the way."""
    with CatFile(repository) as objects:
        if old is not None and objects.header(old) is None:
            raise HeadUnknown(f"the log was rewritten: {old} is gone", object=old)
        known = {oid for oid, _ in _walk(repository, objects, old, set())} if old else set()
        found = [tree for _, tree in _walk(repository, objects, head, known)]
    trees = Trees(repository.object_format)
    for tree in reversed(found):
        trees.add(tree.encode())
    return trees


def _walk(
    repository: Repository, objects: CatFile, head: str, done: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield commits and their trees, parents before children, without those that are `done`."""
    shallow = shallow_commits(repository)
    stack = [(head, "")]
    while stack:
        oid, tree = stack.pop()
        if tree:
            yield oid, tree
            continue
        if oid in done:
            continue
        done.add(oid)
        tree, parents = commit_links(objects.read_commit(oid) or b"", repository.object_format)
        if not tree:
            raise _missing_commit(repository, oid)
        if oid.encode() in shallow:
            raise _cut_off(oid)
        stack.append((oid, tree))
        stack.extend((parent, "") for parent in reversed(parents))


def _cut_off(oid: str) -> GitFailed:
    return GitFailed(
        "the log is cut off by a shallow clone; 'grit sync' fetches the rest of it, and "
        "'git fetch --unshallow' that of the code too",
        object=oid,
    )


def _missing_commit(repository: Repository, oid: str) -> GitFailed | WalDamaged:
    if repository.promisor is not None:
        return _left_out([oid])
    return WalDamaged(f"commit {oid} of the log is missing or broken; head unchanged", object=oid)


class _Chunks:
    """Reads the trees of commits, and the chunks that these name, in one go."""

    def __init__(self, repository: Repository, known: Known) -> None:
        self._repository = repository
        self._known = known
        self._contents: Iterator[tuple[bytes, bytes]] = iter(())
        """Ids and contents of the first trees, as far as they are whole."""
        self._taken = 0
        """How many of them were looked at."""
        self._trees: Iterator[str] | None = None
        """The other ones."""
        self._named: deque[Item] = deque()
        """What the trees name that were read: folders with their depth, and chunks."""
        self._seen: set[bytes | str | tuple[str, int]] = set()

    def read(self, trees: Trees) -> Iterator[Blob]:
        """Yield the chunk files of commits with these trees."""
        if len(trees) >= _MANY_TREES:
            # One more process; but it does not wait for questions, nor the answers for each other.
            self._contents = read_listed(self._repository, trees.to_file(), "tree")

        def following(count: int) -> list[Item]:
            """Return what to read next: what hangs on trees that were read, then other trees."""
            named = self._named
            while len(named) < count and self._take_next():
                pass
            items = [named.popleft() for _ in range(min(count, len(named)))]
            if len(items) < count:
                self._trees = self._trees or islice(trees, self._taken, None)
                roots = ((tree, 0) for tree in self._trees if self._is_new(tree.encode()))
                items += islice(roots, count - len(items))
            return items

        for answer in read_ahead(self._repository, following, CHUNK_BYTES_MAX):
            (oid, depth), kind, content, problem = answer
            if depth is None and kind == "blob" and not problem:
                yield Blob(oid, content, None)
            elif problem == "too large":
                yield too_large(oid)
            elif depth is None:
                yield unreadable(oid) if problem else not_a_blob(oid, kind)
            elif kind != "tree" or not self._take(content, depth):
                yield unreadable(oid, "tree")

    def _take_next(self) -> bool:
        """Note what the next tree names, if its content is at hand."""
        try:
            oid, content = next(self._contents)
        except (StopIteration, NotWhole):
            return False
        self._taken += 1
        if self._is_new(oid) and not self._take(content, 0):
            self._named.append((oid.decode(), 0))  # read once more, it is reported
        return True

    def _take(self, tree: bytes, depth: int) -> bool:
        """Note what a tree names; False when it is malformed."""
        only = only_chunk(tree)
        if only is not None:
            self._take_chunk(only)
            return True
        listed = list_tree(tree, self._repository.object_format, depth)
        if listed is None:
            return False
        for entry in listed.chunks:
            self._take_chunk(entry.oid)
        for entry in listed.folders:
            if self._is_new((entry.oid, depth + 1)):
                self._named.append((entry.oid, depth + 1))
        return True

    def _take_chunk(self, oid: str) -> None:
        if self._is_new(oid):
            if self._known and oid.encode() in self._known:
                self._known[oid.encode()] = True
            else:
                self._named.append((oid, None))

    def _is_new(self, place: bytes | str | tuple[str, int]) -> bool:
        """Whether it was not seen before: a commit's tree (bytes), a folder, or a chunk (str)."""
        seen = self._seen
        if place in seen:
            return False
        if len(seen) >= SEEN_OBJECTS_MAX:
            seen.clear()
        seen.add(place)
        return True


def missing_objects(repository: Repository, head: str) -> list[str]:
    """Return the ids of the log's objects that are missing or broken, as far as they are known.

    Reads the whole log: git lists a broken object like a whole one.
    """
    found = absent_objects(repository, [head])
    if found:
        return found
    try:
        trees = commit_trees(repository, head, None)
        return [blob.oid for blob in _Chunks(repository, {}).read(trees) if is_broken(blob)]
    except WalDamaged as error:
        return [str(error.details["object"])]


def absent_objects(
    repository: Repository, heads: Sequence[str], old: str | None = None, *, walk: bool = True
) -> list[str]:
    """Return the ids of objects that these commits need and the repository lacks.

    `old`: what it needs is there. Without `walk` their ancestors do not count. Below a tree that
    is absent nothing more is known; nothing is fetched. Empty where a commit is absent.
    """
    import subprocess

    words = (*(() if walk else ("--no-walk",)), "--stdin")
    commits = [*heads, *(() if old is None else (f"^{old}",)), ""]
    arguments = ("rev-list", "--objects", "--missing=print", *words)
    # It names every object of the log: only those that are absent are kept.
    listing = start(repository.git_dir, *arguments, stdin=subprocess.PIPE)
    try:
        assert listing.stdin is not None and listing.stdout is not None
        with suppress(BrokenPipeError), listing.stdin as asked:
            asked.write("\n".join(commits).encode())
        absent = [
            line[1:-1].decode(errors="replace") for line in listing.stdout if line.startswith(b"?")
        ]
        return absent if listing.wait() == 0 else []
    finally:
        stop(listing)


def check_fetched(repository: Repository, head: str, old: str | None = None) -> None:
    """Raise GitFailed when a partial clone has left out objects of the log: only sync fetches."""
    missing = absent_objects(repository, [head], old) if repository.promisor is not None else []
    if missing:
        raise _left_out(missing)


def _left_out(missing: Sequence[str]) -> GitFailed:
    count = f"{len(missing)} object{'s' if len(missing) > 1 else ''}"
    return GitFailed(
        f"this partial clone lacks {count} of the log; 'grit sync' fetches what is missing",
        object=missing[0],
        way_out="grit sync",
    )


def find_attachments(
    repository: Repository, head: str, wanted: Container[str]
) -> Iterator[tuple[str, str]]:
    """Yield (name, blob) of what the log keeps as attachments of these names, newest first.

    A name may come more than once. Raises as `read_log` does.
    """
    roots = reversed(commit_trees(repository, head, None))
    folders: deque[Item] = deque()

    def following(count: int) -> list[Item]:
        if folders:
            return [folders.popleft()]
        return [(tree, 0) for tree in islice(roots, count)]

    for (_, depth), kind, content, _ in read_ahead(repository, following, CHUNK_BYTES_MAX):
        entries = tree_entries(content, repository.object_format) if kind == "tree" else None
        for entry in entries or ():
            if depth == 0:
                if entry.is_folder and entry.name == _ATTACHMENTS:
                    folders.append((entry.oid, 1))
            elif entry.is_file and (name := entry.name.decode(errors="replace")) in wanted:
                yield name, entry.oid


def shallow_commits(repository: Repository) -> frozenset[bytes]:
    """Return the commits at which a shallow clone ends, as hex; raises IoFailed."""
    path = f"{repository.common_dir}/shallow"
    try:
        return frozenset(read_plain(path, SHALLOW_BYTES_MAX).split())
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise failed(f"cannot read {path}", error) from error
