"""Where a clone's command server is, whether it runs, and how it is started (spec/daemon.md)."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from grit.core.errors import Busy, IoFailed
from grit.core.ids import parse_number
from grit.core.limits import SERVER_START_MS_MAX, SERVER_STOP_MS_MAX
from grit.files.lock import nap, try_lock, unlock
from grit.files.private import Folder, Opened, failed
from grit.git.repository import private_folder

State = dict[str, object]
Answer = TypeVar("Answer")

SERVER_LINK: Final = f"server-{os.getuid()}" if hasattr(os, "getuid") else ""
"""As in grit.launch, which imports nothing."""

AGAIN_S: Final = 10
"""A server that has just ended, or could not start, is not started again unasked at once."""
MODULE: Final = ("-P", "-m", "grit.daemon")
"""What Python is told to run; never what lies in the working directory, which is anybody's."""
_LOOK_MS: Final = 5.0

state: Callable[[], State] | None = None
"""Set in a process that runs a command for the server: returns what `daemon status` shows."""


class Place(NamedTuple):
    """The files of one user's server in a clone; `folder` is `<common dir>/grit`."""

    folder: str

    @property
    def private(self) -> Folder:
        """The folder, to open."""
        return private_folder(os.path.dirname(self.folder))

    @property
    def link(self) -> str:
        """A symbolic link to the socket, there while the server takes commands."""
        return f"{self.folder}/{SERVER_LINK}"

    @property
    def lock(self) -> str:
        """Held by the server as long as it runs; its pid is written in it."""
        return f"{self.link}.lock"

    @property
    def log(self) -> str:
        """What the server and its worker have to say."""
        return f"{self.link}.log"


def running_pid(place: Place) -> int | None:
    """Return the pid of the server that runs, or None; a stale file says nothing.

    Raises IoFailed when the lock cannot be looked at.
    """
    try:
        with place.private.open() as folder:
            fd = folder.open(f"{SERVER_LINK}.lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failed(f"cannot open {place.lock}", error) from error
    try:
        if try_lock(fd):
            unlock(fd)
            return None
        pid = os.read(fd, 20).split(b"\n")[0]
        return parse_number(pid) or 0
    finally:
        os.close(fd)


def start_unasked(folder: str, environ: Mapping[str, str]) -> None:
    """Start a server in the background when nothing speaks against it; never fails, never waits."""
    place = Place(folder)
    try:
        if _may_start(place) and running_pid(place) is None:
            _spawn(folder, environ)
    except (OSError, IoFailed):
        return


def _may_start(place: Place) -> bool:
    """Whether this is a clone of this user's where nothing speaks against it; raises OSError."""
    with place.private.open() as folder:
        found = folder.look(f"{SERVER_LINK}.lock")
        if found is not None and 0 <= time.time() - found.st_mtime < AGAIN_S:
            return False
        above = os.stat(os.path.dirname(place.folder))
        if {(found or above).st_uid, above.st_uid} != {os.getuid()}:
            return False
        # The launcher only guesses: a folder named grit can be anything.
        is_git = os.path.lexists(f"{os.path.dirname(place.folder)}/HEAD")
        return is_git and not _is_refused(folder)


def _is_refused(folder: Opened) -> bool:
    """Whether the settings say no; they are parsed only where the word stands in them."""
    try:
        data = folder.read("config.toml")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    if b"autostart" not in data:
        return False
    from grit.git.actors import ConfigDamaged, parse_toml

    try:
        daemon = parse_toml(data, "config.toml").get("daemon", {})
    except ConfigDamaged:
        return True
    return not (isinstance(daemon, dict) and daemon.get("autostart", True) is True)


def _spawn(folder: str, environ: Mapping[str, str]) -> int:
    """Start the server; it has nothing of this process but the environment. Raises OSError."""
    null = os.devnull
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *MODULE, folder],
        environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),
        ],
    )


def start(place: Place, environ: Mapping[str, str]) -> tuple[int, bool]:
    """Start a server and wait until it takes commands; return its pid and whether it is new.

    Raises IoFailed with the end of its log when it does not come up.
    """
    pid = running_pid(place)
    if pid and os.path.islink(place.link):
        return pid, False
    make_folder(place)
    try:
        _spawn(place.folder, environ)
    except OSError as error:
        raise failed("cannot start the server", error) from error
    found = _wait_for(lambda: _up(place), SERVER_START_MS_MAX)
    if found is None:
        said = log_lines(place, 1)
        raise IoFailed(f"the server did not start; {said[-1] if said else 'its log is empty'}")
    return found, True


def make_folder(place: Place) -> None:
    """Make grit's folder where there is none; raises IoFailed."""
    try:
        place.private.open(make=True).close()
    except OSError as error:
        raise failed("cannot start the server", error) from error


def _up(place: Place) -> int | None:
    return running_pid(place) if os.path.islink(place.link) else None


def stop(place: Place) -> int | None:
    """End the server and wait for it; return the pid it had, None when none ran.

    Raises Busy when it is still there after its time.
    """
    import signal

    pid = running_pid(place)
    if not pid:
        return None
    try:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return pid
    if _wait_for(lambda: running_pid(place) is None, SERVER_STOP_MS_MAX) is None:
        raise Busy(f"the server (pid {pid}) has not ended yet", pid=pid)
    return pid


def _wait_for(ask: Callable[[], Answer], wait_ms_max: int) -> Answer | None:
    """Return the first answer that is true, None when there was none in time."""
    deadline = time.monotonic() + wait_ms_max / 1000
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        nap(_LOOK_MS)
    return None


def open_log(place: Place, flags: int) -> int:
    """Open the log, which must be a plain file; raises OSError.

    A link could lead to any file of this user, and a pipe stop whoever opens it.
    """
    with place.private.open() as folder:
        return folder.open(f"{SERVER_LINK}.log", flags, 0o600)


def log_lines(place: Place, count: int) -> list[str]:
    """Return the last lines of the server's log; raises IoFailed when it cannot be read."""
    try:
        with place.private.open() as folder:
            said = folder.read(f"{SERVER_LINK}.log", cut=True)
        return said.decode(errors="replace").removesuffix("\n").split("\n")[-count:] if said else []
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failed(f"cannot read {place.log}", error) from error
