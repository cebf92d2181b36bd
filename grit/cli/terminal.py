"""The terminal as commands see it: its size, colours, pager, notices, and times in words."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Final, NamedTuple, TextIO

from grit.cli import foreground
from grit.cli.foreground import LaunchersPager
from grit.core.escape import escape
from grit.core.ids import parse_number

if TYPE_CHECKING:
    import subprocess

COLUMNS_DEFAULT: Final = 80
ROWS_DEFAULT: Final = 24
WRITE_LINES: Final = 256
"""Lines that go to a file or a pipe at once."""
WRITE_CHARS: Final = 1024 * 1024
"""The same, where lines are long."""
_NOT_FOUND: Final = 127
"""What a shell exits with when there is no such command."""

_MINUTE_S: Final = 60
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S
_STEPS: Final = (
    (_MINUTE_S, 1, "s"),
    (_HOUR_S, _MINUTE_S, "min"),
    (_DAY_S, _HOUR_S, "h"),
    (14 * _DAY_S, _DAY_S, "d"),
    (60 * _DAY_S, 7 * _DAY_S, "w"),
    (365 * _DAY_S, 30 * _DAY_S, "mo"),
)


class Screen(NamedTuple):
    """What lines are laid out for: `columns` is None where nothing may be cut or wrapped."""

    columns: int | None = None
    colour: bool = False
    unicode: bool = True


class Terminal:
    """Standard output and error of one command; made once, by the command line."""

    __slots__ = ("_environ", "_stderr", "_stdout", "is_tty", "rows", "screen", "stderr_is_tty")

    def __init__(
        self,
        color: str = "auto",
        environ: Mapping[str, str] | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        """Look at the streams once; `color` is auto, always or never.

        Text that the stream's encoding lacks is written as an escape instead of failing.
        """
        self._environ = os.environ if environ is None else environ
        self._stdout = sys.stdout if stdout is None else stdout
        self._stderr = sys.stderr if stderr is None else stderr
        for stream in (self._stdout, self._stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                with contextlib.suppress(OSError):  # a full disk: writing says it again
                    reconfigure(errors="backslashreplace")
        self.is_tty = _is_tty(self._stdout)
        self.stderr_is_tty = _is_tty(self._stderr)
        columns, self.rows = _size(self._stdout, self._environ)
        self.screen = Screen(
            columns=columns if self.is_tty else None,
            colour=_colour(color, self._environ, self.is_tty),
            unicode=(self._stdout.encoding or "utf-8").lower().startswith("utf"),
        )

    @property
    def columns(self) -> int:
        """Width of the terminal, or what COLUMNS says, or 80."""
        return _size(self._stdout, self._environ)[0]

    def write(self, lines: Iterable[str]) -> None:
        """Write the lines as they come; through git's pager when a terminal is too short.

        The lines must be safe already (`escape`). A reader that goes away early is no error;
        neither is Ctrl-C while the pager shows what has come so far.
        """
        if not self.is_tty:
            self._write_through(iter(lines))
            return
        rest = iter(lines)
        head: list[str] = []
        height = 0
        for line in rest:
            head.append(line)
            height += 1 + _cells_at_most(line) // (self.screen.columns or COLUMNS_DEFAULT)
            if height >= self.rows:
                break
        else:
            self._write_through(iter(head))
            return
        pager = _start_pager(self._environ)
        if pager is None:
            self._write_through(_chain(head, rest))
        else:
            _feed(pager, _chain(head, rest))
            if pager.returncode == _NOT_FOUND:
                self.notice("the pager could not be started; GRIT_PAGER=cat goes without one")

    def notice(self, text: str) -> None:
        """Write one notice to stderr, made safe; a stderr that is gone is no error."""
        # A progress bar may stand on the line; it draws itself again below the notice.
        draws = self.stderr_is_tty and self._environ.get("TERM", "dumb") != "dumb"
        wipe = "\r\x1b[K" if draws else ""
        try:
            self._stderr.write(f"{wipe}{escape(text, multiline=True)}\n")
            self._stderr.flush()
        except OSError:
            forget(self._stderr)

    def _write_through(self, lines: Iterator[str]) -> None:
        # A terminal sees each line as it comes; a pipe is filled in larger pieces.
        batch_lines = 1 if self.is_tty else WRITE_LINES
        batch: list[str] = []
        chars = 0
        try:
            for line in lines:
                batch.append(line)
                chars += len(line)
                if len(batch) >= batch_lines or chars >= WRITE_CHARS:
                    self._stdout.write("\n".join(batch) + "\n")
                    batch.clear()
                    chars = 0
            if batch:
                self._stdout.write("\n".join(batch) + "\n")
            self._stdout.flush()
        except BrokenPipeError:
            forget(self._stdout)


def relative_time(ts_unix_ms: int, now_ms: int) -> str:
    """Return "now", "3 h ago", "in 2 d", or the local date beyond a year."""
    age_s = (now_ms - ts_unix_ms) // 1000
    span_s = abs(age_s)
    if span_s < 5:
        return "now"
    for below_s, unit_s, unit in _STEPS:
        if span_s < below_s:
            count = span_s // unit_s
            return f"{count} {unit} ago" if age_s > 0 else f"in {count} {unit}"
    return _local(ts_unix_ms, "%Y-%m-%d")


def absolute_time(ts_unix_ms: int) -> str:
    """Return the local time to the minute, as in 2025-01-31 18:05."""
    return _local(ts_unix_ms, "%Y-%m-%d %H:%M")


def exact_time(ts_unix_ms: int) -> str:
    """Return the local time to the second, as in 2025-01-31 18:05:09."""
    return _local(ts_unix_ms, "%Y-%m-%d %H:%M:%S")


def _local(ts_unix_ms: int, shape: str) -> str:
    return time.strftime(shape, time.localtime(ts_unix_ms // 1000))


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed by whoever started us
        return False


def _size(stream: TextIO, environ: Mapping[str, str]) -> tuple[int, int]:
    """Columns and rows: COLUMNS and LINES first, then the terminal, then 80 by 24."""
    columns = _positive(environ.get("COLUMNS", ""))
    rows = _positive(environ.get("LINES", ""))
    if not columns or not rows:
        try:
            size = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((0, 0))
        columns = columns or size.columns or COLUMNS_DEFAULT
        rows = rows or size.lines or ROWS_DEFAULT
    return columns, rows


def _positive(text: str) -> int:
    return parse_number(text, 5) or 0


def _colour(color: str, environ: Mapping[str, str], is_tty: bool) -> bool:
    """The option first, then NO_COLOR, CLICOLOR_FORCE, TERM=dumb, then what stdout is."""
    if color != "auto":
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_tty and environ.get("TERM", "dumb") != "dumb"


def _cells_at_most(line: str) -> int:
    """Cells that the line may take; colours are not counted, wide text is counted double."""
    cells = len(line)
    escapes = line.count("\x1b")
    if escapes:
        import re

        cells = len(re.sub(r"\x1b\[[0-9;]*m", "", line))
    return max(cells - 1, 0) if line.isascii() else cells * 2


def _chain(head: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from head
    yield from rest


def pager_command(environ: Mapping[str, str]) -> str:
    """Return the user's pager, GRIT_PAGER before what git would choose; "" where none is wanted.

    What the repository's own configuration names does not count (decision 0028).
    """
    chosen = environ.get("GRIT_PAGER")
    if chosen is None:
        chosen = environ.get("GIT_PAGER")
    if chosen is None:
        from grit.git.gitconfig import default_program, user_value

        chosen = user_value("core.pager", environ)
        if chosen is None:
            chosen = environ.get("PAGER")
        if chosen is None:
            chosen = default_program("GIT_PAGER", environ) or "less"
    return "" if chosen.strip() == "cat" else chosen.strip()


def _start_pager(environ: Mapping[str, str]) -> "subprocess.Popen[bytes] | LaunchersPager | None":
    """Start the pager; None when there is to be none, or when it cannot be started."""
    command = pager_command(environ)
    if not command:
        return None
    # As git does: a plain command is run directly, so that one that is missing is noticed here.
    needs_shell = any(char in "|&;<>()$`\\\"' \t\n*?[#~=%" for char in command)
    words = ["sh", "-c", command] if needs_shell else [command]
    below = {"LESS": "FRX", "LV": "-c"}
    try:
        if foreground.served:
            return foreground.start_pager(words, below)
        import subprocess

        return subprocess.Popen(words, stdin=subprocess.PIPE, env={**below, **environ})
    except OSError:
        return None


def _feed(pager: "subprocess.Popen[bytes] | LaunchersPager", lines: Iterator[str]) -> None:
    """Stream the lines into the pager and stay until its user leaves it."""
    stdin: IO[bytes] | None = pager.stdin
    assert stdin is not None
    try:
        # The user has seen enough when the pager is gone; Ctrl-C goes to the pager as well.
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
            for line in lines:
                stdin.write(line.encode(errors="backslashreplace") + b"\n")
    finally:
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
            stdin.close()
        while pager.returncode is None:
            with contextlib.suppress(KeyboardInterrupt):
                pager.wait()


def forget(stream: TextIO) -> None:
    """Point a stream that cannot be written at nothing, so that flushing at exit stays quiet."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
