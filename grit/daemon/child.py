"""One process of the server: waits for a caller, becomes the command, and ends (spec/daemon.md)."""

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, NoReturn

from grit.cli import foreground
from grit.cli.foreground import RunLocally
from grit.core.limits import SERVER_REQUEST_BYTES_MAX
from grit.launch import GREETING, RUN_IT_YOURSELF, peer_uid, send
from grit.services import session

REQUEST_S: Final = 5.0
"""Who has called sends the command at once, or is dropped."""
_HEAD_BYTES: Final = 8
_DESCRIPTORS: Final = 4
_PIECE_BYTES: Final = 1 << 16

ACCEPTED: Final = "A"
ENDED: Final = "E"
NOTIFIED: Final = "N"
STALE: Final = "S"
"""What a child tells the server: a line of one of these, its pid, and its time in microseconds."""


class Request(NamedTuple):
    """A command as the launcher sends it."""

    umask: int
    terminal: bool
    ignored: list[int]
    directory: bytes
    args: list[str]
    environ: dict[bytes, bytes]


class Ends(NamedTuple):
    """The descriptors that a child has from the server."""

    listener: socket.socket
    alive: int
    """Ends when the server is gone."""
    report: int


Run = Callable[[list[str]], int]


def serve_one(ends: Ends, fresh: Callable[[], bool], run: Run, practice: Run) -> NoReturn:
    """Wait for one caller, run its command by `run`, and end this process.

    `fresh` says whether the code on disk is still that of this process; `practice` is run before.
    """
    status = 0
    try:
        os.setpgid(0, 0)
        if not select.select([ends.listener.fileno(), ends.alive], [], [], 0)[0]:
            _practise(fresh, practice)
        connection = _caller(ends)
        if connection is not None:
            _tell(ends.report, ACCEPTED, os.getpid())
            ends.listener.close()
            os.close(ends.alive)
            _converse(connection, ends.report, fresh, run)
    except BaseException:  # noqa: BLE001  # nothing of the server's own code may run after this
        status = 1
    os._exit(status)


def _caller(ends: Ends) -> socket.socket | None:
    """Wait for a caller; None when the server is gone."""
    waiting = select.poll()
    waiting.register(ends.listener, select.POLLIN)
    waiting.register(ends.alive, select.POLLIN)
    while True:
        for fd, _ in waiting.poll():
            if fd == ends.alive:
                return None
            try:
                return ends.listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                pass  # another was faster


def _practise(fresh: Callable[[], bool], practice: Run) -> None:
    """Have a command run for nobody, before there is a caller who waits.

    What a process touches for the first time after a fork costs more time than the command.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    here, there = socket.socketpair()
    with here, there:
        send(there, ["ls"], [])
        _converse(here, nowhere, fresh, practice, practising=True)
    os.close(nowhere)


def _converse(
    connection: socket.socket,
    report: int,
    fresh: Callable[[], bool],
    run: Run,
    *,
    practising: bool = False,
) -> None:
    started = time.monotonic_ns()
    pid = os.getpid()
    if not fresh():
        _tell(report, STALE, pid)
        return
    if peer_uid(connection) != os.getuid():
        return
    connection.settimeout(REQUEST_S)
    connection.sendall(GREETING + b"%d" % pid)
    received = _receive(connection)
    if received is None:
        return
    request, descriptors = received
    connection.setblocking(True)
    if not _become(request, descriptors):
        connection.sendall(RUN_IT_YOURSELF)
        return
    if request.args == ["daemon", "notify"]:
        _tell(report, NOTIFIED, pid)
        connection.sendall(b"0")
        return
    if not practising:
        _end_with(connection)
    try:
        status = run(request.args)
    except RunLocally:
        connection.sendall(RUN_IT_YOURSELF)
        return
    _tell(report, ENDED, pid, (time.monotonic_ns() - started) // 1000)
    connection.sendall(b"%d" % status)


def _tell(report: int, what: str, pid: int, spent_us: int = 0) -> None:
    """Say it in one write, so that what several say does not mix."""
    os.write(report, f"{what} {pid} {spent_us}\n".encode())


def _receive(connection: socket.socket) -> tuple[Request, list[int]] | None:
    """Return a command and its descriptors, None when the caller has gone or sends nonsense."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * struct.calcsize("i"))
    try:
        data, passed, _flags, _address = connection.recvmsg(_PIECE_BYTES, room)
    except TimeoutError:
        return None
    if len(passed) != 1 or len(data) < _HEAD_BYTES:
        return None
    descriptors = list(struct.unpack(f"{_DESCRIPTORS}i", passed[0][2]))
    size = int.from_bytes(data[:_HEAD_BYTES], "big")
    if size > SERVER_REQUEST_BYTES_MAX:
        return None
    pieces = [data[_HEAD_BYTES:]]
    missing = size - len(pieces[0])
    while missing > 0:
        piece = connection.recv(min(missing, _PIECE_BYTES))
        if not piece:
            return None
        pieces.append(piece)
        missing -= len(piece)
    return _read(b"".join(pieces)), descriptors


def _read(body: bytes) -> Request:
    head, ignored, directory, *words = body.split(b"\0")
    umask, terminal, count = map(int, head.split())
    environ = {}
    for word in words[count:]:
        name, _, value = word.partition(b"=")
        environ[name] = value
    return Request(
        umask=umask,
        terminal=bool(terminal),
        ignored=[int(number) for number in ignored.split()],
        directory=directory,
        args=[os.fsdecode(word) for word in words[:count]],
        environ=environ,
    )


def _become(request: Request, descriptors: list[int]) -> bool:
    """Take over the caller's descriptors, directory, environment and so on.

    False when this process would not behave as one that the caller starts: another encoding,
    other settings of Python, another view of the file system.
    """
    if interpreter_settings(request.environ) != interpreter_settings(os.environb):
        return False
    *streams, directory = descriptors
    os.fchdir(directory)
    os.close(directory)
    if os.getcwdb() != request.directory:
        return False
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.umask(request.umask)
    zone = os.environb.get(b"TZ")
    os.environb.clear()
    os.environb.update(request.environ)
    if zone != os.environb.get(b"TZ"):
        time.tzset()
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    sys.argv[:] = ["grit", *request.args]
    _open_streams()
    foreground.served = True
    foreground.terminal = request.terminal
    return True


def interpreter_settings(environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what decides how Python itself behaves: its own variables and the encoding."""
    encoding = environ.get(b"LC_ALL") or environ.get(b"LC_CTYPE") or environ.get(b"LANG") or b""
    return {b"": encoding} | {
        name: value for name, value in environ.items() if name.startswith(b"PYTHON")
    }


def _open_streams() -> None:
    """Open the standard streams as Python does when it starts."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115  # it stays open
            number,
            "w" if number else "r",
            encoding=before.encoding,
            errors=before.errors,
            newline="\n" if number else None,
            closefd=False,
        )
        if name == "stderr":
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _end_with(connection: socket.socket) -> None:
    """Let this process be killed when its caller is, as a command of the caller's own would be."""
    if sys.platform == "linux":
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        session.caller_pid = struct.unpack("3i", peer)[0]
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
