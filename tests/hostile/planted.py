"""Something else at a name of grit's, and a command run beside it in a bounded process."""

import atexit
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from grit.cli.main import program
from grit.files.names import NAMES, Kind

PRECIOUS: Final = "precious words of the user, which nobody may show\n"
MEMORY_BYTES_MAX: Final = 3 << 30
SECONDS_MAX: Final = 10
STRANGER: Final = 54_321
HUGE_BYTES: Final = 1 << 32


class Place(NamedTuple):
    """One name of the table, as it stands in this clone."""

    path: str
    """From the top of the working tree."""
    kind: Kind


def places(actor_id: str) -> Iterator[Place]:
    """Yield every name of the table; what may be any name is given one."""
    for heading, names in NAMES.items():
        if heading in ("refs", "objects"):
            continue  # git's own have a test of their own
        folder = "" if heading == "worktree" else f".git/{heading}/".replace("//", "/")
        for name, named in names.items():
            own = actor_id if name == "*" else name.replace("server-*", f"server-{os.getuid()}")
            path = f"{folder.replace('*', actor_id)}{own.replace('*', '1-aaaa')}"
            yield Place(path, named.kind)


def _to_a_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "file")


def _to_a_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "folder")


def _to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "nothing")


def _to_zero(path: Path, _outside: Path) -> None:
    path.symlink_to("/dev/zero")


def _pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, _outside: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(before)


def _device(path: Path, _outside: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def _foreign_file(path: Path, _outside: Path) -> None:
    path.write_text(PRECIOUS)
    os.chown(path, STRANGER, STRANGER)


def _foreign_folder(path: Path, _outside: Path) -> None:
    path.mkdir()
    (path / "file").write_text(PRECIOUS)
    os.chown(path, STRANGER, STRANGER)


def _huge(path: Path, _outside: Path) -> None:
    path.touch()
    os.truncate(path, HUGE_BYTES)


KINDS: Final[dict[str, Callable[[Path, Path], None]]] = {
    "a link to a file": _to_a_file,
    "a link to a folder": _to_a_folder,
    "a link to nothing": _to_nothing,
    "a link to /dev/zero": _to_zero,
    "a pipe": _pipe,
    "a socket": _socket,
    "a device": _device,
    "a file of another user": _foreign_file,
    "a folder of another user": _foreign_folder,
    "a huge file": _huge,
}
FOR_ROOT: Final = frozenset({"a device", "a file of another user", "a folder of another user"})


class Scene:
    """A copy of a clone with something planted in it, beside what nobody may touch."""

    def __init__(self, clone: Path, folder: Path, place: Place, kind: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.clone = folder / "clone"
        self._outside = folder / "outside"
        self._temporary = folder / "tmp"
        self._said = folder / "said"
        shutil.copytree(clone, self.clone, symlinks=True)
        self._temporary.mkdir()
        self._fill()
        path = self.clone / place.path
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind](path, self._outside)
        self._before = self.surroundings()

    def _fill(self) -> None:
        """Have files under the names that grit would use through a link to a folder."""
        inner = self._outside / "folder"
        for name in ("build", "view", "actors", "keys"):
            (inner / name).mkdir(parents=True)
        for name in ("config.toml", "data.mdb", "lock.mdb", "mark", "writer.lock", "build/keep"):
            (inner / name).write_text(PRECIOUS)
        (self._outside / "file").write_text(PRECIOUS)

    def surroundings(self) -> dict[str, object]:
        """Return all that lies outside the git directory, with what tells a touch."""
        found: dict[str, object] = {}
        for top in (self._outside, self.clone):
            for base, folders, files in os.walk(top):
                if ".git" in folders:
                    folders.remove(".git")
                for name in (*folders, *files):
                    path = Path(base, name)
                    seen = path.lstat()
                    small = stat.S_ISREG(seen.st_mode) and seen.st_size < HUGE_BYTES
                    content = path.read_bytes() if small else b""
                    found[str(path)] = (seen.st_mode, seen.st_mtime_ns, seen.st_uid, content)
        return found

    def run(self, words: tuple[str, ...]) -> str:
        """Run a command to its end, and return what is wrong; "" when nothing is."""
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            self._become(list(words))
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() - started > SECONDS_MAX:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return f"it hangs: {self.said()}"
            time.sleep(0.002)
        status = os.waitstatus_to_exitcode(ended[1])
        said = self.said()
        if status not in (0, 1, 2, 3, 4, 5):
            return f"exit {status}: {said}"
        if "Traceback" in said or "bug in grit" in said or "precious words" in said:
            return said
        changed = set(self._before.items()) ^ set(self.surroundings().items())
        changed = {(path, what) for path, what in changed if "AGENTS.md" not in path}
        if changed:
            return f"touched outside: {sorted(path for path, _ in changed)}"
        left = os.listdir(self._temporary)
        return f"left in the temporary folder: {left}" if left else ""

    def said(self) -> str:
        """Return what the command printed."""
        return self._said.read_text(errors="replace")[-2000:]

    def _become(self, words: list[str]) -> None:
        status = 99
        try:
            atexit._clear()
            os.chdir(self.clone)
            os.environ["TMPDIR"] = str(self._temporary)
            if "tempfile" in sys.modules:
                sys.modules["tempfile"].tempdir = None
            here = os.open(self._said, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            for number, fd in ((0, os.open(os.devnull, os.O_RDONLY)), (1, here), (2, here)):
                os.dup2(fd, number)
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
            status = program(words)
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001  # whatever it was, the test is told
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)


def git(folder: Path, *words: str) -> None:
    """Run git; a failure fails the test."""
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, timeout=60)
