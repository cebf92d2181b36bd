"""One shell line run twice, by a process of its own and by a clone's server, and compared.

Two kinds of wrappers stand for `grit` on the path. One has the clone's server started before the
command, so that the first one is served already, stops its worker, which might mend what a session
has broken before a command can say so, and notes each call. The other cannot run a command itself:
it is served, or fails.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.daemon.warm import alive, kill, wait_for

PROGRAMS = Path(sys.executable).parent
TIMEOUT_S = 120
TRIES = 5
_WRAPPER = """#!/bin/sh
case $1 in -C) where=$2 ;; *) where=. ;; esac
common=$(git -C "$where" rev-parse --path-format=absolute --git-common-dir 2>/dev/null)
if [ -d "$common/grit" ] && ! [ -L "$common/grit/server-$(id -u)" ]; then
    {programs}/grit -C "$where" daemon start </dev/null >/dev/null 2>&1
fi
server=$(head -n 1 "$common/grit/server-$(id -u).lock" 2>/dev/null)
for child in $(cat "/proc/$server/task/$server/children" 2>/dev/null); do
    ls -l "/proc/$child/fd" 2>/dev/null | grep -q inotify && kill -STOP "$child"
done
echo x >>"$GRIT_TEST_CALLS"
exec {programs}/{name} "$@"
"""
_SERVED_ONLY = """#!{python}
import sys
sys.modules["grit.cli.main"] = None
from grit.launch import main
main()
"""


class Answer(NamedTuple):
    """All that a command shows of itself."""

    status: int
    out: bytes
    err: bytes


class Runtime:
    """A private folder for sockets, whose servers all end with the test."""

    def __init__(self, folder: Path) -> None:
        """Put the wrappers into `folder`."""
        self.folder = Path(tempfile.mkdtemp(prefix="grit-", dir="/tmp"))
        self.calls = folder / "calls"
        self.environ = {
            **{name: value for name, value in whole({}).items() if name.startswith("PYTHON")},
            "XDG_RUNTIME_DIR": str(self.folder),
            "GRIT_NO_DAEMON": "",
            "GRIT_TEST_CALLS": str(self.calls),
        }
        """What lets servers start here, and nowhere else."""
        self._warming, self._served_only = folder / "warming", folder / "served"
        for name in ("grit", "git-grit"):
            _program(self._warming / name, _WRAPPER.format(programs=PROGRAMS, name=name))
            _program(self._served_only / name, _SERVED_ONLY.format(python=sys.executable))

    @property
    def warming(self) -> dict[str, str]:
        """The same, and each clone's server is started before its first command."""
        return {**self.environ, "PATH": _before_path(self._warming, PROGRAMS)}

    @property
    def served_only(self) -> dict[str, str]:
        """The same, and a command that is not served fails."""
        return {**self.environ, "PATH": _before_path(self._served_only, PROGRAMS)}

    def servers(self) -> list[int]:
        """Return the pids of all processes that use this folder and are of a server."""
        mark = f"XDG_RUNTIME_DIR={self.folder}".encode()
        found = []
        for name in os.listdir("/proc"):
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes() if name.isdigit() else b""
                words = Path(f"/proc/{name}/cmdline").read_bytes() if environ else b""
            except OSError:
                continue
            if mark in environ.split(b"\0") and b"grit.daemon" in words.split(b"\0"):
                found.append(int(name))
        return found

    def end(self) -> None:
        """Kill every server and wait until it is gone."""
        for _ in range(TRIES):
            for pid in self.servers():
                kill(pid)
        wait_for(lambda: not any(alive(pid) for pid in self.servers()))
        shutil.rmtree(self.folder, ignore_errors=True)  # one that is being started may come late


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _before_path(*folders: Path) -> str:
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


@contextmanager
def runtime(folder: Path) -> Iterator[Runtime]:
    """Make a folder for sockets; no server outlives the block."""
    made = Runtime(folder)
    try:
        yield made
    finally:
        made.end()


def whole(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the tests' environment with that on top."""
    mine = {**os.environ, "PATH": _before_path(PROGRAMS)}
    mine.pop("PYTHONUNBUFFERED", None)
    mine.pop("CI", None)
    return {**mine, **environ}


def answer(line: str, folder: Path, environ: Mapping[str, str]) -> Answer:
    """Run a shell line; return what came of it."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=whole(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def without_ids(found: Answer) -> Answer:
    """Replace ids and times, which no two commands that write have in common."""
    return found._replace(
        out=re.sub(rb"\b(?=[a-f]*\d)[0-9a-f]{7,}\b|\b\d+ s ago\b", b"#", found.out),
        err=re.sub(rb"\b(?=[a-f]*\d)[0-9a-f]{7,}\b", b"#", found.err),
    )


def children_of(pid: int) -> list[int]:
    """Return the pids of the children that a process has now."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]
