"""A patient for doctor: a real repository with a log, and ways to hurt it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grit.core.codec import encode_chunk
from grit.core.events import Event
from grit.core.ids import ActorId
from grit.git.repository import discover
from grit.git.wal import Appended, Wal
from grit.services.checks import Check
from grit.services.doctor import Diagnosis, diagnose
from grit.services.workspace import Ports, Workspace, open_workspace
from tests.core.builders import ACTOR, NOW_MS

REF = "refs/grit/wal"
GRIT = [sys.executable, "-c", "from grit.cli.main import main; main()"]


class Patient:
    """A repository in a folder; every look at it opens it anew."""

    def __init__(self, folder: Path, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms
        self.folder = folder
        self.git_dir = folder / ".git"
        self.ref = self.git_dir / REF
        self.notices: list[str] = []

    def workspace(self, now_ms: int | None = None) -> Workspace:
        now = self.now_ms if now_ms is None else now_ms
        ports = Ports(dict(os.environ), lambda: now, os.urandom, self.notices.append)
        return open_workspace(str(self.folder), ports)

    def diagnose(
        self, *, fix: bool = False, thorough: bool = False, now_ms: int | None = None
    ) -> Diagnosis:
        workspace = self.workspace(now_ms)
        try:
            return diagnose(workspace, fix=fix, thorough=thorough)
        finally:
            workspace.close()

    def check(self, name: str, **options: Any) -> Check:
        return check_of(self.diagnose(**options), name)

    def trouble(self, **options: Any) -> dict[str, str]:
        """Return the status of every check that is not ok."""
        found = self.diagnose(**options).checks
        return {check.id: check.status for check in found if check.status != "ok"}

    def append(self, *events: Event, actor: ActorId = ACTOR) -> Appended:
        return self.append_chunk(encode_chunk(events), actor=actor)

    def append_chunk(self, chunk: bytes, *, actor: ActorId = ACTOR) -> Appended:
        """Put any bytes into the log as a chunk, as a foreign writer can."""
        wal = Wal(discover(str(self.folder), {}))
        with wal.lock():
            return wal.append(
                [chunk],
                old=wal.head(),
                message="by hand",
                trailers=(),
                ts_unix_ms=NOW_MS,
                actor_id=actor,
                event_count=1,
            )

    def grit(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*GRIT, *words], cwd=self.folder, capture_output=True, text=True, timeout=60
        )

    def data(self, *words: str) -> Any:
        """Run a command that must succeed and return its JSON data."""
        done = self.grit(*words, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)["data"]

    def refused(self, *words: str) -> str:
        """Run a command that must be refused, without a traceback; return what it said."""
        done = self.grit(*words)
        assert 0 < done.returncode < 10, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert "bug in grit" not in done.stderr
        return done.stderr

    def git(self, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *words], input=stdin, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def loose(self, oid: str) -> Path:
        """Return where an object lies, and let it be old: a new one that is missing comes back."""
        shutil.rmtree(self.git_dir / "grit" / "kept", ignore_errors=True)
        return self.git_dir / "objects" / oid[:2] / oid[2:]

    def objects(self) -> Sequence[str]:
        """Return the ids of the log's objects, the newest commit first."""
        return [line.split()[0] for line in self.git("rev-list", "--objects", REF).splitlines()]


def check_of(found: Diagnosis, name: str) -> Check:
    return next(check for check in found.checks if check.id == name)
