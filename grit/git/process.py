"""Starting the git program: the only place that does (spec/wal.md, Repositories).

A git that reads, checks or writes here is guarded: nothing that the repository's configuration
names can run. One that talks to a remote, because the user asked for that, is the user's git as
it is. Raises GitFailed when git is missing or refuses.
"""

import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from grit.core.errors import GitFailed, IoFailed
from grit.core.limits import GIT_OUTPUT_BYTES_MAX, GIT_WORDS_BYTES_MAX
from grit.git.pitfalls import look_out

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import Popen

    from grit.git.repository import Repository

_ALWAYS: Final = (
    "git",
    "--no-replace-objects",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "hook.reference-transaction.enabled=false"),
)
"""No replaced objects: the log is what its ids say. No hook and no monitor is ever started; the
last of these is for hooks that a newer git finds in its configuration, not in a folder."""
_GUARDED: Final = (
    *_ALWAYS,
    *("-c", "core.commitGraph=false"),
    *("-c", "core.warnAmbiguousRefs=false"),
)
"""A commit-graph is a cache beside the objects, and a shipped one could leave commits out. An id
is looked for among the objects alone, not first among refs of that name."""
GUARD: Final = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "/",
    "GIT_GRAFT_FILE": f"{os.devnull}/none",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
}
"""What keeps git from fetching objects that a partial clone lacks. One that does not know the
first starts a `git fetch` for them, which the second ends before anything else is
started: no transport has that name, and no file could be the helper `git-remote-/`. Grafts would
give commits other parents, like replaced objects. Nothing asks, and no index is refreshed."""

_WITHOUT_OBJECTS: Final = frozenset({"config", "var", "ls-remote"})
"""Guarded commands that read no object; with ls-remote, only an address is asked for."""


_PART_BYTES: Final = 1 << 16
_PIPE_BYTES: Final = 512
"""What every pipe takes at once where it takes anything."""


class Finished(NamedTuple):
    """What a git command left behind."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def reason(self) -> str:
        """Git's first complaint, without its `fatal:`; never empty."""
        lines = self.stderr.decode(errors="replace").strip().split("\n")
        if lines == [""]:
            return f"git ended with status {self.status}"
        first = next((line for line in lines if not line.startswith("warning: ")), lines[0])
        return first.removeprefix("fatal: ").removeprefix("error: ")


def text_lines(data: bytes) -> list[str]:
    """Return the lines of what git printed: cut at LF alone, whatever else a name holds.

    Bytes that are no UTF-8 stay what they are when the text is an argument again.
    """
    lines = data.decode(errors="surrogateescape").split("\n")
    return lines if lines[-1] else lines[:-1]


def run(
    git_dir: str | None,
    *arguments: str,
    stdin: bytes = b"",
    directory: str | None = None,
    environ: "Mapping[str, str] | None" = None,
    bytes_max: int = GIT_OUTPUT_BYTES_MAX,
) -> Finished:
    """Run one guarded git command to its end and return its status and output.

    Raises GitFailed when the program is missing, or prints more than `bytes_max`; IoFailed when no
    process can be started.
    """
    from subprocess import PIPE

    process = _launch(git_dir, arguments, environ, stdin=PIPE, stderr=PIPE, directory=directory)
    with process:
        try:
            stdout, stderr = hear(process, f"git {arguments[0]}", bytes_max, stdin)
            process.wait()
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, stdout, stderr)


