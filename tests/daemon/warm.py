"""A clone whose commands may be served: its server is started, looked at, and always ended."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grit.services.server_place import Place, running_pid

GRIT = str(Path(sys.executable).with_name("grit"))
WAIT_S = 20.0


class Clone:
    """A repository with grit in it, and a way to run commands there."""

    def __init__(self, folder: Path, runtime: str) -> None:
        """Take a git repository, and a folder for sockets."""
        self.folder = folder
        self.place = Place(str((folder / ".git" / "grit").resolve()))
        kept = {name: value for name, value in os.environ.items() if name != "GRIT_NO_DAEMON"}
        self.environ = {**kept, "XDG_RUNTIME_DIR": runtime}
        self.environ.pop("CI", None)

    def start(self, *args: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [GRIT, *args],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, whatever that is."""
        with self.start(*args, **environ) as process:
            out, error = process.communicate(timeout=60)
        return subprocess.CompletedProcess(args, process.returncode, out, error)

    def grit(self, *args: str, **environ: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*args, **environ)
        assert done.returncode == 0, done
        return done.stdout

    def alone(self, *args: str) -> str:
        """Run a command without any server."""
        return self.grit(*args, GRIT_NO_DAEMON="1")

    def pid(self) -> int | None:
        """The server's pid, None when none runs."""
        return running_pid(self.place)

    def up(self) -> int:
        """Start the server, if none runs; return its pid."""
        self.grit("daemon", "start")
        pid = self.pid()
        assert pid
        return pid

    def served(self) -> int:
        """How many commands the server has run."""
        return int(self.state()["commands"])  # type: ignore[call-overload]

    def state(self) -> dict[str, object]:
        """What `daemon status` shows."""
        import json

        data: dict[str, object] = json.loads(self.grit("daemon", "status", "--json"))["data"]
        return data

    def end(self) -> None:
        """Kill the server, if one runs, and wait until it is gone."""
        if pid := self.pid():
            kill(pid)
            wait_for(lambda: self.pid() is None)


@contextmanager
def clone(folder: Path) -> Iterator[Clone]:
    """Make a repository with grit; no server of it outlives the block."""
    runtime = tempfile.mkdtemp(prefix="grit-", dir="/tmp")
    subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=30)
    made = Clone(folder, runtime)
    made.alone("init")
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(runtime, ignore_errors=True)  # a waiting process may still practise there


def wait_for(true: Callable[[], object], seconds: float = WAIT_S) -> None:
    """Wait until it is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def kill(pid: int) -> None:
    """Kill a process that may have ended by itself since it was seen."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    """The processes that it has started, and that have not been waited for."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
