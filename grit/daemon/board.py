"""State that processes of one server share: each part has one writer, all may read."""

import json
import mmap
import time
from typing import Final

PART_BYTES: Final = 32 * 1024
_HEAD_BYTES: Final = 16
_READ_TRIES: Final = 1_000
_NAP_S: Final = 0.0005
"""A writer that was interrupted in the middle goes on soon."""


class Board:
    """Parts of shared memory that hold a JSON document each; made before the processes fork."""

    def __init__(self, parts: int) -> None:
        """Share memory for that many parts."""
        self._memory = mmap.mmap(-1, parts * PART_BYTES)
        self._counts = [0] * parts

    def write(self, part: int, document: dict[str, object]) -> None:
        """Replace what a part says; only one process may write it. Too long a one is left out."""
        data = json.dumps(document).encode()
        if len(data) > PART_BYTES - _HEAD_BYTES:
            return
        start = part * PART_BYTES
        count = self._counts[part] + 2
        self._counts[part] = count
        # Odd while it is being written: a reader that meets that looks again.
        self._memory[start : start + 8] = (count - 1).to_bytes(8, "big")
        self._memory[start + 8 : start + _HEAD_BYTES] = len(data).to_bytes(8, "big")
        self._memory[start + _HEAD_BYTES : start + _HEAD_BYTES + len(data)] = data
        self._memory[start : start + 8] = count.to_bytes(8, "big")

    def read(self, part: int) -> dict[str, object]:
        """Return what a part says; nothing when it was never written, or its writer died in it."""
        start = part * PART_BYTES
        for _ in range(_READ_TRIES):
            before = self._memory[start : start + 8]
            size = int.from_bytes(self._memory[start + 8 : start + _HEAD_BYTES], "big")
            data = self._memory[start + _HEAD_BYTES : start + _HEAD_BYTES + size]
            if before == self._memory[start : start + 8] and before[7] % 2 == 0:
                return json.loads(data) if size else {}
            time.sleep(_NAP_S)
        return {}
