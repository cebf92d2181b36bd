"""What was set aside, as the view keeps it: one row a chunk, and not too many (spec/view.md, Rows).

Which rows are kept depends on the chunks alone, not on the order in which they came.
"""

from collections.abc import Iterator, Sequence
from typing import Final, cast

from grit.core.codec import Problem, pack, unpack
from grit.core.limits import ASIDES_MAX
from grit.view import keys
from grit.view.database import Txn
from grit.view.rows import Aside, scan

_GONE: Final = b"0"
"""What cannot be read may come back, and must not be forgotten: it sorts first."""
_READ: Final = b"1"
_MORE: Final = keys.ASIDE + b"\xff"
"""A row here says that others were left out. It sorts last."""


def note(txn: Txn, problems: Sequence[tuple[str, Problem]]) -> None:
    """Keep what was set aside, of each chunk at once; of very many chunks those that sort first."""
    chunks: dict[str, list[Problem]] = {}
    for blob, problem in problems:
        chunks.setdefault(blob, []).append(problem)
    room = ASIDES_MAX - sum(1 for _ in _rows(txn))
    for blob, found in chunks.items():
        position, reason, event_id, _ = found[0]
        gone = position is None and reason.endswith("missing or broken")
        key = keys.ASIDE + (_GONE if gone else _READ) + blob.encode()
        count = sum(problem.record_count for problem in found)
        room -= txn.get(key) is None
        txn.put(key, pack((blob, position, reason, event_id, count)))
    for key in _last(txn, -room):
        txn.delete(key)
        txn.put(_MORE, b"")


def listed(txn: Txn) -> list[Aside]:
    """Return what is kept."""
    return [Aside(*cast(Aside, unpack(value))) for _, value in _rows(txn)]


def has_more(txn: Txn) -> bool:
    """Return whether others were left out."""
    return txn.get(_MORE) is not None


def _rows(txn: Txn) -> Iterator[tuple[bytes, bytes]]:
    return (row for row in scan(txn, keys.ASIDE) if row[0] != _MORE)


def _last(txn: Txn, count: int) -> list[bytes]:
    """Return the keys that sort last; none where the count is not above 0."""
    if count <= 0:
        return []
    return [key for key, _ in _rows(txn)][-count:]
