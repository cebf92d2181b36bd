"""The `grit` program: the clone's warm server runs a command, else this process does.

Nothing but built-in modules is imported before it is known who runs it (spec/daemon.md, Launcher).
"""

import os
import sys

from grit import __version__

TYPE_CHECKING = False  # importing typing takes two milliseconds
if TYPE_CHECKING:
    import signal
    from _socket import socket
else:
    import _signal as signal

PACKAGE = os.path.dirname(__file__)
GREETING = f"grit 1 {__version__} {sys.prefix} {PACKAGE} ".encode(errors="surrogateescape")
"""What the server's process says first, before its pid: the same protocol, code and Python."""
GREETING_BYTES_MAX = 4096
MESSAGE_BYTES_MAX = 1 << 17
GREETING_S = 1.0
"""A server that has not answered by then is not waited for."""
SERVER_LINK = f"server-{os.getuid()}" if hasattr(os, "getuid") else ""
"""In the clone's grit folder: where this user's server listens; "" where there are none."""
KIND_BITS, FILE_BITS, FOLDER_BITS = 0o170000, 0o100000, 0o040000
"""Of the mode of a file, as the system calls have them: `stat` is not imported."""
RUN_IT_YOURSELF = b"L"
KILLED = 137
INTERRUPTED = 130
_SPELL = ("INT", "TERM", "HUP", "QUIT", "TSTP", "CONT", "WINCH", "USR1", "USR2")
_CI = ("true", "1")
_NOT_SERVED = (b"GIT_QUARANTINE_PATH", b"GRIT_NO_DAEMON")


def main() -> None:
    """Run the command line and exit with its status."""
    args = sys.argv[1:]
    folder = status = None
    try:
        if _may_be_served(args):
            try:
                folder, address = look_around(args)
                status = None if address is None else _ask(address, args)
            except OSError:
                pass  # whatever is wrong here, the command itself says it better
        if status is None and args == ["daemon", "notify"]:
            status = 0  # nobody to be told: a hook of git must not fail for that
        if status is None:
            from grit.cli.main import main as run
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status is not None:
        os._exit(status)
    try:
        run()
    finally:
        if folder is not None and args[:1] != ["daemon"] and os.environ.get("CI") not in _CI:
            from grit.services.server_place import start_unasked

            start_unasked(folder, os.environ)


def _may_be_served(args: list[str]) -> bool:
    if not SERVER_LINK or any(os.environb.get(name) for name in _NOT_SERVED):
        return False
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        return False  # a stream was closed: its number would become the connection's
    for fd in (0, 1, 2):
        try:
            if os.tcgetpgrp(fd) != os.getpgrp():
                return False  # in the background the terminal stops who reads: this process
        except OSError:
            pass  # no terminal, or not that of this session
    # What starts and stops the server is not run by it.
    return args[:1] != ["daemon"] or args[1:2] in (["status"], ["notify"])


def look_around(args: list[str]) -> tuple[str | None, str | None]:
    """Return the clone's grit folder and where its server listens, each if there is one.

    A wrong guess does no harm: whoever runs the command looks for the repository itself.
    """
    here = os.environ.get("GIT_DIR")
    if here is not None:
        return _look_into(_common(here))
    here = os.getcwd()
    if args[:1] == ["-C"] and len(args) > 1:
        here = os.path.normpath(os.path.join(here, args[1]))
    while True:
        git_dir = f"{here}/.git"
        folder, address = _look_into(git_dir)
        if folder is None:
            try:
                folder, address = _look_into(_common(_pointed(git_dir, b"gitdir: ", here)))
            except IsADirectoryError:
                return None, None
            except (FileNotFoundError, NotADirectoryError):
                folder, address = _look_into(here)  # bare, perhaps
        if folder is not None:
            return folder, address
        parent = os.path.dirname(here)
        if parent == here:
            return None, None
        here = parent


def _look_into(common_dir: str) -> tuple[str | None, str | None]:
    folder = f"{common_dir}/grit"
    try:
        if os.lstat(folder).st_mode & KIND_BITS != FOLDER_BITS:
            return None, None  # a link, say: nothing is looked for behind it
        return folder, os.readlink(f"{folder}/{SERVER_LINK}")
    except FileNotFoundError:
        return (folder if os.path.isdir(folder) else None), None
    except NotADirectoryError:
        return None, None


def _common(git_dir: str) -> str:
    try:
        return _pointed(f"{git_dir}/commondir", b"", git_dir)
    except (FileNotFoundError, NotADirectoryError):
        return git_dir


