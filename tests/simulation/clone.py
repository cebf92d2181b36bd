"""A real clone for simulations: services in this process, git by hand, writes that are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from grit.core import signing
from grit.core.errors import GritError
from grit.core.ids import ActorId, EventId
from grit.git.actors import create_actor, set_config
from grit.services.decoding import decoded
from grit.services.export import Asked, export
from grit.services.workspace import Ports, Workspace, open_workspace

REF = "refs/grit/wal"
TIMEOUT_S = 120
REFUSED_STATUS = 3
_BOUNDARIES = frozenset(
    "open write link rename replace unlink remove fsync mkdir makedirs utime close flock put "
    "putmulti begin commit delete sync fork_exec".split()
)
"""Calls at which a fuse burns: what reaches the disk, and what starts a process."""


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which git and grit depend on nothing but the repository."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def git(
    folder: Path, environ: Mapping[str, str], *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run git in a folder and return what it did, whatever its status."""
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "gc.auto=0", *words],
        env=dict(environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def git_ok(folder: Path, environ: Mapping[str, str], *words: str, stdin: str = "") -> str:
    """Run git and return what it printed; a failure fails the run."""
    done = git(folder, environ, *words, stdin=stdin)
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def make_keys(seed: int, count: int) -> list[bytes]:
    """Return the secrets of the actors that a world's clones share."""
    return [Random(f"{seed}/actor/{n}").randbytes(32) for n in range(count)]


class Clone:
    """One clone of a remote; every look at it opens it anew, as a command does."""

    def __init__(self, folder: Path, environ: Mapping[str, str], seed: str) -> None:
        self.folder = folder
        self.name = folder.name
        self.environ = environ
        self.clock_ms = 0
        self.now_ms = 0
        self.actor = ""
        self.notices: list[str] = []
        self._random = Random(seed)

    def set_up(self, hub: Path, secrets: list[bytes]) -> None:
        """Clone the remote and give the clone actors with these keys."""
        git_ok(hub, self.environ, "clone", "-q", str(hub), str(self.folder))
        git_ok(self.folder, self.environ, "config", "gc.auto", "0")
        refspec = "+refs/grit/*:refs/grit-remotes/origin/*"
        git_ok(self.folder, self.environ, "config", "--add", "remote.origin.fetch", refspec)
        with self.opened() as workspace:
            for number, secret in enumerate(secrets):
                actor_id, public = _actor_of(secret)
                create_actor(
                    workspace.repository,
                    actor_id,
                    label=f"actor{number}",
                    created_ts=0,
                    public_key=public,
                    seed=secret,
                )
            first = _actor_of(secrets[0])[0]
            set_config(workspace.repository, "default_actor", first.hex())

    @contextmanager
    def opened(self) -> Iterator[Workspace]:
        """Give the workspace at the clone's own time."""
        environ = {**self.environ, "GRIT_ACTOR": self.actor} if self.actor else self.environ
        now_ms = self.now_ms + self.clock_ms
        ports = Ports(environ, lambda: now_ms, self._random.randbytes, self.notices.append)
        workspace = open_workspace(str(self.folder), ports)
        try:
            yield workspace
        finally:
            workspace.close()

    def git(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run git in the clone."""
        return git(self.folder, self.environ, *words)

    def head(self) -> str:
        """Return the head of the log, or nothing."""
        return self.git("for-each-ref", "--format=%(objectname)", REF).stdout.strip()

    def events(self) -> Counter[EventId]:
        """Return how often each event stands in the chunks of the log."""
        with self.opened() as workspace:
            return events_of(workspace)

    def exported(self) -> tuple[Any, str]:
        """Return everything the clone shows: the issues, and all as one text."""
        with self.opened() as workspace:
            pieces = export(workspace, Asked(attachments=True))
            document = json.loads("".join(pieces))
        document["meta"].pop("generated_ts")
        return document, json.dumps(document, sort_keys=True)

    def drop_view(self) -> None:
        """Delete the cache."""
        shutil.rmtree(self.folder / ".git/grit/view", ignore_errors=True)

    def copy_to(self, target: Path) -> None:
        """Make a backup of the git directory."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.folder / ".git", target)

    def copy_from(self, source: Path) -> None:
        """Come back from a backup."""
        shutil.rmtree(self.folder / ".git")
        shutil.copytree(source, self.folder / ".git")


def events_of(workspace: Workspace) -> Counter[EventId]:
    """Return how often each event stands in the chunks of the log; damage fails the run."""
    head = workspace.wal.head()
    found: Counter[EventId] = Counter()
    if head is not None:
        for _, chunk in decoded(workspace.wal.read(head, None), whole_log=False):
            assert not chunk.problems, chunk.problems
            found.update(event.event_id for event, _ in chunk.records)
    return found


def _actor_of(secret: bytes) -> tuple[ActorId, bytes]:
    public = signing.public_key(secret)
    return signing.actor_id_of(public), public


def actor_ids(secrets: list[bytes]) -> list[str]:
    """Return the ids of the actors with these keys, in hex."""
    return [_actor_of(secret)[0].hex() for secret in secrets]


def killed_after(act: Callable[[], object], fuse: int) -> str:
    """Run `act` in a forked child that is killed, with all it started, at its `fuse`th boundary.

    Return "killed", "done" when it ended before, or "refused". The database must not be open here.
    """
    pid = os.fork()
    if pid == 0:
        _run_child(act, fuse)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"the child died of {os.WTERMSIG(status)}"
        return "killed"
    ended = {0: "done", REFUSED_STATUS: "refused"}.get(os.WEXITSTATUS(status))
    assert ended is not None, "the child broke; see its traceback"
    return ended


def _run_child(act: Callable[[], object], fuse: int) -> None:
    status = 70
    try:
        os.setpgid(0, 0)
        left = fuse

        def burn(_frame: object, event: str, called: Any) -> None:
            nonlocal left
            if event == "c_call" and called.__name__ in _BOUNDARIES:
                left -= 1
                if left <= 0:
                    os.killpg(0, signal.SIGKILL)

        sys.setprofile(burn)
        act()
        sys.setprofile(None)
        status = 0
    except GritError:
        status = REFUSED_STATUS
    except BaseException:  # noqa: BLE001  (the parent must not run twice, whatever happens here)
        sys.setprofile(None)
        traceback.print_exc()
    finally:
        os._exit(status)
