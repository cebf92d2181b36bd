"""The port by which long work reports how far it is; the shells draw it, tests watch it."""

from typing import Final, Protocol


class ProgressReporter(Protocol):
    """Told by a service about one piece of work after the other."""

    def start(self, label: str, total: int | None = None) -> None:
        """Begin a piece of work of `total` steps, or of an unknown number."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more steps are done."""

    def done(self) -> None:
        """End the piece of work; harmless when none was begun."""


class SilentProgress:
    """Reports to nobody."""

    def start(self, label: str, total: int | None = None) -> None:
        """Ignore it."""

    def advance(self, count: int = 1) -> None:
        """Ignore it."""

    def done(self) -> None:
        """Ignore it."""


SILENT: Final = SilentProgress()
"""For callers without anybody to tell."""
