"""The fast check of chunks of many records says what the check of single records says."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import cast

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.codec import DecodedChunk
from grit.core.events import Event
from grit.core.ids import EventId
from tests.core.builders import EXAMPLES, NOW_MS, created, event

Record = list[object]


def many() -> list[Event]:
    """Seal an event of every kind, with and without parent and signature."""
    events = [
        event(tag, *payload, ts=NOW_MS + at, parent=EventId(b"\x07" * 32) if at % 3 else None)
        for at, (tag, payload) in enumerate(EXAMPLES.items())
        if tag in kinds.KINDS
    ]
    return [one._replace(sig=b"\x09" * 64) if at % 4 == 0 else one for at, one in enumerate(events)]


def sealed(record: Record) -> Record:
    """Give a record of any fields the id that belongs to them."""
    preimage = cbor2.dumps([1, *record[1:7]])
    return [blake2b(preimage, digest_size=32).digest(), *record[1:]]


def chunk(records: Sequence[object]) -> bytes:
    return codec.encode_chunk([])[: codec.HEADER_BYTES] + cbor2.dumps(records)


def one_by_one(data: bytes) -> DecodedChunk:
    """Decode without the fast check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_COLUMNS_RECORDS_MIN", limits.CHUNK_BYTES_MAX)
        return codec.decode_chunk(data)


def test_sound_chunks_take_the_fast_check() -> None:
    """Every known kind passes the fast check, and both ways of decoding agree to the byte."""
    data = codec.encode_chunk(many())
    sizes = codec.sound_sizes(data)
    assert sizes is not None
    assert codec.split_sound(data, sizes) == codec.decode_chunk(data) == one_by_one(data)
    assert [found for found, _ in codec.decode_chunk(data).records] == many()
    assert len(codec.decode_chunk(data).records) >= codec._COLUMNS_RECORDS_MIN


def test_what_looks_like_a_start_is_none() -> None:
    """A time that ends in 88 before a parent of the same chunk looks like the start of a record."""
    first = created()
    rest = [
        event(kinds.LABEL_ADDED, "x", ts=0x18B_0000_0088 + 256 * at, parent=first.event_id)
        for at in range(20)
    ]
    data = codec.encode_chunk([first, *rest])
    assert data.count(b"\x88\x58\x20") > 21
    sizes = codec.sound_sizes(data)
    assert sizes is not None
    assert codec.split_sound(data, sizes) == one_by_one(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_ISSUE_HEAD", b"")
        assert codec.sound_sizes(data) is None
        assert codec.decode_chunk(data) == one_by_one(data)


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("at", [0, 5, 29])
def test_an_id_with_the_head_of_a_record_in_it(place: int, at: int) -> None:
    """One hash in half a million has it somewhere; who lies about an id can put it there."""
    records = [list(one) for one in many()]
    records[place][0] = (b"\x01" * at + codec.RECORD_HEAD + b"\x02" * 32)[:32]
    data = chunk(records)
    assert codec.decode_chunk(data) == one_by_one(data)
    assert codec.sound_sizes(data) is None
    small = [chunk([one]) for one in records]
    assert [one.records for one in codec.decode_chunks(small)].count([]) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "hasher", lambda: lambda preimage: Named(preimage, records))
        assert one_by_one(data).problems == []
        assert codec.decode_chunk(data) == one_by_one(data)


class Named:
    """A hash that is what the records say."""

    def __init__(self, preimage: bytes, records: Sequence[Record]) -> None:
        by_preimage = {cbor2.dumps([1, *one[1:7]]): one[0] for one in records}
        self._digest = by_preimage[preimage]

    def digest(self) -> bytes:
        return cast(bytes, self._digest)


BAD: dict[str, tuple[int, object]] = {
    "issue_id short": (1, b"\x01" * 15),
    "issue_id text": (1, "x" * 16),
    "actor_id text": (2, "x" * 16),
    "actor_id long": (2, b"\x01" * 17),
    "time text": (3, "now"),
    "time true": (3, True),
    "time early": (3, 12),
    "time late": (3, limits.TS_UNIX_MS_MAX + 1),
    "parent short": (4, b"\x01" * 31),
    "parent text": (4, "x" * 32),
    "tag text": (5, "3"),
    "tag unknown": (5, 999),
    "payload text": (6, "x"),
    "payload short": (6, []),
    "payload wrong": (6, [7]),
    "payload float": (6, [1.5]),
    "sig short": (7, b"\x01" * 63),
    "sig text": (7, "x" * 64),
}


@pytest.mark.parametrize("name", BAD)
def test_each_field_of_one_among_many_is_checked(name: str) -> None:
    """A bad field keeps a chunk from the fast check, and is found as among few records."""
    at, value = BAD[name]
    records: list[object] = [list(one) for one in (*many(), *many())]
    comment: Record = [*event(kinds.COMMENT_ADDED, "x", parent=EventId(b"\x07" * 32))]
    comment[at] = value
    records[5] = sealed(comment)
    data = chunk(records)
    assert codec.sound_sizes(data) is None
    assert codec.decode_chunk(data) == one_by_one(data)


