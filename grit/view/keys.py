"""Byte layout of the view's keys, as pure functions (spec/view.md, Keys).

One LMDB tree holds everything; the first byte of a key names the table. Events come last, so that
they are appended at the end of the tree. Integers are big-endian, so that bytes sort as numbers.

table       key                                             value
ACTOR       actor_id(16)                                    crc, announcement and last event
COUNT       tag term 00 state(1)                            u64, never 0
DEPENDENT   target(16) source(16) type(1)                   empty
HELD        as ORDER                                        seq(8), why it does not count
INDEX       tag term 00 state(1) order(8) issue_id(16)      empty
JOURNAL     number(8)                                       commit id and raw objects
META        (nothing)                                       crc, head and totals
ORDER       issue_id(16) ts(8) actor(16) event_id(32)       seq(8)
ASIDE       readable(1) blob oid                            what was set aside first, and how much
DOUBT       actor(16) event_id(32)                          issue_id(16) ts(8), status, signatures
ISSUE       issue_id(16)                                    crc, summary and blocked flag
REFOLD      issue_id(16)                                    empty: its row waits for the last batch
STALE       issue_id(16)                                    empty: its words are not indexed yet
WORD        word 00 issue_id(16)                            empty
EVENT       seq(8)                                          crc, stored record
"""

from typing import Final

from grit.core.events import DEPENDENCY_TYPES, Event
from grit.core.ids import IssueId
from grit.core.issue import Order, Summary
from grit.core.query import field_value, priority_rank

ACTOR: Final = b"a"
COUNT: Final = b"c"
DEPENDENT: Final = b"d"
HELD: Final = b"h"
INDEX: Final = b"i"
JOURNAL: Final = b"j"
META: Final = b"m"
ORDER: Final = b"o"
ASIDE: Final = b"p"
DOUBT: Final = b"q"
REFOLD: Final = b"r"
ISSUE: Final = b"s"
STALE: Final = b"t"
WORD: Final = b"w"
EVENT: Final = b"\xff"

ALL: Final = b"A"
LABEL: Final = b"L"
ASSIGNEE: Final = b"S"
AUTHOR: Final = b"U"
FIELD: Final = b"F"
BLOCKED: Final = b"B"
READY_RANKED: Final = b"R"
"""Ordered by priority, then by creation; the other indexes have the last updated first."""
BLOCKED_RANKED: Final = b"Q"

OPEN: Final = 0
CLOSED: Final = 1
DELETED_OPEN: Final = 2
DELETED_CLOSED: Final = 3
STATES: Final = (OPEN, CLOSED, DELETED_OPEN, DELETED_CLOSED)

SEQ_BYTES: Final = 8
ID_BYTES: Final = 16
ORDER_KEY_BYTES: Final = 1 + ID_BYTES + 8 + ID_BYTES + 32
SUFFIX_BYTES: Final = 8 + ID_BYTES
"""Order and issue id: what follows the state in an index key."""
_TERM_BYTES_MAX: Final = 100
_TERM_BYTES_KEPT: Final = 64
_U64_MAX: Final = 2**64 - 1


def u64(number: int) -> bytes:
    """Return eight bytes that sort as the number does."""
    return number.to_bytes(8, "big")


def number(data: bytes) -> int:
    """Return the number of `u64`."""
    return int.from_bytes(data, "big")


