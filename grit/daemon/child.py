"""One process of the server: waits for a caller, becomes the command, and ends (spec/daemon.md)."""

import atexit
import fcntl
import io
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
_PEER: Final = (socket.SOL_SOCKET, getattr(socket, "SO_PEERCRED", 0))
_SO_PEERGROUPS: Final = 59
_GROUPS_MAX: Final = 256
_SURROUNDINGS: Final = ("root", "ns/mnt", "ns/net", "ns/pid", "ns/user")
"""Below /proc/<pid>: what decides which files, remotes and processes there are."""
_FILES_MIN: Final = 64
"""A few more files are open here than in a process of the caller's own."""
_LIMITS: Final = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_NAMES_OF_ITS_OWN: Final = (b"/dev/fd/", b"/proc/self/", b"/proc/thread-self/")
"""What names another file in each process: a shell passes <(command) as /dev/fd/63."""

AGAIN: Final = (["ls"], ["ready"], ["show"])
"""Commands after which a process may wait for the next caller: they read what practice reads."""
AGAIN_MAX: Final = 20
AGAIN_S: Final = 2.0
"""So long it waits then; and for the end of its last caller, a part of that."""
ACCEPTED: Final = "A"
AGAIN_READY: Final = "W"
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


class Caller(NamedTuple):
    """The process of the launcher, as the system tells it."""

    pid: int
    gid: int
    groups: list[int]


class Ends(NamedTuple):
    """The descriptors that a child has from the server."""

    listener: socket.socket
    alive: int
    """Ends when the server is gone."""
    report: int


Run = Callable[[list[str]], int]


def serve_one(
    ends: Ends,
    fresh: Callable[[], bool],
    run: Run,
    practices: Sequence[Run],
    patience_s: float | None,
) -> NoReturn:
    """Wait for one caller, run its command by `run`, and end this process.

    `fresh` says whether the code on disk is still that of this process; the `practices` are run
    while there is no caller. After `patience_s` without one it ends; None: it waits for ever.
    Where the command has left nothing behind, it waits for another caller instead of ending.
    """
    status = 0
    try:
        os.setpgid(0, 0)
        first, *rest = practices
        if _nobody(ends):
            _practise(ends, fresh, first)
        for practice in rest:
            if _nobody(ends):
                practice([])
        for _ in range(AGAIN_MAX):
            connection = _caller(ends, patience_s)
            if connection is None:
                break
            _tell(ends.report, ACCEPTED, os.getpid())
            if not _converse(connection, ends, fresh, run):
                break
            _tell(ends.report, AGAIN_READY, os.getpid())
            patience_s = AGAIN_S
    except BaseException:  # noqa: BLE001  # nothing of the server's own code may run after this
        status = 1
    os._exit(status)


def is_called(listener: socket.socket) -> bool:
    """Whether somebody waits to be served."""
    return bool(select.select([listener], [], [], 0)[0])


def _nobody(ends: Ends) -> bool:
    """Whether there is nobody to be served."""
    return not select.select([ends.listener.fileno(), ends.alive], [], [], 0)[0]


def _caller(ends: Ends, patience_s: float | None) -> socket.socket | None:
    """Wait for a caller; None when the server is gone, or nobody came."""
    deadline = None if patience_s is None else time.monotonic() + patience_s
    with _waiting(ends) as wait:
        while True:
            found = wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not found or ends.alive in found:
                return None
            with suppress(BlockingIOError, ConnectionAbortedError):  # another was faster
                return ends.listener.accept()[0]


