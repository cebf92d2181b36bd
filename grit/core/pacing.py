"""When background work is due: events gather, failures wait, a circuit opens (spec/daemon.md).

Times are milliseconds of a clock that only goes forward; randomness is an argument.
"""

from typing import Final, NamedTuple

from grit.core.limits import (
    CIRCUIT_FAILURES,
    CIRCUIT_PAUSE_MS_MAX,
    CIRCUIT_PAUSE_MS_MIN,
    GATHERED_DEBOUNCES_MAX,
    SYNC_RETRY_MS_MIN,
)

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
_DOUBLINGS_MAX: Final = 16


class Gathered(NamedTuple):
    """Events that one run will answer: when the first and the last of them came."""

    first_ms: int
    last_ms: int

    def due_ms(self, debounce_ms: int) -> int:
        """Return when the run is due: after a quiet time, and never much later than the first."""
        return min(self.last_ms + debounce_ms, self.first_ms + GATHERED_DEBOUNCES_MAX * debounce_ms)


def gather(before: Gathered | None, now_ms: int) -> Gathered:
    """Return what is gathered when another event comes."""
    return Gathered(now_ms if before is None else before.first_ms, now_ms)


class Pace(NamedTuple):
    """How long failures wait."""

    retry_ms_min: int = SYNC_RETRY_MS_MIN
    """After the first failure; doubled by each that follows."""
    failures_max: int = CIRCUIT_FAILURES
    """With that many in a row the circuit opens."""
    pause_ms_min: int = CIRCUIT_PAUSE_MS_MIN
    """After the failure that opened it; doubled by each that follows."""
    pause_ms_max: int = CIRCUIT_PAUSE_MS_MAX


class Circuit(NamedTuple):
    """What stands between a failing action and its next try."""

    failures: int = 0
    """In a row."""
    open: bool = False
    trying: bool = False
    retry_ms: int | None = None
    """Not before then; None: at once."""

    @property
    def state(self) -> str:
        """Return CLOSED, OPEN, or HALF_OPEN while the one try of an open circuit runs."""
        if not self.open:
            return CLOSED
        return HALF_OPEN if self.trying else OPEN

    def allows(self, now_ms: int) -> bool:
        """Return whether a try may begin."""
        return not self.trying and (self.retry_ms is None or now_ms >= self.retry_ms)

    def begun(self) -> "Circuit":
        """Return the circuit while a try runs."""
        return self._replace(trying=True)

    def failed(self, now_ms: int, noise: float, pace: Pace) -> "Circuit":
        """Return the circuit after a failure; `noise`, from 0 to below 1, keeps clones apart."""
        failures = self.failures + 1
        opened = failures >= pace.failures_max
        if opened:
            doublings = min(failures - pace.failures_max, _DOUBLINGS_MAX)
            most = min(pace.pause_ms_max, pace.pause_ms_min << doublings)
        else:
            doublings = min(failures - 1, _DOUBLINGS_MAX)
            most = min(pace.pause_ms_min, pace.retry_ms_min << doublings)
        return Circuit(failures, opened, False, now_ms + int(most * (1 + noise) / 2))
