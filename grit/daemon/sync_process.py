"""A background sync: 'grit sync' in a process that can ask nobody (spec/daemon.md)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

_PROGRAM: Final = "import sys; from grit.cli.main import main; main()"
_FLAGS: Final = {"pull": ["--pull"], "push": ["--push"], "both": []}
_ANSWER_BYTES_MAX: Final = 1 << 20
_WORDS_CHARS_MAX: Final = 1_000
_END_S: Final = 0.2
"""How long a sync that was told to end may clear up."""


class Outcome(NamedTuple):
    """How a sync ended; heads are commit ids."""

    ok: bool
    error: str | None = None
    remote: str | None = None
    received: int = 0
    sent: int = 0
    remote_head: str | None = None


class SyncProcess:
    """One sync that runs; its end is a SIGCHLD."""

    def __init__(self, directory: str, environ: Mapping[str, str], auto: str) -> None:
        """Start it from `directory`, in the directions that `auto` names; raises OSError."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, "sync", "--json", *_FLAGS[auto]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=directory,
            env=unattended(environ),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._answer = b""

    def outcome(self) -> Outcome | None:
        """Return how it ended, or None while it runs."""
        status = self._process.poll()
        self._read()
        if status is None:
            return None
        self._pipe.close()
        return _judged(self._answer, status)

    def end(self) -> None:
        """End it, with all that it has started; what it received stays."""
        deadline = time.monotonic() + _END_S
        self._kill(signal.SIGTERM)
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        self._kill(signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def _kill(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while len(self._answer) < _ANSWER_BYTES_MAX:
                piece = os.read(self._pipe.fileno(), 1 << 16)
                if not piece:
                    return
                self._answer += piece


def unattended(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which nothing asks a person, and no server is started."""
    kept = {name: value for name, value in environ.items() if name != "SSH_ASKPASS"}
    return {
        **kept,
        "GRIT_NO_DAEMON": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # Empty, not absent: it hides core.askPass too.
        "GIT_ASKPASS": "",
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
    }


def _judged(answer: bytes, status: int) -> Outcome:
    try:
        document = json.loads(answer)
        if document["ok"]:
            data = document["data"]
            return Outcome(
                True,
                None,
                str(data["remote"]),
                int(data["events_received"]),
                int(data["events_sent"]),
                data["remote_wal_head"],
            )
        words = str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        words = f"the sync ended with status {status}"
    return Outcome(False, words[:_WORDS_CHARS_MAX])