@contextmanager
def _waiting(ends: Ends) -> Iterator[Callable[[float | None], list[int]]]:
    """Give what waits so many seconds and returns which ends have news.

    Where the system can, a caller wakes one of the processes that wait, not all.
    """
    if sys.platform == "linux":
        with select.epoll() as poll:
            poll.register(ends.listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            poll.register(ends.alive, select.EPOLLIN)
            yield lambda seconds: [fd for fd, _ in poll.poll(seconds)]
    else:
        both = [ends.listener.fileno(), ends.alive]
        yield lambda seconds: select.select(both, [], [], seconds)[0]


def _practise(ends: Ends, fresh: Callable[[], bool], practice: Run) -> None:
    """Have a command run for nobody, before there is a caller who waits.

    What a process touches for the first time after a fork costs more time than the command.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    here, there = socket.socketpair()
    with here, there:
        send(there, ["ls"], [])
        _converse(here, Ends(ends.listener, ends.alive, nowhere), fresh, practice, practising=True)
    os.close(nowhere)


def _converse(
    connection: socket.socket,
    ends: Ends,
    fresh: Callable[[], bool],
    run: Run,
    *,
    practising: bool = False,
) -> bool:
    """Run the command of a caller; return whether this process is as it was before."""
    started = time.monotonic_ns()
    pid = os.getpid()
    if not fresh():
        _tell(ends.report, STALE, pid)
        return False
    if peer_uid(connection) != os.getuid():
        return False
    connection.settimeout(REQUEST_S)
    connection.sendall(GREETING + b"%d" % pid)
    try:
        with _nothing_done():
            request, descriptors = _receive(connection)
            connection.setblocking(True)
            changed = not practising and become_one_of(caller(connection))
            _become(request, descriptors)
        again = not (practising or changed) and _may_go_on(request)
        if not again and not practising:
            ends.listener.close()
            os.close(ends.alive)
        if request.args == ["daemon", "notify"]:
            _tell(ends.report, NOTIFIED, pid)
            connection.sendall(b"0")
            return False
        if not practising:
            _end_with(connection)
        status = _run_to_its_end(run, request.args)
    except RunLocally:
        connection.sendall(RUN_IT_YOURSELF)
        return False
    _tell(ends.report, ENDED, pid, (time.monotonic_ns() - started) // 1000)
    _let_go(connection, b"%d" % status)
    if again and status == 0 and _is_alone():
        return _has_gone(connection)
    foreground.do_the_rest()
    return False


def _may_go_on(request: Request) -> bool:
    """Whether the command reads only, and nothing of its caller would be left in this process."""
    plain = request.args[:1] in AGAIN and not request.ignored and not os.isatty(1)
    # What one caller has used of the time that a limit gives would be missing for the next.
    return plain and resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY


def _is_alone() -> bool:
    """Whether the command has left no work, no thread and no child."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return foreground.is_done() and threading.active_count() == 1
    return False


def _has_gone(connection: socket.socket) -> bool:
    """Wait until the caller has ended: until then it may send signals, meant for its command."""
    connection.settimeout(AGAIN_S / 10)
    with connection, suppress(OSError):
        return connection.recv(1) == b""
    return False


def _let_go(connection: socket.socket, answer: bytes) -> None:
    """Give the answer, and keep nothing that the caller, or who reads its output, waits for."""
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags & ~os.O_ASYNC)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    os.close(nowhere)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()  # what could not be written must not come out later
    connection.sendall(answer)


@contextmanager
def _nothing_done() -> Iterator[None]:
    """Whatever goes wrong before the command has begun: the caller is to run it."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise RunLocally from error


def _run_to_its_end(run: Run, args: list[str]) -> int:
    """Run it and do what Python does at its end."""
    try:
        status = run(args)
    except RunLocally:
        raise
    except BaseException:  # noqa: BLE001  # shown as Python itself would show it
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    return status


def _tell(report: int, what: str, pid: int, spent_us: int = 0) -> None:
    """Say it in one write, so that what several say does not mix.

    The command must not end otherwise because the server is gone.
    """
    with suppress(OSError):
        os.write(report, f"{what} {pid} {spent_us}\n".encode())


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """Return a command and its descriptors; raises OSError or ValueError where there is none."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * struct.calcsize("i"))
    data, passed, _flags, _address = connection.recvmsg(_PIECE_BYTES, room)
    if len(passed) != 1 or len(data) < _HEAD_BYTES:
        raise ValueError("the caller has gone, or sends something else")
    descriptors = list(struct.unpack(f"{_DESCRIPTORS}i", passed[0][2]))
    size = int.from_bytes(data[:_HEAD_BYTES], "big")
    if size > SERVER_REQUEST_BYTES_MAX:
        raise ValueError("too long")
    pieces = [data[_HEAD_BYTES:]]
    missing = size - len(pieces[0])
    while missing > 0:
        piece = connection.recv(min(missing, _PIECE_BYTES))
        if not piece:
            raise ValueError("the caller has gone")
        pieces.append(piece)
        missing -= len(piece)
    return _read(b"".join(pieces)), descriptors


