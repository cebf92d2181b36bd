"""Sessions that ask for leases: clones of one bare repository, with one fake clock."""

import os
import pickle
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from grit.core.errors import Conflict, GritError
from grit.core.lease import Lease, Resource, parse_resource
from grit.git.leases import LockRef, list_locks
from grit.services import leases
from grit.services.leases import Wish
from grit.services.workspace import Ports, Workspace, open_workspace
from tests.core.builders import NOW_MS

TTL_MS: Final = 60_000


def git(folder: Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class Session:
    """One session in one clone; every call opens the clone anew, as a command does."""

    def __init__(self, folder: Path, name: str, now_ms: int = NOW_MS) -> None:
        self.folder = folder
        self.name = name
        self.now_ms = now_ms
        self.notices: list[str] = []

    def use(self, work: Callable[[Workspace], Any]) -> Any:
        environ = {**os.environ, "GRIT_SESSION": self.name}
        ports = Ports(environ, lambda: self.now_ms, os.urandom, self.notices.append)
        workspace = open_workspace(str(self.folder), ports)
        try:
            return work(workspace)
        finally:
            workspace.close()

    def acquire(self, text: str, ttl_ms: int = TTL_MS, **more: Any) -> Lease:
        resource = _resource(text)
        lease: Lease = self.use(
            lambda w: leases.acquire(w, Wish(resource, leases.holder(w), ttl_ms), **more).lease
        )
        return lease

    def renew(self, text: str, ttl_ms: int = TTL_MS, **more: Any) -> Lease:
        resource = _resource(text)
        lease: Lease = self.use(
            lambda w: leases.renew(w, resource, leases.holder(w), ttl_ms, **more)
        )
        return lease

    def release(self, text: str, **more: Any) -> Lease:
        resource = _resource(text)
        lease: Lease = self.use(lambda w: leases.release(w, resource, leases.holder(w), **more))
        return lease

    def refused(self, text: str, **more: Any) -> str:
        """Ask for a lease that somebody else has; return what the refusal says."""
        try:
            self.acquire(text, **more)
        except Conflict as conflict:
            assert conflict.details["resource"]
            return conflict.message
        raise AssertionError(f"{self.name} got {text}")

    def status(self) -> leases.Status:
        """Return what is leased, the remote asked."""
        return self.use(lambda workspace: leases.status(workspace, remote=True))

    def live(self) -> list[str]:
        """Return the resources that are leased now, as `status` says."""
        found = self.status().leases
        return sorted(
            lock.lease.resource.text
            for lock in found
            if lock.lease and lock.lease.live(self.now_ms)
        )

    def locks(self) -> list[LockRef]:
        found: list[LockRef] = self.use(lambda w: list_locks(w.wal))
        return found


def _resource(text: str) -> Resource:
    return parse_resource(text)


def clone(tmp_path: Path, name: str, remote: Path | None = None) -> Path:
    """Make a repository with an actor, and with a bare one as `origin` where one is given."""
    folder = tmp_path / name
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    if remote is not None:
        git(folder, "remote", "add", "origin", str(remote))
    Session(folder, "setup").use(leases.holder)
    return folder


def bare(tmp_path: Path) -> Path:
    folder = tmp_path / "shared.git"
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    return folder


class Raced(NamedTuple):
    """How one racer ended: its lease, or the code and words of the error."""

    lease: Lease | None
    code: str
    words: str


def race(sessions: Sequence[Session], text: str) -> list[Raced]:
    """Let processes ask for one resource at the same moment; return how each ended."""
    start_read, start_write = os.pipe()
    runners = []
    for session in sessions:
        result_read, result_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run_racer(session, text, start_read, start_write, result_write)
        os.close(result_write)
        runners.append((pid, result_read))
    os.close(start_read)
    os.close(start_write)
    results = []
    for pid, result_read in runners:
        with os.fdopen(result_read, "rb") as file:
            data = file.read()
        os.waitpid(pid, 0)
        results.append(pickle.loads(data))
    return results


def _run_racer(session: Session, text: str, start_read: int, start_write: int, to: int) -> None:
    status = 1
    try:
        os.close(start_write)
        os.read(start_read, 1)  # returns when the parent closes the last writing end
        try:
            raced = Raced(session.acquire(text), "", "")
        except GritError as error:
            raced = Raced(None, error.code, error.message)
        os.write(to, pickle.dumps(raced))
        status = 0
    finally:
        os._exit(status)


def two_clones(tmp_path: Path) -> tuple[Session, Session]:
    """Return sessions in two clones of one bare repository, and so of two actors."""
    shared = bare(tmp_path)
    return (
        Session(clone(tmp_path, "one", shared), "first"),
        Session(clone(tmp_path, "two", shared), "second"),
    )
