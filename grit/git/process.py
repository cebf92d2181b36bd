"""Running the git program: plumbing only, with everything that could run foreign code off.

Raises GitFailed when git is missing or refuses (spec/wal.md, Repositories).
"""

import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from grit.core.errors import GitFailed, IoFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import Popen

    from grit.git.repository import Repository

SAFE_FLAGS: Final = (
    "--no-replace-objects",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
)
"""No replaced objects: the log is what its ids say. No hook and no monitor is ever started."""


class Finished(NamedTuple):
    """What a git command left behind."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def reason(self) -> str:
        """Git's first complaint, without its `fatal:`; never empty."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        if not lines:
            return f"git ended with status {self.status}"
        return lines[0].removeprefix("fatal: ").removeprefix("error: ")


def run(
    git_dir: str | None,
    *arguments: str,
    stdin: bytes = b"",
    directory: str | None = None,
    environ: "Mapping[str, str] | None" = None,
) -> Finished:
    """Run one git command to its end and return its status and output.

    Raises GitFailed when the program is missing, IoFailed when no process can be started.
    """
    import subprocess

    try:
        done = subprocess.run(
            _command(git_dir, arguments),
            input=stdin,
            capture_output=True,
            check=False,
            cwd=directory,
            env=None if environ is None else dict(environ),
        )
    except OSError as error:
        raise _not_started(error) from error
    return Finished(done.returncode, done.stdout, done.stderr)


def output(git_dir: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run one git command and return what it printed; raises GitFailed when it fails."""
    done = run(git_dir, *arguments, stdin=stdin)
    if done.status != 0:
        raise GitFailed(f"git {arguments[0]} failed: {done.reason}", git_status=done.status)
    return done.stdout


def start(git_dir: str, *arguments: str, stdin: int | IO[bytes] | None) -> "Popen[bytes]":
    """Start a git command whose output is read as it comes; its complaints are dropped.

    Raises GitFailed when the program is missing, IoFailed when no process can be started.
    """
    import subprocess

    try:
        return subprocess.Popen(
            _command(git_dir, arguments),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=1 << 17,
        )
    except OSError as error:
        raise _not_started(error) from error


def start_talking(
    repository: "Repository",
    arguments: tuple[str, ...],
    environ: "Mapping[str, str]",
    *,
    detached: bool = False,
    reports: bool = True,
) -> "Popen[bytes]":
    """Start a git command that talks to a remote, from where relative addresses are meant.

    `reports`: its standard output is wanted. `detached`: without a terminal, so that nothing can
    ask for a password there.
    Raises GitFailed when the program is missing, IoFailed when no process can be started.
    """
    import subprocess

    try:
        return subprocess.Popen(
            _command(repository.git_dir, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if reports else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=repository.worktree or repository.git_dir,
            env=dict(environ),
            start_new_session=detached,
        )
    except OSError as error:
        raise _not_started(error) from error


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
    """Start a git command that nobody waits for and that outlives this process."""
    import subprocess

    try:
        process = subprocess.Popen(
            _command(git_dir, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=git_dir,
        )
    except OSError as error:
        raise _not_started(error) from error
    process.returncode = 0  # it is nobody's child to wait for: no warning when it is collected


def _command(git_dir: str | None, arguments: tuple[str, ...]) -> list[str]:
    place = [] if git_dir is None else [f"--git-dir={git_dir}"]
    return ["git", *SAFE_FLAGS, *place, *arguments]


def _not_started(error: OSError) -> GitFailed | IoFailed:
    if isinstance(error, FileNotFoundError) and error.filename == "git":
        return GitFailed("the git program was not found; install git and try again")
    return IoFailed(f"git could not be started: {error.strerror}", errno=error.errno)
