"""The codec: round trips, strictness, and damage that costs only itself (spec/encoding.md)."""

import struct
import time
from hashlib import blake2b

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.errors import InvalidArgs, InvalidEvent
from grit.core.events import KINDS, Draft, Event, kind_name
from grit.core.ids import ActorId, EventId, IssueId
from tests.core.builders import ACTOR, EXAMPLES, ISSUE, NOW_MS, created, event

HEADER = codec.MAGIC + b"\x01\x00\x07cbor-v1"

TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
LINE = TEXT.filter(bool)
UNKNOWN = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | TEXT | st.binary(max_size=40),
    lambda inside: st.lists(inside, max_size=4).map(tuple),
    max_leaves=8,
)
STRATEGIES = {
    "_TITLE": LINE,
    "_LABEL": LINE,
    "_LABEL0": TEXT,
    "_VALUE": TEXT,
    "_VALUE1": LINE,
    "_ID": st.binary(min_size=16, max_size=16),
    "_EVENT_ID": st.binary(min_size=32, max_size=32),
    "_SHA256": st.binary(min_size=32, max_size=32),
    "_body": TEXT,
    "_labels": st.lists(LINE, max_size=5).map(tuple),
    "_DEPENDENCY": st.sampled_from(kinds.DEPENDENCY_TYPES),
    "_event_ids": st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=3).map(
        lambda ids: tuple(sorted(ids))
    ),
    "_symbols": st.lists(
        st.tuples(TEXT, TEXT, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=3
    ).map(tuple),
}
SPECIAL = {
    (kinds.ISSUE_UPDATED, "title"): st.none() | LINE,
    (kinds.ISSUE_UPDATED, "body"): st.none() | TEXT,
    (kinds.STATE_CHANGED, "state"): st.sampled_from(kinds.STATES),
    (kinds.LINK_ADDED, "note"): st.none() | TEXT,
    (kinds.ACTOR_ANNOUNCED, "public_key"): st.none() | st.binary(min_size=32, max_size=32),
    (kinds.FIELD_SET, "value"): st.none() | TEXT,
}
CHECKS = {id(getattr(kinds, name)): values for name, values in STRATEGIES.items()}


def _payloads(tag: int) -> st.SearchStrategy[tuple[object, ...]]:
    if tag not in KINDS:
        return st.lists(UNKNOWN, max_size=4).map(tuple)
    fields = [
        SPECIAL[tag, name] if (tag, name) in SPECIAL else CHECKS[id(check)]
        for name, check in KINDS[tag].fields
    ]
    return st.tuples(*fields)


@st.composite
def sealed(draw: st.DrawFn) -> Event:
    """Draw any event of any kind, known or of a later version."""
    tag = draw(st.sampled_from(sorted(KINDS)) | st.integers(200, 2**32 - 1))
    payload = draw(_payloads(tag))
    issue = IssueId(draw(st.binary(min_size=16, max_size=16)))
    one = codec.seal(
        Draft(issue, tag, payload),  # type: ignore[arg-type]
        ActorId(draw(st.binary(min_size=16, max_size=16))),
        draw(st.integers(0, limits.TS_UNIX_MS_MAX)),
        draw(st.none() | st.binary(min_size=32, max_size=32).map(EventId)),
    )
    return one._replace(sig=draw(st.none() | st.binary(min_size=64, max_size=64)))


def _array(*records: bytes) -> bytes:
    return HEADER + cbor2.dumps([None] * len(records))[: -len(records) or None] + b"".join(records)


def _forged(*fields: object) -> bytes:
    """Return a record whose id is right, whatever the fields are."""
    preimage = cbor2.dumps([1, *fields])
    return cbor2.dumps([blake2b(preimage, digest_size=32).digest(), *fields, None])


GOOD = event(kinds.COMMENT_ADDED, "Hi")
RECORD = codec.encode_record(GOOD)