@pytest.mark.parametrize(
    "bad", [7, [1, 2], [b"\x01" * 32] * 8, list(created()._replace(event_id=EventId(b"\x02" * 32)))]
)
def test_records_of_another_shape_or_id_are_found(bad: object) -> None:
    """What is no record, or has an id that is not its hash, is set aside among many."""
    records: list[object] = [list(one) for one in (*many(), *many())]
    data = chunk([*records[:5], bad, *records[5:]])
    assert codec.sound_sizes(data) is None
    assert codec.decode_chunk(data) == one_by_one(data)
    assert [problem.position for problem in codec.decode_chunk(data).problems] == [5]


@pytest.mark.parametrize("data", [b"", codec.encode_chunk([]), codec.encode_chunk(many())[:-1]])
def test_no_chunk_an_empty_one_and_a_cut_one_are_not_spoken_for(data: bytes) -> None:
    """What holds no records, or not all, needs the closer look."""
    assert codec.sound_sizes(data) is None


@given(at=st.integers(0, 10**6), old=st.integers(0, 2), new=st.binary(max_size=2))
def test_any_change_is_seen_by_both_or_none(at: int, old: int, new: bytes) -> None:
    """Replacing, inserting and removing bytes anywhere gives the same answer on both paths."""
    data = codec.encode_chunk(many())
    at %= len(data)
    changed = data[:at] + new + data[at + old :]
    assert codec.decode_chunk(changed) == one_by_one(changed)
    sizes = codec.sound_sizes(changed)
    if sizes is not None:
        assert codec.split_sound(changed, sizes) == one_by_one(changed)
        assert not one_by_one(changed).problems


def test_a_longer_head_among_many_is_not_canonical() -> None:
    """The length tells a text with a longer head, though the id is the hash of those bytes."""
    comment = event(kinds.COMMENT_ADDED, "fives")
    preimage = cbor2.dumps([1, *comment[1:7]]).replace(b"\x65fives", b"\x78\x05fives")
    event_id = blake2b(preimage, digest_size=32).digest()
    record = b"\x88\x58\x20" + event_id + preimage[2:] + b"\xf6"
    others = [codec.encode_record(one) for one in (*many(), *many())]
    count = bytes((0x98, len(others) + 1))
    data = codec.encode_chunk([])[: codec.HEADER_BYTES] + count + b"".join([*others, record])
    assert codec.sound_sizes(data) is None
    assert codec.decode_chunk(data) == one_by_one(data)
    assert [problem.reason for problem in codec.decode_chunk(data).problems] == [
        "not canonical CBOR"
    ]


def _grouped(data: Sequence[bytes]) -> list[DecodedChunk]:
    found = list(codec.decode_chunks(data))
    assert found == [codec.decode_chunk(one) for one in data]
    return found


def test_small_chunks_are_checked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound ones take the fast check whatever each holds, and stay apart; a large one is alone."""
    events = many()
    data = [codec.encode_chunk(events[at : at + 3]) for at in range(0, len(events), 3)]
    _grouped(data)
    _grouped([])
    _grouped([*data, codec.encode_chunk(events * 300), *data])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_GROUP_BYTES_MAX", 1_000)
        _grouped(data)
    monkeypatch.setattr(codec, "decode_chunk", lambda _: pytest.fail("checked alone"))
    assert [one for found in codec.decode_chunks(data) for one, _ in found.records] == events


_RECORD = chunk([list(created())])[codec.HEADER_BYTES + 1 :]
_HEADER = codec.encode_chunk([])[: codec.HEADER_BYTES]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"nothing",
        codec.encode_chunk([]),
        _HEADER + b"\x98\x01" + _RECORD,
        _HEADER + b"\x81" + _RECORD + _RECORD,
        _HEADER + b"\x82" + _RECORD,
        _HEADER + b"\x81" + _RECORD[:-40],
        _HEADER + b"\x81" + _RECORD[:-1] + b"\x40",
        _HEADER + b"\x99\x03\xe8" + _RECORD * 3,
        _HEADER + b"\x99\x27\x10" + _RECORD,
        chunk([[1, 2]]),
        chunk([None] * 40),
    ],
)
def test_one_bad_chunk_among_small_ones_costs_only_itself(bad: bytes) -> None:
    """Whatever it claims, cuts off or adds."""
    good = codec.encode_chunk([created()])
    for data in ([good, bad, good], [bad, good], [good, bad], [bad] * 8):
        _grouped(data)


@pytest.mark.parametrize("cut", [1, 40, len(_RECORD) - 1])
def test_a_record_that_lies_in_two_chunks_lies_in_none(cut: int) -> None:
    """Together they would be sound; so would a chunk with one too many and one with too few."""
    one = _HEADER + b"\x82" + _RECORD + _RECORD[:cut]
    found = _grouped([one, _HEADER + b"\x81" + _RECORD[cut:]])
    assert [len(chunk.records) for chunk in found] == [1, 0]
    _grouped([_HEADER + b"\x81" + _RECORD * 2, _HEADER + b"\x82" + _RECORD])


@given(data=st.data())
def test_chunks_together_say_what_each_says(data: st.DataObject) -> None:
    """Of any sizes, with a byte that differs here or there."""
    events = many()
    chunks = []
    while events:
        size = data.draw(st.integers(1, 5))
        whole = bytearray(codec.encode_chunk(events[:size]))
        events = events[size:]
        if data.draw(st.booleans()):
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        chunks.append(bytes(whole))
    _grouped(chunks)
