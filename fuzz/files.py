"""What is fuzzed of grit's own files: whatever stands in one, it is used or refused in words.

The targets read through the same functions as every command does, in a scratch clone.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from typing import Final

from grit.cli.setup import _flat
from grit.core.errors import GritError
from grit.core.ids import ActorId
from grit.git import actors, remotes
from grit.git.filelock import FileLock
from grit.git.kept import Keeper
from grit.git.refs import read_ref
from grit.git.repository import Repository
from grit.git.spool import Spool
from grit.services import (
    actors as services,
)
from grit.services import (
    background,
    lease_clock,
    policy,
    server_place,
    snapshot_record,
    verified,
)
from grit.services.workspace import Ports, Workspace, open_workspace
from grit.view.trust import read_mark, vouch
from grit.view.writer_lock import WriterLock

ACTOR: Final = ActorId(bytes.fromhex("ab" * 16))


@functools.cache
def scratch() -> Workspace:
    """Return a clone in a folder that goes at the end."""
    folder = tempfile.mkdtemp(prefix="grit-fuzz-")
    atexit.register(shutil.rmtree, folder, True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    keys = f"{folder}/.git/grit/actors/{ACTOR.hex()}/keys"
    os.makedirs(keys, 0o700)
    os.makedirs(f"{folder}/.git/grit/view")
    os.makedirs(f"{folder}/.git/refs/grit")
    ports = Ports(dict(os.environ), lambda: 1_700_000_000_000, os.urandom)
    return open_workspace(folder, ports)


def _put(name: str, data: bytes) -> Repository:
    repository = scratch().repository
    path = f"{repository.common_dir}/{name}"
    with open(path, "wb") as file:
        file.write(data)
    return repository


def _refused(work: Callable[[], object]) -> bool:
    """Call it; return whether it was refused in words."""
    try:
        work()
    except GritError as refusal:
        assert refusal.message
        assert refusal.code != "internal_error"
        return True
    return False


def settings(data: bytes) -> None:
    """Settings are used, or named as damaged; what is read can be written and shown again."""
    repository = _put("grit/config.toml", data)
    _refused(lambda: services.current(scratch()))
    _refused(lambda: policy.load_policy(scratch()))
    _refused(lambda: services.lock_policy(actors.load_config(repository)))
    assert background.load_background(repository).interval_s > 0
    with repository.private.open() as folder:
        server_place._is_refused(folder)
    if not _refused(lambda: actors.load_config(repository)):
        known = actors.load_config(repository)
        again = actors.parse_toml(actors.dump_toml(known).encode(), "again")
        import json

        told = [json.dumps(one, sort_keys=True, default=repr) for one in (again, known)]
        assert told[0] == told[1]  # in whatever order
        json.dumps(_flat(scratch()), allow_nan=False)


def actor_file(data: bytes) -> None:
    """An actor's file is an actor, none, or damaged."""
    repository = _put(f"grit/actors/{ACTOR.hex()}/config.toml", data)
    _refused(lambda: actors.load_actor(repository, ACTOR))
    _refused(lambda: actors.list_actors(repository))


def key_file(data: bytes) -> None:
    """A key file holds a seed of 32 bytes, or is refused."""
    repository = _put(f"grit/actors/{ACTOR.hex()}/keys/signing.key", data)
    if not _refused(lambda: actors.read_signing_key(repository, ACTOR)):
        assert len(actors.read_signing_key(repository, ACTOR)) == 32


def agreed(data: bytes) -> None:
    """The file of remotes gives heads and counts; what it gives is written and read the same."""
    repository = _put("grit/remotes", data)
    known = remotes.load_agreed(repository)
    assert all(one.event_count >= 0 for one in known.values())
    remotes.save_agreed(repository, "origin", remotes.Agreed("a" * 40, 7))
    assert remotes.load_agreed(repository) == {
        **known,
        "origin": remotes.Agreed("a" * 40, 7),
    }


def queue(data: bytes) -> None:
    """A queue gives the entries that are whole; what they hold is decoded or foreign."""
    repository = _put("grit/queue", data)
    _put("grit/queue-taken", data[::-1])
    _refused(lambda: [(one.content, one.tip) for one in Spool(repository).read().entries])


def record(data: bytes) -> None:
    """Records that were vouched for are read, or not used."""
    with scratch().repository.private.open() as folder:
        vouch(folder, "verified", "verified-mark", data)
        vouch(folder, "snapshots.toml", "snapshots-mark", data)
    found = verified.load(scratch())
    assert found is None or isinstance(found.head, str)
    snapshot_record.load_newest(scratch())
    snapshot_record.load_verdicts(scratch())


def mark(data: bytes) -> None:
    """A mark is five numbers, or none; so are notes in lock files, and refs, whatever is there."""
    repository = _put("grit/verified-mark", data)
    for name in ("grit/config.toml.mark", "grit/view/writer.lock", "grit/wal.lock-file"):
        _put(name, data)
    _put("refs/grit/wal", data)
    with repository.private.open() as folder:
        found = read_mark(folder, "verified-mark")
    assert found is None or all(isinstance(one, int) for one in found)
    actors.is_config_ours(repository)
    pid, _ = WriterLock(repository.private.below("view")).holder()
    assert pid >= 0
    with FileLock(repository.private, "wal.lock-file") as lock:
        assert lock.held
    _refused(lambda: read_ref(repository, "refs/grit/wal"))
    _refused(lambda: Keeper(repository, 0))


def seen(data: bytes) -> None:
    """Notes about leases give times by commit, or nothing."""
    _put("grit/leases-seen", data)
    assert all(since_ms >= 0 for since_ms in lease_clock.read_seen(scratch().repository).values())


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "file-settings": settings,
    "file-actor": actor_file,
    "file-key": key_file,
    "file-remotes": agreed,
    "file-queue": queue,
    "file-record": record,
    "file-mark": mark,
    "file-seen": seen,
}