def hear(
    process: "Popen[bytes]",
    what: str,
    bytes_max: int,
    stdin: bytes = b"",
    timeout_s: float | None = None,
) -> tuple[bytes, bytes]:
    """Return what a process prints until it closes its output, and the first of its complaints.

    Raises GitFailed for more than `bytes_max`, TimeoutExpired; the process still runs then.
    """
    if sys.platform == "win32":  # nothing waits for its pipes: bounded when all is heard
        stdout, stderr = process.communicate(stdin, timeout_s)
        if len(stdout) > bytes_max:
            raise _too_much(what, bytes_max)
        return stdout, stderr[:GIT_WORDS_BYTES_MAX]
    import selectors
    import time
    from subprocess import TimeoutExpired

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    heard: dict[object, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    rest = memoryview(stdin)
    with selectors.DefaultSelector() as waiting:
        for stream in filter(None, (process.stdout, process.stderr)):
            waiting.register(stream, selectors.EVENT_READ)
        if process.stdin is not None and stdin:
            waiting.register(process.stdin, selectors.EVENT_WRITE)
        elif process.stdin is not None:
            process.stdin.close()
        while waiting.get_map():
            ready = waiting.select(None if deadline is None else deadline - time.monotonic())
            if not ready and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutExpired(what, timeout_s or 0)
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    rest = _tell(key.fd, rest)
                    if not rest:
                        waiting.unregister(key.fileobj)
                        process.stdin.close()
                    continue
                part = os.read(key.fd, _PART_BYTES)
                if not part:
                    waiting.unregister(key.fileobj)
                said = heard[key.fileobj]
                if key.fileobj is process.stderr:
                    part = part[: max(0, GIT_WORDS_BYTES_MAX - len(said))]
                elif len(said) + len(part) > bytes_max:
                    raise _too_much(what, bytes_max)
                said += part
    return bytes(heard[process.stdout]), bytes(heard[process.stderr])


def _too_much(what: str, bytes_max: int) -> GitFailed:
    return GitFailed(f"{what} printed more than {bytes_max >> 20} MiB; it was ended")


def _tell(fd: int, rest: memoryview) -> memoryview:
    """Write what a pipe takes at once; return the rest, none when nobody reads it."""
    try:
        return rest[os.write(fd, rest[:_PIPE_BYTES]) :]
    except BrokenPipeError:
        return rest[:0]


def output(
    git_dir: str, *arguments: str, stdin: bytes = b"", bytes_max: int = GIT_OUTPUT_BYTES_MAX
) -> bytes:
    """Run one guarded git command and return what it printed; raises GitFailed when it fails."""
    done = run(git_dir, *arguments, stdin=stdin, bytes_max=bytes_max)
    if done.status != 0:
        raise GitFailed(f"git {arguments[0]} failed: {done.reason}", git_status=done.status)
    return done.stdout


def start(git_dir: str, *arguments: str, stdin: int | IO[bytes] | None) -> "Popen[bytes]":
    """Start a guarded git command whose output is read as it comes; its complaints are dropped.

    Raises GitFailed when the program is missing, IoFailed when no process can be started.
    """
    return _launch(git_dir, arguments, stdin=stdin, buffer_bytes=1 << 17)


def start_talking(
    repository: "Repository",
    arguments: tuple[str, ...],
    environ: "Mapping[str, str]",
    *,
    stdin: int | IO[bytes] | None = None,
    detached: bool = False,
    reports: bool = True,
) -> "Popen[bytes]":
    """Start a git command that talks to a remote, from where relative addresses are meant.

    Only for what the user asked to talk: programs that the configuration names may run.
    `stdin`: what it reads, nothing by default. `reports`: its standard output is wanted.
    `detached`: without a terminal, so that nothing can ask for a password there.
    Raises GitFailed when the program is missing, IoFailed when no process can be started.
    """
    from subprocess import DEVNULL, PIPE

    return _launch(
        repository.git_dir,
        arguments,
        environ,
        talking=True,
        stdin=DEVNULL if stdin is None else stdin,
        stdout=PIPE if reports else DEVNULL,
        stderr=PIPE,
        directory=repository.worktree or repository.git_dir,
        detached=detached,
    )


def end_detached(process: "Popen[bytes]") -> None:
    """End a process that was started `detached`, with the helpers that it has started.

    A helper that waits for a silent server would else hold the pipes, and who reads them, open.
    """
    import os
    import signal

    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


def start_detached(git_dir: str, *arguments: str) -> None:
    """Start a guarded git command that nobody waits for and that outlives this process."""
    from subprocess import DEVNULL

    process = _launch(
        git_dir, arguments, stdin=DEVNULL, stdout=DEVNULL, directory=git_dir, detached=True
    )
    process.returncode = 0  # it is nobody's child to wait for: no warning when it is collected


def _launch(
    git_dir: str | None,
    arguments: tuple[str, ...],
    environ: "Mapping[str, str] | None" = None,
    *,
    talking: bool = False,
    stdin: int | IO[bytes] | None,
    stdout: int | None = None,
    stderr: int | None = None,
    directory: str | None = None,
    detached: bool = False,
    buffer_bytes: int = -1,
) -> "Popen[bytes]":
    """Start git, guarded unless it is `talking`; standard output is a pipe, errors are dropped.

    The output is never a terminal, so that git starts no pager. Raises GitFailed, too, where a
    guarded git would wait for what lies in the place of a file.
    """
    import subprocess

    if git_dir is not None and not talking:
        look_out(git_dir, objects=arguments[0] not in _WITHOUT_OBJECTS)
    place = () if git_dir is None else (f"--git-dir={git_dir}",)
    around = os.environ if environ is None else environ
    try:
        return subprocess.Popen(
            [*(_ALWAYS if talking else _GUARDED), *place, *arguments],
            bufsize=buffer_bytes,
            stdin=stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.DEVNULL if stderr is None else stderr,
            cwd=directory,
            env=dict(around) if talking else {**around, **GUARD},
            start_new_session=detached,
        )
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename == "git":
            raise GitFailed("the git program was not found; install git and try again") from error
        raise IoFailed(f"git could not be started: {error.strerror}", errno=error.errno) from error
