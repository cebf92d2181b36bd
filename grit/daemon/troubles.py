"""What is wrong, as the worker's state and the server's log say it (spec/daemon.md, Health)."""

import os
import time
from contextlib import suppress
from typing import Final

from grit.core.errors import GritError

_NOTICES_KEPT: Final = 64


class Troubles:
    """Problems that last, by what they are about; each is said when it begins and when it ends."""

    def __init__(self) -> None:
        """All is well."""
        self._messages: dict[str, str] = {}
        self._notices: set[str] = set()

    def note(self, about: str, message: str | None) -> None:
        """Take what is wrong there now; None: nothing."""
        if message is None:
            if self._messages.pop(about, None) is not None:
                _say(f"{about}: well again")
        elif self._messages.get(about) != message:
            self._messages[about] = message
            _say(f"{about}: {message}")

    def hear(self, notice: str) -> None:
        """Take a notice of a service to the log, once."""
        if notice not in self._notices:
            if len(self._notices) >= _NOTICES_KEPT:
                self._notices.clear()
            self._notices.add(notice)
            _say(notice)

    def state(self) -> list[dict[str, str]]:
        """Return the problems there are (spec/json.md)."""
        return [{"check": name, "message": said} for name, said in self._messages.items()]


def words(error: GritError | OSError) -> str:
    """Return what an error says."""
    if isinstance(error, GritError):
        return error.message
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def refuse(error: GritError) -> None:
    """Say why there is no worker."""
    _say(f"not started: {error.message}")


def _say(text: str) -> None:
    with suppress(OSError):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{stamp} {os.getpid()} worker: {' '.join(text.split())}\n"
        os.write(2, line.encode(errors="backslashreplace"))
