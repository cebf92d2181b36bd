"""When the worker syncs in the background, and what came of it (spec/daemon.md)."""

import os
import time
from typing import NamedTuple

from grit.core.limits import BACKGROUND_SYNC_S_MAX, HEALTH_MS
from grit.core.pacing import Circuit, Pace
from grit.daemon.sync_process import Outcome, SyncProcess
from grit.daemon.warming import Warmed
from grit.services.background import Background


class Timing(NamedTuple):
    """The paces of a worker, which tests make shorter."""

    pace: Pace = Pace()
    sync_ms_max: int = BACKGROUND_SYNC_S_MAX * 1000
    health_ms: int = HEALTH_MS


def now_ms() -> int:
    """Return the time of a clock that only goes forward."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Return the unix time, which is only shown."""
    return time.time_ns() // 1_000_000


def noise() -> float:
    """Return anything from 0 to below 1."""
    return int.from_bytes(os.urandom(2), "big") / 65_536


class Syncs:
    """What is known of background syncs, and the one that runs."""

    def __init__(self, timing: Timing) -> None:
        """Nothing was synced yet; a pull is due at once."""
        self.process: SyncProcess | None = None
        self.circuit = Circuit()
        self.begun_ms = 0
        self.took_ms: int | None = None
        """What the last good one took; None: there was none."""
        self.unsent = False
        self._timing = timing
        self._pull_ms = 0
        self._record: str | None = None
        self._adopts = True
        """Whether the record may have moved by what this worker did."""
        self._last: dict[str, object] | None = None
        self._retry_ts: int | None = None

    def due_ms(self, settings: Background) -> int | None:
        """Return when there is something to do: a sync to begin, or the bound of one that runs."""
        if self.process is not None:
            return self.begun_ms + self._timing.sync_ms_max
        due = [self._pull_ms] if settings.pulls else []
        if settings.pushes and self.unsent:
            due.append(0)
        return max(min(due), self.circuit.retry_ms or 0) if due else None

    def note_run(self, done: Warmed, settings: Background) -> None:
        """Take what a run saw of the remote's record."""
        self.unsent = done.unsent
        if self.process is not None:
            return
        reached = not self._adopts and done.record != self._record  # by somebody else
        needless = not done.unsent and not settings.pulls
        if reached or needless:
            self._close()
        self._record, self._adopts = done.record, False

    def note_end(self, outcome: Outcome, settings: Background) -> str | None:
        """Take how a sync ended; return what is wrong, if anything. A run follows a failure."""
        now = now_ms()
        self.process, self._adopts = None, True
        self._last = {
            "ts": wall_ms(),
            "ok": outcome.ok,
            "remote": outcome.remote,
            "received": outcome.received,
            "sent": outcome.sent,
            "error": outcome.error,
            "took_ms": now - self.begun_ms,
        }
        if outcome.ok:
            self._close()
            self.took_ms = now - self.begun_ms
            # What was written meanwhile: the record has moved, and the run after that looks.
            self.unsent = False
            self._pull_ms = now + settings.interval_s * 1000
            return None
        self.circuit = self.circuit.failed(now, noise(), self._timing.pace)
        assert self.circuit.retry_ms is not None
        self._retry_ts = wall_ms() + self.circuit.retry_ms - now
        often = f" ({self.circuit.failures} times in a row)" if self.circuit.open else ""
        return f"{outcome.error}{often}"

    def forget(self) -> None:
        """Begin anew under other settings."""
        if self.process is None:
            self._close()
        self._pull_ms = 0

    def _close(self) -> None:
        self.circuit, self._retry_ts = Circuit(), None

    def state(self) -> dict[str, object]:
        """Return what `daemon status` shows (spec/json.md)."""
        return {
            "running": self.process is not None,
            "unsent": self.unsent,
            "last": self._last,
            "failures": self.circuit.failures,
            "circuit": self.circuit.state,
            "retry_ts": self._retry_ts,
        }
