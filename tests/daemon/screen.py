"""A terminal with a shell in it, by tmux: keys go in, what stands on the screen comes out."""

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.daemon.pairs import whole
from tests.daemon.warm import wait_for

WAIT_S = 10.0
COLUMNS, ROWS = 80, 24
PROMPT = r"^\$\Z"
"""Nothing stands below the prompt; blanks at the end of a line are not seen."""


class Screen:
    """One pane of a tmux server of its own."""

    def __init__(self, folder: Path, sockets: str, environ: Mapping[str, str]) -> None:
        """Start a shell in `folder`, with `environ` on top of the tests' environment."""
        self._count = 0
        kept = whole(environ)
        for name in ("NO_COLOR", "GIT_TERMINAL_PROMPT", "TMUX"):
            kept.pop(name, None)
        self._environ = {**kept, "TMUX_TMPDIR": sockets, "TERM": "screen"}
        shell = "exec env PS1='$ ' bash --norc --noprofile -i"
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), shell)
        self._tmux("set-option", "-g", "remain-on-exit", "on")
        found = self._tmux("display-message", "-p", "#{pane_pid} #{pane_tty}").split()
        self.shell, self.tty = int(found[0]), found[1]
        self.await_text(PROMPT)

    def _tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", "grit", *args],
            env=self._environ, capture_output=True, text=True, timeout=WAIT_S, check=True,
        )  # fmt: skip
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Press keys by their tmux names: C-c, Space, q, Enter."""
        self._tmux("send-keys", *keys)

    def press(self, key: str, pattern: str) -> None:
        """Press a key until that is seen: an interrupted program may lose the key after it."""
        wait_for(lambda: self.keys(key) or re.search(pattern, self.text()), WAIT_S)

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def run(self, line: str) -> str:
        """Run a line to its end; return what the screen shows below it then."""
        self._count += 1
        mark = f"[done {self._count}]"
        self.type(f"clear; {line}; echo '{mark}'")
        return self.await_text(rf"^{re.escape(mark)}$").partition(mark)[0]

    def text(self, *, colours: bool = False) -> str:
        """Return what stands on the screen, its empty end left out."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else [])).rstrip("\n")

    def await_text(self, pattern: str) -> str:
        """Wait until a pattern is found on the screen; return the whole screen."""
        deadline = time.monotonic() + WAIT_S
        while True:
            text = self.text()
            if re.search(pattern, text, re.MULTILINE):
                return text
            assert time.monotonic() < deadline, f"{pattern} not on the screen:\n{text}"
            time.sleep(0.05)

    def resize(self, columns: int, rows: int) -> None:
        """Make the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def users(self) -> list[int]:
        """Return the pids of processes that have this terminal open, the shell left out."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.shell and _opens(int(name), self.tty):
                found.append(int(name))
        return found

    def close(self) -> None:
        """End the terminal, as when its window is closed."""
        subprocess.run(
            ["tmux", "-L", "grit", "kill-server"],
            env=self._environ, capture_output=True, timeout=WAIT_S,
        )  # fmt: skip


def _opens(pid: int, path: str) -> bool:
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in fds)
    except OSError:
        return False


@contextmanager
def screen(folder: Path, environ: Mapping[str, str]) -> Iterator[Screen]:
    """Open a terminal; it is closed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="tmux-", dir="/tmp") as sockets:
        made = Screen(folder, sockets, environ)
        try:
            yield made
        finally:
            made.close()


def quoted(path: Path) -> str:
    """Return a path as a word of the shell."""
    return shlex.quote(str(path))
