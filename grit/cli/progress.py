"""The progress bar on stderr: for work over a second, on a terminal alone."""

import time
from collections.abc import Callable
from typing import Final, TextIO

from grit.cli.table import fit, width
from grit.core.escape import escape

QUIET_S: Final = 1.0
"""Work that is over sooner shows nothing."""
REDRAW_S: Final = 0.1


class ProgressBar:
    """A ProgressReporter that draws on one line of a terminal and wipes it at the end."""

    def __init__(
        self, stream: TextIO, columns: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on `stream`, at most `columns` wide; `clock` counts seconds."""
        self._stream = stream
        self._columns = columns
        self._clock = clock
        self._label = ""
        self._total: int | None = None
        self._count = 0
        self._began_s = 0.0
        self._next_s = 0.0
        self._drawn = False

    def start(self, label: str, total: int | None = None) -> None:
        """Begin a piece of work of `total` steps, or of an unknown number."""
        self.done()
        self._label, self._total, self._count = escape(label), total, 0
        self._began_s = self._clock()
        self._next_s = self._began_s + QUIET_S

    def advance(self, count: int = 1) -> None:
        """Count steps, and draw when it is time."""
        self._count += count
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + REDRAW_S
            self._draw(now_s)

    def done(self) -> None:
        """Wipe the line, if one was drawn."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _draw(self, now_s: float) -> None:
        if self._total:
            part = min(self._count / self._total, 1.0)
            figures = f" {part:4.0%}  {self._count:,} of {self._total:,}"
            left_s = (now_s - self._began_s) * (1 - part) / part if part else 0.0
            figures += f"  {left_s:.0f} s left" if left_s >= 2 else ""
            room = min(self._columns - width(self._label) - len(figures) - 4, 30)
            full = round(part * room)
            bar = f"[{'#' * full}{'.' * (room - full)}]" if room >= 5 else ""
            line = f"{self._label} {bar}{figures}"
        else:
            line = f"{self._label}  {self._count:,}  {now_s - self._began_s:.0f} s"
        self._write("\r" + fit(line, self._columns - 1) + "\x1b[K")
        self._drawn = True

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # a terminal that went away must not stop the work
            self._next_s = float("inf")
