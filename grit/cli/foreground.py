"""What a command that runs for another process must leave to it (spec/daemon.md, Terminals)."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket

served = False
"""Whether this process runs a command for the launcher, outside of its session."""
terminal = True
"""Whether programs that the launcher starts could ask a question on a terminal."""
launcher: "socket | None" = None
"""The connection to the launcher, where one has sent this command."""
_left: list[Callable[[], None]] = []


class RunLocally(BaseException):
    """The launcher is to run this command itself; nothing has been done yet."""


class LaunchersPager:
    """A pager that the launcher has started, with as much of Popen as is needed."""

    def __init__(self, stdin: IO[bytes], reply: int) -> None:
        """Take its standard input, and what the launcher tells of its end."""
        self.stdin: IO[bytes] | None = stdin
        self.returncode: int | None = None
        self._reply = reply

    def wait(self) -> None:
        """Wait until it has ended, or the launcher has."""
        self.returncode = int(os.read(self._reply, 16) or 1)


def leave_to_launcher(*, always: bool = False) -> None:
    """Raise RunLocally where a program with a terminal of its own is about to be started.

    Only before the command has had any effect: an editor, a git that asks for a password.
    """
    if served and (terminal or always):
        raise RunLocally


def start_pager(command: list[str], environ: dict[str, str]) -> LaunchersPager:
    """Have the launcher start a pager, in the session that the terminal belongs to.

    `environ` goes below the launcher's own. Raises OSError when it cannot be started.
    """
    import socket

    from grit.pager import FAILED, PAGER

    assert launcher is not None
    words = [*command, "", *(f"{name}={value}" for name, value in environ.items())]
    message = PAGER + "\0".join(words).encode(errors="surrogateescape")
    theirs, ours = os.pipe()
    reply, their_reply = os.pipe()
    socket.send_fds(launcher, [message], [theirs, their_reply])
    os.close(theirs)
    os.close(their_reply)
    if os.read(reply, 1) in (b"", FAILED):
        os.close(reply)
        os.close(ours)
        raise OSError(f"cannot start {command[0]}")
    return LaunchersPager(open(ours, "wb"), reply)  # closed by who writes


def later(work: Callable[[], None], close: Callable[[], None]) -> None:
    """Do the work: for another process after its command has been answered, else at once.

    `close` gives back what the work opened again.
    """
    if served:
        _left.extend((work, close))
    else:
        work()


def is_done() -> bool:
    """Return whether nothing was left for after the answer."""
    return not _left


def do_the_rest() -> None:
    """Do what was left for after the answer; nobody hears any more what goes wrong there."""
    for work in _left:
        with suppress(Exception):
            work()
