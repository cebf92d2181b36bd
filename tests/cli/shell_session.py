"""Real shells under a terminal, in which TAB is pressed: what is offered, and what Enter runs."""

import json
import os
import pty
import select
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

WAIT_S: Final = 20.0
SETTLE_S: Final = 0.05
_BEGIN: Final = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {script}"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -D -u; setopt extendedglob; source {script}",
    ),
    "fish": (["fish", "--no-config", "--private", "-i"], "source {script}"),
}
"""How a shell starts, and what it is told first."""
_GRIT: Final = """\
#!/bin/sh
# Asked by a shell: answer, and keep the answer. Run by Enter: note the words.
if [ -n "$_GRIT_COMPLETE" ]; then
    {python} -c 'from grit.cli.main import main; main()' "$@" >{here}/answer.new
    cat {here}/answer.new
    mv {here}/answer.new {here}/answer
else
    {python} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >>{here}/ran
fi
"""


class Shell:
    """One interactive shell with the completion of grit."""

    def __init__(self, name: str, fd: int, notes: Path) -> None:
        """Take the terminal's end, and the folder in which `grit` notes what became of it."""
        self.name = name
        self._fd = fd
        self._answer = notes / "answer"
        self._ran = notes / "ran"
        self.seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError, ValueError):
            while True:
                select.select([self._fd], [], [])
                data = os.read(self._fd, 65536)
                if not data:
                    return
                self.seen += data

    def type(self, text: str) -> None:
        """Type the text as it is."""
        os.write(self._fd, text.encode())

    def complete(self, text: str) -> str:
        """Type the text and TAB, and return what grit answered."""
        self._answer.unlink(missing_ok=True)
        self.type(text + "\t")
        return _awaited(self._answer)

    def enter(self) -> list[str]:
        """Press Enter, and return the words that grit was run with."""
        self._ran.unlink(missing_ok=True)
        time.sleep(SETTLE_S)
        self.type("\r")
        words: list[str] = json.loads(_awaited(self._ran))
        return words

    def forget(self) -> None:
        """Throw the line away."""
        time.sleep(SETTLE_S)
        self.type("\x15")


def _awaited(path: Path) -> str:
    """Return what a file holds once it ends with a line's end."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            text = path.read_text()
            if text.endswith("\n"):
                return text
        time.sleep(0.005)
    raise AssertionError(f"{path.name} did not come")


@contextmanager
def shell(name: str, folder: Path, notes: Path, script: str) -> Iterator[Shell]:
    """Start a shell in the folder, with `grit` first in its PATH, and end it."""
    notes.mkdir()
    program = notes / "grit"
    program.write_text(
        _GRIT.format(python=shlex.quote(sys.executable), here=shlex.quote(str(notes)))
    )
    program.chmod(0o755)
    (notes / "script").write_text(script)
    words, first = _BEGIN[name]
    environ = {
        **os.environ,
        "PATH": f"{notes}:{os.environ['PATH']}",
        "HOME": str(notes),
        "GIT_CONFIG_GLOBAL": f"{os.environ['HOME']}/.gitconfig",
        "XDG_RUNTIME_DIR": str(notes),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TERM": "xterm",
    }
    pid, fd = pty.fork()
    if pid == 0:
        _become(words, folder, environ)
    try:
        session = Shell(name, fd, notes)
        session.type(first.format(script=notes / "script") + "\r")
        session.type("grit begin\r")
        assert json.loads(_awaited(notes / "ran")) == ["begin"]
        yield session
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)


def _become(words: Sequence[str], folder: Path, environ: dict[str, str]) -> None:
    try:
        os.chdir(folder)
        program = shutil.which(words[0])
        if program is not None:
            os.execve(program, words, environ)
    finally:
        os._exit(127)