def after(prefix: bytes) -> bytes:
    """Return the smallest key above all keys that start with `prefix` (not all 0xff)."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))


def event_order(event: Event) -> bytes:
    """Return the ORDER key of an event."""
    event_id, issue_id, actor_id, ts_unix_ms = event[:4]
    return ORDER + issue_id + ts_unix_ms.to_bytes(8, "big") + actor_id + event_id


def order_key(issue_id: IssueId, order: Order) -> bytes:
    """Return the ORDER key of the event of `issue_id` at that place."""
    ts_unix_ms, actor_id, event_id = order
    return ORDER + issue_id + ts_unix_ms.to_bytes(8, "big") + actor_id + event_id


def _utf8(text: str) -> bytes:
    # A query may hold what no event does: the bytes of an argument that is not UTF-8.
    return text.encode("utf-8", "surrogatepass")


def term_bytes(text: str) -> bytes:
    """Return a term as it stands in keys: without 00, bounded, and distinct for distinct texts.

    0xff occurs in no UTF-8 text, so that a cut term cannot be mistaken for another one.
    """
    data = _utf8(text)
    if len(data) <= _TERM_BYTES_MAX and b"\0" not in data:
        return data
    return _cut(data)


def _cut(data: bytes) -> bytes:
    from hashlib import blake2b  # rare, and 2 ms to load

    kept = data[:_TERM_BYTES_KEPT].split(b"\0", 1)[0]
    return kept + b"\xff" + blake2b(data, digest_size=16).hexdigest().encode()


def actor_term(actor_id: bytes) -> bytes:
    """Return an actor as a term: hex, which holds no 00."""
    return actor_id.hex().encode()


def field_term(key: str, form: str) -> bytes:
    """Return a field and its value, in the form that `query.field_value` gives it, as one term."""
    data = b"\xfe".join((_utf8(key), _utf8(form)))
    if len(data) <= _TERM_BYTES_MAX and b"\0" not in data:
        return data
    return _cut(data)


def state_of(summary: Summary) -> int:
    """Return the state byte of an issue: deleted ones stand apart."""
    return (0 if summary.state == "open" else 1) + (2 if summary.deleted else 0)


def updated_order(ts_unix_ms: int) -> bytes:
    """Return the order of an index where the last updated comes first."""
    return (_U64_MAX - ts_unix_ms).to_bytes(8, "big")


def updated_of(order: bytes) -> int:
    """Return the time, unix milliseconds, of an `updated_order`."""
    return _U64_MAX - int.from_bytes(order, "big")


def ranked_order(summary: Summary) -> bytes:
    """Return the order of an index where the most urgent and then the oldest comes first."""
    rank = priority_rank(summary.field("priority"))
    return bytes((rank,)) + summary.created_ts.to_bytes(7, "big")


def index_prefix(tag: bytes, term: bytes, state: int) -> bytes:
    """Return what all index keys of one term and state start with."""
    return INDEX + tag + term + b"\0" + bytes((state,))


def count_key(prefix: bytes) -> bytes:
    """Return the COUNT key that belongs to an `index_prefix`."""
    return COUNT + prefix[1:]


def index_keys(summary: Summary, *, blocked: bool) -> set[bytes]:
    """Return every INDEX key of an issue."""
    state = state_of(summary)
    updated = updated_order(summary.updated_ts) + summary.issue_id
    tail = b"\0" + bytes((state,)) + updated
    keys = {
        INDEX + ALL + tail,
        INDEX + AUTHOR + actor_term(summary.author) + tail,
        *(INDEX + LABEL + term_bytes(label) + tail for label in summary.labels),
        *(INDEX + ASSIGNEE + term_bytes(user) + tail for user in summary.assignees),
        *(
            INDEX + FIELD + field_term(key, field_value(key, value)) + tail
            for key, value in summary.fields
        ),
    }
    if state == OPEN:
        tag = BLOCKED_RANKED if blocked else READY_RANKED
        keys.add(index_prefix(tag, b"", state) + ranked_order(summary) + summary.issue_id)
        if blocked:
            keys.add(INDEX + BLOCKED + tail)
    return keys


def dependent_key(target: bytes, source: bytes, dep_type: str) -> bytes:
    """Return the DEPENDENT key of an edge that `source` states."""
    return DEPENDENT + target + source + bytes((DEPENDENCY_TYPES.index(dep_type),))


def dependent_of(key: bytes) -> tuple[IssueId, str]:
    """Return source and type of a DEPENDENT key."""
    return IssueId(key[17:33]), DEPENDENCY_TYPES[key[33]]


def word_key(word: str, issue_id: bytes) -> bytes:
    """Return the WORD key of a word that stands in an issue (a word holds no 00)."""
    return WORD + word.encode() + b"\0" + issue_id


def prefix_bounds(table: bytes, prefix: str) -> tuple[bytes, bytes]:
    """Return first and last key of `table` for ids that start with the hex `prefix`."""
    digits = ID_BYTES * 2
    return (
        table + bytes.fromhex(prefix.ljust(digits, "0")),
        table + bytes.fromhex(prefix.ljust(digits, "f")),
    )
