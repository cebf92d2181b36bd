"""Bounds: they are consistent with each other and with the bytes they speak of (spec/events.md)."""

from datetime import UTC, datetime

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.ids import ActorId, IssueId
from tests.core.builders import event


def test_a_writer_stays_within_what_a_reader_takes() -> None:
    """Whatever a writer may put into one chunk, a reader reads."""
    assert limits.TEXT_BYTES_MAX < limits.EVENT_BYTES_MAX < limits.CHUNK_BYTES_MAX
    assert limits.CHUNK_TARGET_BYTES + limits.EVENT_BYTES_MAX < limits.CHUNK_BYTES_MAX
    assert limits.PREFIX_CHARS_MIN <= limits.SHORT_ID_CHARS_MIN <= limits.ID_BYTES * 2


def test_the_smallest_record_is_what_the_bound_says() -> None:
    """No record is smaller than RECORD_BYTES_MIN, so a chunk cannot claim more than it holds."""
    small = event(200, ts=0, issue=IssueId(bytes(16)), actor=ActorId(bytes(16)))
    least = len(codec.encode_record(small._replace(tag=1)))
    assert least == limits.RECORD_BYTES_MIN


def test_the_last_time_is_the_last_millisecond_of_9999() -> None:
    """The bound of times is the last one that a four-digit year can show."""
    last = datetime.fromtimestamp(limits.TS_UNIX_MS_MAX // 1000, UTC)
    assert last.isoformat() == "9999-12-31T23:59:59+00:00"
    assert limits.TS_UNIX_MS_MAX % 1000 == 999


def test_ids_have_their_sizes() -> None:
    """A sealed event carries ids of the sizes that the format fixes."""
    one = event(kinds.COMMENT_ADDED, "text")
    sizes = (len(one.event_id), len(one.issue_id), len(one.actor_id))
    assert sizes == (limits.EVENT_ID_BYTES, limits.ID_BYTES, limits.ID_BYTES)