def _pointed(path: str, prefix: bytes, base: str) -> str:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe stops nobody
    try:
        if os.fstat(fd).st_mode & KIND_BITS not in (FILE_BITS, FOLDER_BITS):
            raise OSError(f"{path} is no file")
        line = os.read(fd, 4096)
    finally:
        os.close(fd)
    return os.path.join(base, os.fsdecode(line.removeprefix(prefix).rstrip(b"\r\n")))


_open_to_the_end: list["socket"] = []
"""Its end tells that this process has ended, and sends no more signals."""


def _ask(address: str, args: list[str]) -> int | None:
    """Have the command run by the server; return its status, None where it was not run.

    It is sent once, to a process that has said that it is ready: never to one that may run it
    later, when this process has done so already.
    """
    import _socket

    connection: socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    status = None
    try:
        status = _talk(connection, address, args)
    finally:
        if status is None:
            connection.close()
        else:
            _open_to_the_end.append(connection)
    return status


def _talk(connection: "socket", address: str, args: list[str]) -> int | None:
    connection.settimeout(GREETING_S)
    connection.connect(address)
    if peer_uid(connection) != os.getuid():
        return None
    # While the other end wakes up.
    numbers = [getattr(signal, f"SIG{spell}") for spell in _SPELL]
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    message = request(args, ignored)
    greeting = connection.recv(GREETING_BYTES_MAX)
    if not greeting.startswith(GREETING):
        return None
    digits = greeting[len(GREETING) :]
    if not digits.isdigit() or len(digits) > 18:
        return None
    pid = int(digits)
    sent: list[int] = []
    caught = {}

    def forward(number: int, _frame: object) -> None:
        sent.append(number)
        try:
            os.killpg(pid, number)
        except OSError:
            return  # it has just ended
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    for number in numbers:
        if number not in ignored:
            caught[number] = signal.signal(number, forward)
    try:
        pass_on(connection, message)
        connection.settimeout(None)
        answer = _answer(connection)
    except OSError:
        # Not all of it was sent: then it is not run. A connection that breaks later is an end.
        answer = RUN_IT_YOURSELF if connection.gettimeout() is not None else b""
    if answer == RUN_IT_YOURSELF:
        for number, before in caught.items():
            signal.signal(number, before)
        for number in sent:
            if number not in (signal.SIGTSTP, signal.SIGCONT):
                os.kill(os.getpid(), number)  # nobody else is there to follow it
        return None
    if answer.isdigit():
        return int(answer)
    return _killed(sent)


def _answer(connection: "socket") -> bytes:
    """Return what the server's process says at its end; start a pager where it asks for one."""
    while True:
        answer, passed, _flags, _address = connection.recvmsg(MESSAGE_BYTES_MAX, 64)
        if not passed:
            return answer
        from grit.pager import run

        data = passed[0][2]
        run(answer, [int.from_bytes(data[at : at + 4], sys.byteorder) for at in (0, 4)])


def peer_uid(connection: "socket") -> int:
    """Return the user who listens, or has called, at the other end of a Unix socket."""
    import _socket

    if hasattr(_socket, "SO_PEERCRED"):
        peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int.from_bytes(peer[4:8], sys.byteorder)
    local_peercred = 1
    peer = connection.getsockopt(0, local_peercred, 76)
    return int.from_bytes(peer[4:8], sys.byteorder)


def send(connection: "socket", args: list[str], ignored: list[int]) -> None:
    """Send a command and all that it has from this process; raises OSError."""
    pass_on(connection, request(args, ignored))


def request(args: list[str], ignored: list[int]) -> bytes:
    """Return a command and what it has from this process, as it is sent."""
    mask = os.umask(0o077)
    os.umask(mask)
    words = [
        b"%d %d %d" % (mask, _has_terminal(), len(args)),
        b" ".join(b"%d" % number for number in ignored),
        os.getcwdb(),
        *(os.fsencode(word) for word in args),
        *(b"%b=%b" % item for item in os.environb.items()),
    ]
    body = b"\0".join(words)
    return len(body).to_bytes(8, "big") + body


def pass_on(connection: "socket", message: bytes) -> None:
    """Send a request, the standard streams and the directory; raises OSError."""
    import _socket

    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    descriptors = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2, here))
    passed = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)]
    size = connection.sendmsg([message], passed)
    if size < len(message):
        connection.sendall(message[size:])
    os.close(here)


def _has_terminal() -> bool:
    """Return whether a program that this process starts could ask a question on a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _killed(sent: list[int]) -> int:
    """Die as the command did; return a status where it is not known of what."""
    for number in reversed(sent):
        if number == signal.SIGINT:
            return INTERRUPTED  # before the command could say so itself
        if number not in (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
    os.write(2, b"grit: the process that ran this command was killed\n")
    return KILLED


if __name__ == "__main__":
    main()
