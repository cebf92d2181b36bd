"""Verifying signatures, many at once on every core, a few in the process (spec/trust.md, Cost)."""

from collections.abc import Iterator, Sequence
from typing import Final

from grit.core.signing import SIGNED_BYTES, are_valid
from grit.services.forked import Pool

PORTION: Final = 1_000
"""Signatures that are sent to a helper at once: about 60 ms of work."""
ALONE_MAX: Final = 250
"""Fewer are verified here: starting helpers costs what 50 signatures do."""


class Verifier:
    """Verifies; its helpers are started when they pay, and must be closed at the end."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._pool: Pool | None = None

    def start(self) -> None:
        """Fork now, while this process is small: there is much to come."""
        if self._pool is None:
            self._pool = Pool(are_valid)

    def close(self) -> None:
        """End the helpers."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def verify(self, signed: Sequence[bytes]) -> bytes:
        """Return a byte for each key + signature + event_id: 1 when it is valid, else 0."""
        if len(signed) <= ALONE_MAX:
            return are_valid(b"".join(signed))
        self.start()
        assert self._pool is not None
        found = []
        for portion, answers in self._pool.answers(_portions(signed), lambda part: [part]):
            answer = answers[0] if answers else b""
            # Who does not answer for all is not believed for any.
            found.append(
                answer if len(answer) * SIGNED_BYTES == len(portion) else are_valid(portion)
            )
        return b"".join(found)


def _portions(signed: Sequence[bytes]) -> Iterator[bytes]:
    for start in range(0, len(signed), PORTION):
        yield b"".join(signed[start : start + PORTION])