@given(st.lists(sealed(), max_size=6), st.sampled_from([codec.MAGIC, codec.MAGIC_GRITE]))
def test_regression_5_events_survive_a_chunk_in_their_order(
    events: list[Event], magic: bytes
) -> None:
    """Any events of any kinds come back the same, in the order given, with their records."""
    data = codec.encode_chunk(events, magic)
    records, problems = codec.decode_chunk(data)
    assert problems == []
    assert [one for one, _ in records] == events
    assert [raw for _, raw in records] == [codec.encode_record(one) for one in events]
    assert [codec.decode_record(raw) for _, raw in records] == events
    assert codec.encode_chunk([one for one, _ in records], magic) == data


@pytest.mark.parametrize("tag", KINDS, ids=kind_name)
def test_the_id_is_the_hash_of_the_preimage(tag: int) -> None:
    """The id is BLAKE2b-256 of canonical CBOR of version, ids, time, parent, kind, payload."""
    one = event(tag, *EXAMPLES[tag])
    preimage = cbor2.dumps([1, *one[1:7]], canonical=True)
    assert one.event_id == blake2b(preimage, digest_size=32).digest()
    assert codec.encode_record(one) == cbor2.dumps(list(one), canonical=True)


def test_labels_of_a_creation_are_sorted_by_bytes_and_once() -> None:
    """Order and repetition of the labels given do not change the event."""
    one = created(labels=("é", "b", "Z", "a", "b", "\N{CRAB}", "\uffff"))
    assert one.payload[2] == ("Z", "a", "b", "é", "\uffff", "\N{CRAB}")
    assert one == created(labels=("\N{CRAB}", "\uffff", "a", "é", "Z", "b"))


