"""The hybrid clock: never behind the wall, always after what was seen (spec/events.md, Time)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.clock import next_ts
from grit.core.errors import InvalidArgs
from grit.core.events import Draft
from tests.core.builders import ACTOR, ISSUE, created, event, summary_of

TIMES = st.integers(0, limits.TS_UNIX_MS_MAX)


@given(TIMES, st.none() | TIMES)
def test_time_is_after_the_wall_and_after_what_was_seen(now: int, seen: int | None) -> None:
    """The next time is the wall's, or the first after what was seen when the wall is behind."""
    ts = next_ts(now, seen)
    assert ts >= now
    assert seen is None or ts > seen
    assert ts in (now, (seen or 0) + 1)


def test_regression_21_a_clock_one_hour_behind_closes_what_it_has_read() -> None:
    """An edit made after reading a state wins over it, whatever the wall clock says."""
    hour_ms = 3_600_000
    read = summary_of(created(), event(kinds.STATE_CHANGED, "open", ts=2 * hour_ms))
    ts = next_ts(hour_ms, read.updated_ts)
    closed = summary_of(
        created(ts=0),
        event(kinds.STATE_CHANGED, "open", ts=read.updated_ts),
        event(kinds.STATE_CHANGED, "closed", ts=ts),
    )
    assert closed.state == "closed"


@pytest.mark.parametrize(
    ("ts", "valid"),
    [
        (0, True),
        (2**47, True),
        (limits.TS_UNIX_MS_MAX, True),
        (limits.TS_UNIX_MS_MAX + 1, False),
        (2**53, False),
        (2**63, False),
        (2**64 - 1, False),
        (2**64, False),
        (-1, False),
    ],
)
def test_fault_17_times_by_the_bound(ts: int, valid: bool) -> None:
    """A time within the bound is sealed and read; any other is refused and set aside."""
    draft = Draft(ISSUE, kinds.COMMENT_ADDED, ("text",))
    if valid:
        one = codec.seal(draft, ACTOR, ts, None)
        assert codec.decode_chunk(codec.encode_chunk([one])).records[0][0] == one
        return
    with pytest.raises(InvalidArgs, match="out of bounds"):
        codec.seal(draft, ACTOR, ts, None)
    forged = event(kinds.COMMENT_ADDED, "text")._replace(ts_unix_ms=ts)
    records, problems = codec.decode_chunk(codec.encode_chunk([forged]))
    assert records == []
    assert problems[0].reason in ("ts_unix_ms is out of bounds", "not canonical CBOR")


def test_fault_17_a_later_edit_wins_up_to_the_bound() -> None:
    """After an event from the far future the next edit still sorts behind it."""
    far = limits.TS_UNIX_MS_MAX - 1
    issue = summary_of(created(ts=0), event(kinds.STATE_CHANGED, "closed", ts=far))
    ts = next_ts(1_700_000_000_000, issue.updated_ts)
    reopened = event(kinds.STATE_CHANGED, "open", ts=ts)
    assert summary_of(created(ts=0), reopened).state == "open"
    assert ts == limits.TS_UNIX_MS_MAX
