"""Whether a record is accepted depends on nothing beside it, however a chunk is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import codec
from grit.core import events as kinds
from grit.core.codec import DecodedChunk
from grit.core.events import KINDS, kind_name
from tests.core.builders import EXAMPLES
from tests.core.builders import event as sealed
from tests.hostile.plumbing import array, comment
from tests.hostile.records import hostile_records

RECORDS = hostile_records()
GOOD = [codec.encode_record(comment(f"number {n}", ts=n)) for n in range(40)]
ALL_KINDS = [codec.encode_record(sealed(tag, *EXAMPLES[tag])) for tag in KINDS]
UNREADABLE = ("indefinite", "pieces", "a break")


def _one_by_one(parts: list[bytes]) -> tuple[list[bytes], list[int]]:
    """Return the records that are accepted alone, and the positions of the others."""
    kept: list[bytes] = []
    aside: list[int] = []
    for position, part in enumerate(parts):
        alone = codec.decode_chunk(array(part))
        if alone.records:
            kept.append(part)
        else:
            aside.append(position)
    return kept, aside


def _agrees(found: DecodedChunk, parts: list[bytes]) -> None:
    kept, aside = _one_by_one(parts)
    sizes = codec.sound_sizes(array(*parts))
    if sizes is not None:
        assert codec.split_sound(array(*parts), sizes).records == found.records
        assert aside == []
    assert [raw for _, raw in found.records] == kept
    assert [problem.position for problem in found.problems] == aside
    assert [codec.encode_record(event) for event, _ in found.records] == kept


@pytest.mark.parametrize(("name", "record"), RECORDS, ids=[name for name, _ in RECORDS])
@pytest.mark.parametrize("size", [2, 40])
def test_fault_14_bad_records_are_bad_in_any_company(name: str, record: bytes, size: int) -> None:
    """A hostile record in the middle of few or many good ones costs itself and no other.

    Only a length that is not definite ends the reading there, as nobody can tell where it ends.
    """
    if len(record) > 1_000_000:
        size = 2
    parts = [*GOOD[: size // 2], record, *GOOD[size // 2 : size]]
    found = codec.decode_chunk(array(*parts))
    kept = [raw for _, raw in found.records]
    if any(word in name for word in UNREADABLE):
        assert kept == GOOD[: size // 2]
        assert [problem.position for problem in found.problems] == [None]
        return
    assert kept == GOOD[:size]
    assert [problem.position for problem in found.problems] == [size // 2]


@pytest.mark.parametrize("tag", KINDS, ids=kind_name)
def test_each_kind_is_accepted_in_any_company(tag: int) -> None:
    """A good record of each kind is read alone, among its like, and among all kinds."""
    record = codec.encode_record(sealed(tag, *EXAMPLES[tag]))
    for parts in ([record], [record] * 40, [*GOOD, record], [*ALL_KINDS, record, *ALL_KINDS]):
        records, problems = codec.decode_chunk(array(*parts))
        assert ([raw for _, raw in records], problems) == (parts, [])


@given(st.data())
def test_one_changed_byte_is_judged_the_same_in_any_company(data: st.DataObject) -> None:
    """A record with any byte changed is kept or set aside as it would be alone."""
    victim = data.draw(st.sampled_from([*GOOD[:3], *ALL_KINDS]))
    at = data.draw(st.integers(0, len(victim) - 1))
    changed = victim[:at] + bytes([victim[at] ^ data.draw(st.integers(1, 255))]) + victim[at + 1 :]
    alone = codec.decode_chunk(array(changed))
    if alone.problems and alone.problems[0].position is None:
        return  # its end cannot be told
    if len(alone.problems) > 1:
        return  # its end has moved, and so where the next one begins
    count = data.draw(st.sampled_from([1, 20]))
    parts = [*GOOD[:count], changed, *GOOD[count : 2 * count]]
    _agrees(codec.decode_chunk(array(*parts)), parts)


@given(st.lists(st.sampled_from([*GOOD, *ALL_KINDS, *(r for _, r in RECORDS if len(r) < 5000)])))
def test_any_mixture_is_the_sum_of_its_parts(parts: list[bytes]) -> None:
    """Good and bad records in any number and order give what each gives alone."""
    whole = [part for part in parts if _ends(part)]
    _agrees(codec.decode_chunk(array(*whole)), whole)


def _ends(part: bytes) -> bool:
    alone = codec.decode_chunk(array(part))
    return all(problem.position is not None for problem in alone.problems)


def test_times_before_february_1970_are_read_in_any_company() -> None:
    """Times of every width of integer stand side by side."""
    times = [0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**47] * 3
    parts = [codec.encode_record(sealed(kinds.COMMENT_ADDED, str(n), ts=n)) for n in times]
    records, problems = codec.decode_chunk(array(*parts))
    assert ([raw for _, raw in records], problems) == (parts, [])