@pytest.mark.parametrize(
    ("draft", "ts", "reason"),
    [
        (Draft(ISSUE, kinds.COMMENT_ADDED, ("x",)), -1, "out of bounds"),
        (Draft(ISSUE, kinds.COMMENT_ADDED, ("x",)), limits.TS_UNIX_MS_MAX + 1, "out of bounds"),
        (Draft(ISSUE, kinds.COMMENT_ADDED, (7,)), 0, "CommentAdded: bad body"),
        (Draft(ISSUE, kinds.ISSUE_CREATED, ("", "", ())), 0, "bad title"),
        (Draft(ISSUE, kinds.COMMENT_ADDED, ("\ud800",)), 0, "surrogate"),
        (Draft(ISSUE, kinds.ISSUE_CREATED, ("t", "", ("\udc80",))), 0, "surrogate"),
        (Draft(ISSUE, 4242, (b"x" * limits.EVENT_BYTES_MAX,)), 0, "larger than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_regression_14_what_breaks_a_bound_is_not_sealed(
    draft: Draft, ts: int, reason: str
) -> None:
    """Sealing refuses bad times, payloads, text that is not Unicode, and too many bytes."""
    with pytest.raises(InvalidArgs, match=reason):
        codec.seal(draft, ACTOR, ts, None)


def test_regression_14_a_surrogate_in_a_long_body_is_refused() -> None:
    """Text that needs its bytes counted is refused like any other when it is not Unicode."""
    body = "x" * (limits.TEXT_BYTES_MAX // 2) + "\ud800"
    with pytest.raises(InvalidArgs, match="surrogate"):
        codec.seal(Draft(ISSUE, kinds.COMMENT_ADDED, (body,)), ACTOR, 0, None)


@given(UNKNOWN)
def test_rows_survive_packing(value: object) -> None:
    """What `pack` writes `unpack` gives back, arrays as tuples."""
    assert codec.unpack(codec.pack(value)) == value


@given(st.binary(max_size=80))
def test_unpack_raises_one_error_only(data: bytes) -> None:
    """Bytes that are no CBOR raise InvalidEvent, nothing else."""
    try:
        codec.unpack(data)
    except InvalidEvent as error:
        assert str(error)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_without_an_exception(data: bytes, headed: bool) -> None:
    """Random bytes, with or without a chunk's header, end in problems, never in an exception."""
    records, problems = codec.decode_chunk(HEADER + data if headed else data)
    assert records == []
    assert problems or data[:1] == b"\x80"


@given(st.lists(sealed(), min_size=1, max_size=4), st.data())
def test_mutated_chunks_are_read_without_an_exception(
    events: list[Event], data: st.DataObject
) -> None:
    """After any change of a byte, every event that is still given was in the chunk before."""
    chunk = bytearray(codec.encode_chunk(events))
    for _ in range(data.draw(st.integers(1, 3))):
        chunk[data.draw(st.integers(0, len(chunk) - 1))] ^= data.draw(st.integers(1, 255))
    unsigned = {one._replace(sig=None) for one in events}
    records, problems = codec.decode_chunk(bytes(chunk))
    assert {one._replace(sig=None) for one, _ in records} <= unsigned
    assert len(records) == len(events) or problems


@given(st.lists(sealed(), min_size=1, max_size=4), st.data())
def test_truncated_chunks_keep_what_is_whole(events: list[Event], data: st.DataObject) -> None:
    """A chunk cut anywhere gives the records before the cut, and a problem."""
    chunk = codec.encode_chunk(events)
    cut = chunk[: data.draw(st.integers(0, len(chunk) - 1))]
    records, problems = codec.decode_chunk(cut)
    assert [one for one, _ in records] == events[: len(records)]
    whole = len(cut) - codec.HEADER_BYTES - 1
    ends = [sum(len(codec.encode_record(e)) for e in events[:n]) for n in range(len(events) + 1)]
    assert len(records) == sum(end <= whole for end in ends[1:])
    assert problems


BROKEN = {
    "bad type": _forged(ISSUE, ACTOR, NOW_MS, None, 3, [7]),
    "wrong hash": codec.encode_record(GOOD._replace(event_id=EventId(bytes(32)))),
    "not canonical": b"\x98\x08" + RECORD[1:],
    "not UTF-8": RECORD.replace(b"\x62Hi", b"\x62\xff\xfe"),
    "a tag": b"\x88\xc2" + RECORD[1:],
    "a float": RECORD[:-1] + b"\xf9\x7e\x00",
    "not an array": b"\x01",
    "an empty array": b"\x80",
    "a bignum": _forged(ISSUE, ACTOR, 2**70, None, 3, ["Hi"]),
    "a map": RECORD.replace(b"\x81\x62Hi", b"\xa1\x61a\x61b"),
    "nested": RECORD.replace(b"\x81\x62Hi", b"\x81" * 20 + b"\x62Hi"),
}


@pytest.mark.parametrize("bad", BROKEN)
@pytest.mark.parametrize("at", [0, 500, 999])
def test_regression_6_one_bad_record_costs_only_itself(bad: str, at: int) -> None:
    """Of 1,000 records one is bad: the other 999 are there, and the problem says which."""
    good = [event(kinds.COMMENT_ADDED, f"number {n}", ts=NOW_MS + n) for n in range(999)]
    parts = [codec.encode_record(one) for one in good]
    parts.insert(at, BROKEN[bad])
    records, problems = codec.decode_chunk(_array(*parts))
    assert [one for one, _ in records] == good
    assert [problem.position for problem in problems] == [at]
    assert problems[0].reason


def test_a_problem_names_the_claimed_id() -> None:
    """When a bad record bears something like an id, the problem carries it."""
    claimed = GOOD._replace(event_id=EventId(b"\x09" * 32))
    problems = codec.decode_chunk(_array(codec.encode_record(claimed))).problems
    assert [problem.event_id for problem in problems] == [b"\x09" * 32]
    assert codec.decode_chunk(_array(_forged(*range(60)))).problems[0].event_id is not None
    short = codec.encode_record(GOOD._replace(event_id=EventId(bytes(31))))
    assert codec.decode_chunk(_array(short)).problems[0].event_id is None


def test_many_problems_are_told_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are described each, the rest counted by reason, and those by a bound, too."""
    monkeypatch.setattr(limits, "PROBLEMS_LISTED_MAX", 2)
    monkeypatch.setattr(limits, "PROBLEM_REASONS_MAX", 1)
    bad = [*[b"\x00"] * 4, BROKEN["a float"], BROKEN["a float"]]
    problems = codec.decode_chunk(_array(*bad)).problems
    told = [(one.position, one.record_count) for one in problems]
    assert told == [(0, 1), (1, 1), (2, 2), (4, 2)]
    assert problems[-1].reason == codec.OTHER_REASONS
    assert sum(one.record_count for one in problems) == len(bad)


@pytest.mark.parametrize("target", [100, limits.CHUNK_TARGET_BYTES])
def test_a_large_body_is_walked_before_it_is_made(
    target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is larger than what writers make of many records gives the same events."""
    monkeypatch.setattr(limits, "CBOR_ITEMS_MAX", 100)
    monkeypatch.setattr(limits, "CHUNK_TARGET_BYTES", target)
    many = [event(kinds.COMMENT_ADDED, "x", ts=NOW_MS + n) for n in range(5)]
    records, problems = codec.decode_chunk(codec.encode_chunk(many))
    assert ([one for one, _ in records], problems) == (many, [])


FIELDS: list[tuple[int, object, str]] = [
    (0, bytes(33), "event_id is not 32 bytes"),
    (0, None, "event_id is not 32 bytes"),
    (1, bytes(15), "issue_id is not 16 bytes"),
    (2, "text", "actor_id is not 16 bytes"),
    (3, -1, "ts_unix_ms is out of bounds"),
    (3, True, "ts_unix_ms is out of bounds"),
    (4, bytes(16), "parent is not null or 32 bytes"),
    (5, 0, "kind_tag is out of bounds"),
    (5, 2**32, "kind_tag is out of bounds"),
    (6, ("a", "b"), "needs 1 fields"),
    (7, bytes(63), "sig is not null or 64 bytes"),
    (7, "x" * 64, "sig is not null or 64 bytes"),
]


@pytest.mark.parametrize(("at", "value", "reason"), FIELDS)
def test_each_field_is_checked(at: int, value: object, reason: str) -> None:
    """A wrong type, length or bound of any field is the reason given for that record."""
    fields: list[object] = list(GOOD)
    fields[at] = value
    record = cbor2.dumps(fields) if at in (0, 7) else _forged(*fields[1:7])
    records, problems = codec.decode_chunk(_array(RECORD, record))
    assert [one for one, _ in records] == [GOOD]
    assert [problem.position for problem in problems] == [1]
    assert reason in problems[0].reason


def test_an_event_that_is_too_large_is_set_aside() -> None:
    """A record above EVENT_BYTES_MAX is set aside, the small one beside it is kept."""
    large = _forged(ISSUE, ACTOR, NOW_MS, None, 4242, [b"x" * limits.EVENT_BYTES_MAX])
    records, problems = codec.decode_chunk(_array(large, RECORD))
    assert [one for one, _ in records] == [GOOD]
    assert "at most" in problems[0].reason


WHOLE: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "wrong magic"),
    ("another magic", b"GRITXXXX" + HEADER[8:] + b"\x80", "wrong magic"),
    ("another version", codec.MAGIC + b"\x02\x00\x07cbor-v1\x80", "unknown version"),
    ("another codec", codec.MAGIC + b"\x01\x00\x07cbor-v2\x80", "unknown version"),
    ("no body", HEADER, "cut short"),
    ("a map", HEADER + b"\xa0", "not canonical"),
    ("an indefinite array", HEADER + b"\x9f\xff", "not canonical"),
    ("too many claimed", HEADER + b"\x9b" + b"\xff" * 8, "more records than"),
    ("ten times what fits", HEADER + b"\x9a\x00\x01\x86\xa0" + bytes(740_000), "more records than"),
    ("deep nesting", HEADER + b"\x81" * 100_000, "nested too deep"),
    ("bytes after nothing", HEADER + b"\x80\x00", "not canonical"),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in WHOLE], ids=[r[0] for r in WHOLE])
