"""Repositories that name programs wherever git lets them, and what was started beside them."""

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

GRIT = str(Path(sys.executable).with_name("grit"))
GIT = shutil.which("git") or "git"
_EXECUTED = re.compile(r'execve\("((?:[^"\\]|\\.)*)", .* = 0$')
_TIMEOUT_S = 120
_HOOKS = (
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-changelist", "post-applypatch",
    "post-checkout", "post-commit", "post-index-change", "post-merge", "post-receive",
    "post-rewrite", "post-update", "pre-applypatch", "pre-auto-gc", "pre-commit",
    "pre-merge-commit", "pre-push", "pre-rebase", "pre-receive", "prepare-commit-msg",
    "proc-receive", "push-to-checkout", "query-watchman", "reference-transaction",
    "sendemail-validate", "update",
)  # fmt: skip
GIT_COMMANDS = (
    "cat-file", "config", "fetch", "for-each-ref", "gc", "ls-remote", "merge-base", "pack-refs",
    "prune", "push", "repack", "rev-list", "rev-parse", "update-ref", "upload-pack", "var",
)  # fmt: skip
"""What grit runs, and what those run."""
EVIL = "{evil}"
"""In a planted value: the path of a script of its own, which leaves a mark."""


class Traced(NamedTuple):
    """How a command ended, and which programs were started by it."""

    status: int
    out: str
    lines: list[str]
    """Of strace, one for each program that was started."""

    @property
    def programs(self) -> list[str]:
        """Return the programs' paths, in order."""
        return [path_in(line) for line in self.lines]


class Trap:
    """Scripts that leave a mark when they run, and the names of those that did."""

    def __init__(self, folder: Path) -> None:
        """Use an empty folder outside of the repository."""
        self.scripts = folder / "scripts"
        self.path = folder / "path"
        """To be put on PATH."""
        self._marks = folder / "ran"
        for made in (self.scripts, self.path, self._marks):
            made.mkdir(parents=True)

    def script(self, name: str, where: Path | None = None) -> str:
        """Return the path of a new script; `name` says what starts it."""
        mark = re.sub(r"[^\w.-]", "_", name)
        path = (where or self.scripts) / (mark if where is None else name.rpartition("/")[2])
        path.write_text(f"#!/bin/sh\n: > '{self._marks / mark}'\n")
        path.chmod(0o755)
        return str(path)

    def ran(self) -> list[str]:
        """Return what has run since the last call."""
        found = sorted(path.name for path in self._marks.iterdir())
        for name in found:
            (self._marks / name).unlink()
        return found


def config_text(trap: Trap, settings: Sequence[tuple[str, str]]) -> str:
    """Return a configuration file with these settings; EVIL becomes a script's path."""
    lines = []
    for key, planted in settings:
        section, _, rest = key.partition(".")
        middle, dot, name = rest.rpartition(".")
        value = planted
        if EVIL in key or EVIL in value:
            script = trap.script(key)
            middle, value = middle.replace(EVIL, script), value.replace(EVIL, script)
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        lines += [f'[{section} "{middle}"]' if dot else f"[{section}]", f'\t{name} = "{quoted}"']
    return "\n".join([*lines, ""])


def plant_files(trap: Trap, folder: Path) -> None:
    """Plant what is no setting: hooks in their folder, attributes that name drivers, helpers."""
    hooks = folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in _HOOKS:
        trap.script(f"hooks/{name}", hooks)
    attributes = "* filter=evil diff=evil merge=evil\n*.bin filter=evil diff=evil\n"
    for path in (folder / ".gitattributes", folder / ".git" / "info" / "attributes"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(attributes)
    # No part of the repository, but a sign that git has begun to talk.
    for name in ("git-remote-evil", "git-credential-evil", "git-remote-"):
        trap.script(f"path/{name}", trap.path)


def hooks_folder(trap: Trap) -> str:
    """Return a folder of hooks for core.hooksPath."""
    folder = trap.scripts / "hooks-path"
    folder.mkdir()
    for name in _HOOKS:
        trap.script(f"hooks-path/{name}", folder)
    return str(folder)


def started(trace: Path) -> list[str]:
    """Return the lines of a record of strace in which a program was started."""
    lines = trace.read_text(errors="replace").splitlines()
    return [line.rstrip() for line in lines if _EXECUTED.search(line.rstrip())]


def path_in(line: str) -> str:
    """Return the program of such a line."""
    found = _EXECUTED.search(line)
    assert found
    return found[1]


def _strace(trace: Path, command: Sequence[str]) -> list[str]:
    words = "strace -f -qq -e trace=execve -e signal=none -s 4000 -o".split()
    return [*words, str(trace), "--", *command]


def run(
    folder: Path,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    terminal: bool = False,
    stdin: bytes = b"",
) -> Traced:
    """Run grit below strace to the end of all that it started."""
    trace = folder.parent / f"{folder.name}.trace"
    trace.unlink(missing_ok=True)
    command = _strace(trace, [GRIT, *arguments])
    if terminal:
        status, out = _on_terminal(command, folder, environ)
    else:
        done = subprocess.run(
            command, cwd=folder, env=dict(environ), input=stdin, timeout=_TIMEOUT_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        status, out = done.returncode, done.stdout.decode(errors="replace")
    return Traced(status, out, started(trace))


def _on_terminal(
    command: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (6, 60))
    shown: list[bytes] = []

    def listen() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:
            return  # the last one has closed it

    listener = threading.Thread(target=listen, daemon=True)
    with subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environ),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    ) as process:
        os.close(theirs)
        listener.start()
        try:
            status = process.wait(_TIMEOUT_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    listener.join(5)
    os.close(ours)
    return status, b"".join(shown).decode(errors="replace")


@contextmanager
def server(folder: Path, environ: Mapping[str, str], trace: Path) -> Iterator[None]:
    """Run the clone's server below strace; the trace is whole after the block."""
    command = _strace(trace, [GRIT, "daemon", "start", "--foreground"])
    with subprocess.Popen(
        command, cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield
        finally:
            stop = [GRIT, "daemon", "stop"]
            subprocess.run(stop, cwd=folder, env=dict(environ), capture_output=True, timeout=60)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