def _read(body: bytes) -> Request:
    if any(name in body for name in _NAMES_OF_ITS_OWN) or b"/dev/tty\0" in body + b"\0":
        raise ValueError("a file that only the caller has")
    head, ignored, directory, *words = body.split(b"\0")
    umask, terminal, count = map(int, head.split())
    environ = {}
    for word in words[count:]:
        name, _, value = word.partition(b"=")
        if name:  # one without a name can be inherited, but not be set
            environ[name] = value
    return Request(
        umask=umask,
        terminal=bool(terminal),
        ignored=[int(number) for number in ignored.split()],
        directory=directory,
        args=[os.fsdecode(word) for word in words[:count]],
        environ=environ,
    )


def caller(connection: socket.socket) -> Caller | None:
    """Return who is at the other end, None where the system does not tell."""
    if sys.platform != "linux":
        return None
    pid, _uid, gid = struct.unpack("3i", connection.getsockopt(*_PEER, 12))
    groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _GROUPS_MAX)
    return Caller(pid, gid, sorted(struct.unpack(f"{len(groups) // 4}i", groups)))


def become_one_of(caller: Caller | None) -> bool:
    """Take over the limits and priority of a caller, if this process may; return if they differed.

    Raises RunLocally where it sees another system than the caller does, or has other rights.
    """
    if caller is None:
        return False
    if (caller.gid, caller.groups) != (os.getegid(), sorted(os.getgroups())):
        raise RunLocally
    for name in _SURROUNDINGS:
        if os.readlink(f"/proc/{caller.pid}/{name}") != os.readlink(f"/proc/self/{name}"):
            raise RunLocally
    changed = False
    for limit in _LIMITS:
        limits = resource.prlimit(caller.pid, limit)
        if limit == resource.RLIMIT_NOFILE and limits[0] < _FILES_MIN:
            raise RunLocally
        if limits != resource.getrlimit(limit):
            resource.setrlimit(limit, limits)
            changed = True
    priority = os.getpriority(os.PRIO_PROCESS, caller.pid)
    if priority != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, priority)
        changed = True
    return changed


def _become(request: Request, descriptors: list[int]) -> None:
    """Take over the caller's descriptors, directory, environment and so on.

    Raises RunLocally when this process would not behave as one that the caller starts: another
    encoding, other settings of Python, another view of the file system.
    """
    if interpreter_settings(request.environ) != interpreter_settings(os.environb):
        raise RunLocally
    *streams, directory = descriptors
    os.fchdir(directory)
    os.close(directory)
    if os.getcwdb() != request.directory:
        raise RunLocally
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.umask(request.umask)
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None  # TMPDIR says where it is
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


def interpreter_settings(environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what decides how Python itself behaves: its own variables and the encoding."""
    encoding = environ.get(b"LC_ALL") or environ.get(b"LC_CTYPE") or environ.get(b"LANG") or b""
    return {b"": encoding} | {
        name: value for name, value in environ.items() if name.startswith(b"PYTHON")
    }


def _open_streams() -> None:
    """Open the standard streams as Python does when it starts."""
    unbuffered = getattr(sys.stdout, "write_through", False)  # PYTHONUNBUFFERED, the same for both
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        raw = open(  # noqa: SIM115  # it stays open
            number,
            "wb" if number else "rb",
            buffering=0 if number and unbuffered else -1,
            closefd=False,
        )
        stream = io.TextIOWrapper(
            raw,
            encoding=before.encoding,
            errors=before.errors,
            newline="\n" if number else None,
            line_buffering=not unbuffered and (name == "stderr" or raw.isatty()),
            write_through=bool(number and unbuffered),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _end_with(connection: socket.socket) -> None:
    """Let this process be killed when its caller is, as a command of the caller's own would be."""
    if sys.platform == "linux":
        session.caller_pid = struct.unpack("3i", connection.getsockopt(*_PEER, 12))[0]
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    foreground.launcher = connection
