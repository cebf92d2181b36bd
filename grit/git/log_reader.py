"""Reading the log in bulk with git's plumbing (spec/wal.md, Reading).

`rev-list --objects` names the chunks between two heads, `cat-file --batch` delivers them; both run
beside this process, and nothing but the blob in hand is kept in memory.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, Final

from grit.core.errors import GitFailed, WalDamaged
from grit.core.limits import CHUNK_BYTES_MAX
from grit.git.blob import Blob, checked, too_large
from grit.git.catfile import CatFile, stop
from grit.git.dialects import ATTACHMENTS, CHUNK_SUFFIX, META_NAME
from grit.git.loose_tail import read_loose_tail
from grit.git.objects import tree_entries
from grit.git.process import output, run, start
from grit.git.repository import Repository
from grit.git.salvage import read_chunk, salvage

_SUFFIX: Final = CHUNK_SUFFIX.encode()
_ORDINARY: Final = frozenset({ATTACHMENTS.encode(), META_NAME.encode()})
_DAY_FOLDER: Final = b"events/0123456789"

Known = dict[bytes, bool]
"""Object ids (hex) of chunks that need not be read, and whether the log lists them."""


class HeadUnknown(WalDamaged):
    """The head where a reader stood is not in the repository any more: read the whole log."""


class _Broken(Exception):
    """The bulk reader met damage; the slow one tells what it is."""


class _Listing:
    """What the feeding thread learns while it hands object names from one git to the other."""

    __slots__ = ("cut", "known", "lines", "omitted", "others", "queue", "shallow")

    def __init__(self, shallow: frozenset[bytes], known: Known) -> None:
        self.shallow = shallow
        self.known = known
        self.queue: deque[tuple[bytes, bytes]] = deque()
        self.omitted: list[str] = []
        self.others: set[str] = set()
        self.cut: str | None = None
        self.lines = 0


def read_log(
    repository: Repository, head: str, old: str | None, known: Known | None = None
) -> Iterator[Blob]:
    """Yield the chunk files reachable from `head` and not from `old`, oldest first.

    Those in `known` are not read: it is only noted there that the log lists them. What cannot be
    read is yielded with its problem; after damage a blob may come twice. Raises HeadUnknown when
    `old` is not in the repository, WalDamaged when a commit is missing, GitFailed when the log is
    cut off by a shallow clone.
    """
    if head == old:
        return
    known = {} if known is None else known
    tail = read_loose_tail(repository, head, old)
    if tail is not None:
        yield from _unknown(tail, known)
        return
    if repository.promisor is not None:
        fetch_missing(repository, head)
    try:
        yield from _stream(repository, head, old, known)
    except _Broken:
        yield from _unknown(salvage(repository, head, old), known)


def _unknown(blobs: Iterable[Blob], known: Known) -> Iterator[Blob]:
    for blob in blobs:
        oid = blob.oid.encode()
        if oid in known:
            known[oid] = True
        else:
            yield blob


def _stream(repository: Repository, head: str, old: str | None, known: Known) -> Iterator[Blob]:
    import subprocess

    listing = start(
        repository.git_dir,
        "rev-list",
        "--objects",
        "--reverse",
        "--in-commit-order",
        f"--filter=blob:limit={CHUNK_BYTES_MAX + 1}",
        "--filter-print-omitted",
        *_span(head, old),
        stdin=subprocess.DEVNULL,
    )
    contents = start(repository.git_dir, "cat-file", "--batch", "--buffer", stdin=subprocess.PIPE)
    state = _Listing(shallow_commits(repository), known)
    assert listing.stdout is not None
    assert contents.stdin is not None
    assert contents.stdout is not None
    feeder = threading.Thread(
        target=_feed, args=(listing.stdout, contents.stdin, state), daemon=True
    )
    feeder.start()
    try:
        yield from _delivered(contents.stdout, state)
        feeder.join()
        listed = listing.wait() == 0
    finally:
        # Killing both ends the feeder too, whichever pipe it waits for.
        listing.kill()
        contents.kill()
        feeder.join()
        stop(listing)
        stop(contents)
    _check_end(repository, state, listed, old)
    yield from (too_large(oid, "") for oid in state.omitted)
    if state.others:
        yield from _unknown(_named_twice(repository, head, old, state.others), known)


def _feed(source: Iterable[bytes], sink: IO[bytes], state: _Listing) -> None:
    """Pass the ids of chunk files on, and sort out everything else that is listed."""
    queue, shallow, others, known = state.queue, state.shallow, state.others, state.known
    try:
        for line in source:
            state.lines += 1
            oid, space, name = line[:-1].partition(b" ")
            if name.endswith(_SUFFIX):
                if oid in known:
                    known[oid] = True
                    continue
                queue.append((oid, name))
                sink.write(oid + b"\n")
            elif name:
                if name not in _ORDINARY and name.strip(_DAY_FOLDER):
                    others.add(oid.decode())
            elif line.startswith(b"~"):
                state.omitted.append(oid[1:].decode())
            elif not space and oid in shallow:
                state.cut = oid.decode()
                break
        sink.close()
    except (BrokenPipeError, ValueError):
        return  # the reader went away, or broke: the main thread sees it


def _delivered(source: IO[bytes], state: _Listing) -> Iterator[Blob]:
    read, readline, queue = source.read, source.readline, state.queue
    while header := readline():
        words = header.split()
        if len(words) != 3 or words[1] != b"blob":
            raise _Broken
        data = read(int(words[2]))
        if read(1) != b"\n":
            raise _Broken
        oid, name = queue.popleft()
        yield checked(oid.decode(), name.decode(errors="replace"), data)


def _check_end(repository: Repository, state: _Listing, listed: bool, old: str | None) -> None:
    if state.cut is not None:
        raise GitFailed(
            "the log is cut off by a shallow clone; 'grit sync' fetches the rest of it, and "
            "'git fetch --unshallow' that of the code too",
            object=state.cut,
        )
    if listed and not state.queue:
        return
    if state.lines == 0 and old is not None:
        known = run(repository.git_dir, "cat-file", "-e", f"{old}^{{commit}}")
        if known.status != 0:
            raise HeadUnknown(f"the log was rewritten: {old} is gone", object=old)
    raise _Broken


def _named_twice(
    repository: Repository, head: str, old: str | None, others: set[str]
) -> Iterator[Blob]:
    """Yield the chunks that git listed under another name because they bear two.

    An attachment with the bytes of a chunk must not hide that chunk from a fresh clone.
    """
    listing = output(
        repository.git_dir, "rev-list", "--objects", "--filter=blob:none", *_span(head, old)
    )
    with CatFile(repository) as objects:
        for line in listing.splitlines():
            oid, space, _ = line.partition(b" ")
            found = objects.read(oid.decode()) if space else None
            if found is None or found[0] != "tree":
                continue
            for entry in tree_entries(found[1], repository.object_format):
                if entry.oid in others and entry.name.endswith(CHUNK_SUFFIX):
                    others.discard(entry.oid)
                    yield read_chunk(objects, entry.oid, entry.name)


def missing_objects(repository: Repository, head: str) -> list[str]:
    """Return the ids of the log's objects that are missing or broken, as far as they are known.

    Reads the whole log: git lists a broken object like a whole one.
    """
    done = run(repository.git_dir, "rev-list", "--objects", "--missing=print", *_span(head, None))
    lines = done.stdout.decode().splitlines() if done.status == 0 else []
    found = [line[1:] for line in lines if line.startswith("?")]
    if found:
        return found
    try:
        broken = [blob.oid for blob in _stream(repository, head, None, {}) if _is_broken(blob)]
    except _Broken:
        return _broken_objects(repository, head)
    return broken


def _broken_objects(repository: Repository, head: str) -> list[str]:
    try:
        return [blob.oid for blob in salvage(repository, head, None) if _is_broken(blob)]
    except WalDamaged as error:
        return [str(error.details["object"])]


def _is_broken(blob: Blob) -> bool:
    """Too large is not broken: nothing could mend it."""
    return blob.problem not in (None, too_large(blob.oid, blob.name).problem)


def find_attachment(repository: Repository, head: str, sha256_hex: str) -> Iterator[str]:
    """Yield the blobs that the log keeps as the attachment of that name, newest first."""
    import subprocess

    wanted = f" {ATTACHMENTS}/{sha256_hex}\n".encode()
    listing = start(
        repository.git_dir, "rev-list", "--objects", *_span(head, None), stdin=subprocess.DEVNULL
    )
    assert listing.stdout is not None
    try:
        for line in listing.stdout:
            if line.endswith(wanted):
                yield line.partition(b" ")[0].decode()
    finally:
        stop(listing)


def fetch_missing(repository: Repository, head: str) -> None:
    """Fetch what a partial clone left out of the log, in one go.

    Raises GitFailed, naming the remote, when it cannot be had.
    """
    missing = missing_objects(repository, head)
    if not missing or repository.promisor is None:
        return
    done = run(
        repository.git_dir,
        "-c",
        "fetch.negotiationAlgorithm=noop",
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--recurse-submodules=no",
        "--filter=blob:none",
        "--stdin",
        repository.promisor,
        stdin="".join(f"{oid}\n" for oid in missing).encode(),
    )
    if done.status != 0:
        raise GitFailed(
            f"this partial clone lacks {len(missing)} objects of the log and cannot fetch them "
            f"from {repository.promisor}: {done.reason}"
        )


def _span(head: str, old: str | None) -> tuple[str, ...]:
    return (head, "--") if old is None else (head, f"^{old}", "--")


def shallow_commits(repository: Repository) -> frozenset[bytes]:
    """Return the commits at which a shallow clone ends, as hex."""
    try:
        with open(f"{repository.common_dir}/shallow", "rb") as file:
            return frozenset(file.read().split())
    except FileNotFoundError:
        return frozenset()
