"""What is fuzzed of git's outputs: whatever git prints, it is understood or refused in words.

In the place of every git stands one that prints the input, on both streams.
"""

import functools
import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import IO, Any, Final

from fuzz.files import scratch
from grit.core.errors import GritError, InvalidArgs
from grit.git import (
    catfile,
    detection,
    gitconfig,
    joins,
    kept,
    leases,
    leftovers,
    log_reader,
    objects,
    process,
    refs,
    remotes,
    repository,
    snapshots,
    transport,
)
from grit.services import lost

OID: Final = "a" * 40
REF: Final = "refs/grit/wal"
_PIPE_BYTES: Final = 60_000


@functools.cache
def _deaf() -> int:
    """Return a pipe that is asked for its size, and that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


def _spoken(said: bytes) -> IO[bytes]:
    """Return a pipe with as much of this as it holds at once."""
    reads, writes = os.pipe()
    with open(writes, "wb") as end:
        end.write(said[:_PIPE_BYTES])
    return open(reads, "rb")


class _Sink(BytesIO):
    """Standard input of a process that reads nothing."""

    def write(self, data: Any) -> int:
        return len(data)

    def fileno(self) -> int:
        return _deaf()


class _Git:
    """As much of a process as grit uses."""

    def __init__(self, said: bytes, status: int) -> None:
        self.stdin, self.stdout, self.stderr = _Sink(), _spoken(said), _spoken(said)
        self.returncode, self.pid = status, 0

    def __enter__(self) -> "_Git":
        return self

    def __exit__(self, *_error: object) -> None:
        self.stdout.close()
        self.stderr.close()

    def wait(self, timeout: float | None = None) -> int:
        return self.returncode

    def poll(self) -> int:
        return self.returncode

    def kill(self) -> None:
        return

    terminate = kill


def _with(data: bytes, *works: Callable[[], object]) -> None:
    """Call what reads git's answers, while git says this, with success and without."""
    before = process._launch
    try:
        for status in (0, 1):
            process._launch = lambda *_a, **_k: _Git(data, status)  # type: ignore  # noqa: B023
            for work in works:
                try:
                    work()
                except GritError as refusal:
                    assert refusal.message
                    assert refusal.code != "internal_error"
                except catfile.NotWhole:
                    continue
    finally:
        process._launch = before


def _once() -> Callable[[int], list[tuple[str, str]]]:
    """Return what wants three objects, and then nothing."""
    wanted = [(OID, "x"), ("b" * 40, "y"), (OID, "z")]

    def following(_count: int) -> list[tuple[str, str]]:
        asked = wanted[:]
        wanted.clear()
        return asked

    return following


def config(data: bytes) -> None:
    """A list of settings gives values; each property of them has a value whatever they say."""
    here, environ = scratch().repository, dict(os.environ)

    def properties() -> None:
        found = gitconfig.load_git_config(here)
        assert found.gc_auto is not None
        assert found.shared_mode & ~0o7777 == 0
        assert isinstance(found.durable, bool)
        assert isinstance(found.durable_refs, bool)
        assert all(gitconfig.identity(found, {}, "author", bytes(16)))
        remotes.broken_refspecs(found)
        remotes.overwriting_refspecs(found, REF)
        for name in remotes.list_remotes(found):
            remotes.has_refspec(found, name, REF)
            with suppress(InvalidArgs):
                assert remotes.find_remote(found, name).tracking

    _with(
        data,
        properties,
        lambda: gitconfig.remember(here, environ),
        lambda: gitconfig.user_value("core.editor", environ),
        lambda: gitconfig.default_program("GIT_PAGER", environ),
        lambda: repository._parse_config_with_git("x"),
        lambda: repository._ask_git(here.common_dir, environ),
        lambda: remotes.push_urls(here, "origin"),
        lambda: leftovers.local_remote(here, "origin"),
    )
    repository._parse_config(data.decode(errors="surrogateescape"))
    gitconfig.git_number(data.decode(errors="surrogateescape"))


def refs_listed(data: bytes) -> None:
    """Refs that git lists are names and ids, or are left out; no name breaks another one's line."""
    here, wal = scratch().repository, scratch().wal
    _with(
        data,
        lambda: refs._below_with_git(here, "refs/grit/"),
        lambda: refs._read_with_git(here, REF),
        lambda: snapshots.list_snapshots(here),
        lambda: leases.list_locks(wal),
        lambda: list(lost.take_back(scratch())),
        lambda: transport.remote_refs(here, "origin", [REF], {}),
    )
    with open(f"{here.common_dir}/packed-refs", "wb") as file:
        file.write(data)
    try:
        refs.refs_below(here, "refs/grit-remotes/", None, "wal")
        with suppress(GritError):
            refs.read_ref(here, REF)
    finally:
        os.unlink(f"{here.common_dir}/packed-refs")


def objects_read(data: bytes) -> None:
    """An answer of `git cat-file` is an object, or none; what it holds is entries, or nothing."""
    here = scratch().repository

    def one() -> None:
        with catfile.CatFile(here) as objects_:
            objects_.header(OID)
            objects_.read(OID)
            objects_.read_commit(OID)
            catfile.read_small(here, objects_, OID)

    def listed() -> None:
        for kind in ("commit", "tree"):
            with open(os.devnull, "rb") as ids:
                list(catfile.read_listed(here, ids, kind))  # type: ignore[arg-type]

    _with(
        data,
        one,
        listed,
        lambda: list(catfile.read_ahead(here, _once(), 1 << 20)),
        lambda: kept.absent(here, [OID]),
    )
    for form in ("sha1", "sha256"):
        for entry in objects.tree_entries(data, form) or ():
            assert entry.name
            assert len(entry.oid) in (40, 64)
        tree, parents = objects.commit_links(data, form)
        assert {len(one) for one in (tree, *parents) if one} <= {40 if form == "sha1" else 64}
    assert joins._time_s([("commit", data)]) >= 0


def commits_listed(data: bytes) -> None:
    """A list or a count of commits is one, or the log is said to be unreadable."""
    here = scratch().repository
    _with(
        data,
        lambda: snapshots.count_commits(here, OID),
        lambda: joins.standing(here, OID, "b" * 40),
        lambda: log_reader.missing_objects(here, OID),
        lambda: log_reader.absent_objects(here, [OID], walk=False),
        lambda: log_reader.commit_trees(here, OID, None),
        lambda: list(log_reader.find_attachments(here, OID, {"b" * 64})),
        lambda: detection.detect_dialect(here, REF, OID),
    )


def talk(data: bytes) -> None:
    """Words of the other side, progress and reports of refs: an outcome for each ref asked for."""
    here = scratch().repository
    update = transport.Update(OID, REF)

    def push() -> None:
        (done,) = transport.push(here, "origin", [update], {})
        assert done.ref == REF
        assert len(done.words) <= 2 * transport.WORDS_CHARS_MAX + 300

    def fetch() -> None:
        done = transport.fetch(here, "origin", [f"+{REF}:{REF}"], {})
        assert done.failed is None or done.failed

    _with(data, push, fetch, functools.partial(transport.fetch_objects, here, "origin", [OID], {}))


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "git-config": config,
    "git-refs": refs_listed,
    "git-objects": objects_read,
    "git-commits": commits_listed,
    "git-talk": talk,
}