def test_a_chunk_that_is_none_is_one_problem(data: bytes, reason: str) -> None:
    """A wrong header or body is reported for the chunk as a whole."""
    records, problems = codec.decode_chunk(data)
    assert records == []
    assert [problem.position for problem in problems] == [None]
    assert reason in problems[0].reason


def test_bytes_around_the_records_are_reported() -> None:
    """Trailing bytes, a missing record and a long head of the array are problems."""
    assert "1 bytes after" in codec.decode_chunk(_array(RECORD) + b"\x00").problems[0].reason
    missing = codec.decode_chunk(HEADER + b"\x82" + RECORD + RECORD[:60])
    assert [one for one, _ in missing.records] == [GOOD]
    assert "from record 1 on: cut short" in missing.problems[0].reason
    long_head = codec.decode_chunk(HEADER + b"\x98\x01" + RECORD)
    assert "not canonical" in long_head.problems[0].reason


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 70_000])
def test_arrays_of_every_head_are_read(count: int) -> None:
    """The count of records may need any width of the head of an array."""
    chunk = codec.encode_chunk([GOOD] * count)
    records, problems = codec.decode_chunk(chunk)
    assert (len(records), problems) == (count, [])


def test_split_chunks_keeps_order_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks stay under the writer's count and bytes; a large event travels alone."""
    monkeypatch.setattr(limits, "CHUNK_EVENTS_MAX", 3)
    monkeypatch.setattr(limits, "CHUNK_TARGET_BYTES", 1000)
    events = [event(kinds.COMMENT_ADDED, "x" * size) for size in (1, 2, 3, 4, 2000, 5, 900, 6)]
    chunks = [codec.decode_chunk(data).records for data in codec.split_chunks(events)]
    assert [one for chunk in chunks for one, _ in chunk] == events
    assert [len(chunk) for chunk in chunks] == [3, 1, 1, 1, 1, 1]
    assert list(codec.split_chunks([])) == []
    grite = next(codec.split_chunks(events, codec.MAGIC_GRITE))
    assert grite.startswith(b"GRITECNK")


def test_the_hash_of_a_chunk_covers_the_whole_file() -> None:
    """The hash is BLAKE2b-256 of header and body."""
    data = codec.encode_chunk([GOOD])
    assert codec.chunk_hash(data) == blake2b(data, digest_size=32).digest()


def _map(pairs: int) -> bytes:
    return b"\xb9" + struct.pack(">H", pairs) + b"\x01\x02" * pairs


COSTLY = {
    "100,000 nested arrays": HEADER + b"\x81" * 100_000,
    "10 MB of empty arrays": HEADER + b"\x80" * 10_000_000,
    "too many empty arrays": HEADER + b"\x9a" + struct.pack(">I", 140_000) + b"\x80" * 10_000_000,
    "10 MB of empty arrays in a record": HEADER + b"\x81\x9a\x00\x98\x96\x80" + b"\x80" * 10**7,
    "16 MB of zeros": HEADER + bytes(limits.CHUNK_BYTES_MAX - len(HEADER)),
    "too large": bytes(limits.CHUNK_BYTES_MAX + 1),
    "a map of many keys": HEADER + b"\x81" + _map(60_000),
    "2^40 bytes claimed": HEADER + b"\x81\x5b" + struct.pack(">Q", 2**40) + bytes(100),
    "2^40 items claimed": HEADER + b"\x81\x9b" + struct.pack(">Q", 2**40) + bytes(100),
}


@pytest.mark.parametrize("name", COSTLY)
def test_small_bytes_never_cost_much_time(name: str) -> None:
    """What is built to be expensive to read is given up within a bounded number of items.

    That is 5 s of a machine on which a loop of 5,000,000 lists takes 0.28 s, and as many loops
    elsewhere: a machine that others use may count several times as much for the same work.
    """
    started = time.process_time()
    for _ in range(5_000_000):
        _ = []
    loop_s = time.process_time() - started
    records, problems = codec.decode_chunk(COSTLY[name])
    assert time.process_time() - started - loop_s < 5 / 0.28 * loop_s
    assert (records, len(problems)) == ([], 1)


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 10_000])
def test_a_chunk_of_records_is_the_chunk_of_their_events(count: int) -> None:
    """Stored records are put into a chunk as they are, with the shortest head for their number."""
    record = codec.encode_record(GOOD)
    assert codec.join_records([record] * count) == codec.encode_chunk([GOOD] * count)


def test_the_event_set_does_not_know_an_order() -> None:
    """Equal sets of ids have one hash, in whatever order they come; others have another one."""
    one, two = bytes(32), b"\x01" * 32
    assert codec.event_set([one, two]) == codec.event_set(iter([two, one]))
    assert codec.event_set([one, two]) == blake2b(one + two, digest_size=32).digest()
    assert codec.event_set([one]) != codec.event_set([two])
