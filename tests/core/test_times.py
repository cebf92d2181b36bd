"""Dates and durations of the filter language (spec/query.md, Times)."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.limits import TS_UNIX_MS_MAX
from grit.core.times import (
    DAY_MS,
    Span,
    clamp_ms,
    due_ms,
    format_ms,
    parse_duration_ms,
    parse_span,
)

EPOCH = datetime(1970, 1, 1)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("5s", 5_000),
        ("30m", 30 * 60_000),
        ("12h", 12 * 3_600_000),
        ("7d", 7 * DAY_MS),
        ("2W", 14 * DAY_MS),
        ("3mo", 90 * DAY_MS),
        ("1y", 365 * DAY_MS),
        ("7", None),
        ("d", None),
        ("1.5d", None),
        ("-1d", None),
        ("7d ", None),
        ("٧d", None),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, ms: int | None) -> None:
    """A duration is ASCII digits and s, m, h, d, w, mo or y; anything else is none."""
    assert parse_duration_ms(text) == ms


@given(st.dates())
def test_a_date_names_its_whole_day(day: date) -> None:
    """A date covers its day in UTC, in every year that events can name and before."""
    first = (datetime(day.year, day.month, day.day) - EPOCH) // timedelta(milliseconds=1)
    assert parse_span(day.isoformat()) == Span(first, first + DAY_MS - 1)


@pytest.mark.parametrize("year", [1, 4, 100, 400, 401, 1900, 1970, 2000, 2024, 2025, 9999])
def test_every_day_of_a_year_is_in_its_place(year: int) -> None:
    """Each month has its days and no more, in leap years and others, both ways."""
    for month in range(1, 13):
        for day in range(1, 32):
            text = f"{year:04}-{month:02}-{day:02}"
            try:
                first = (datetime(year, month, day) - EPOCH) // timedelta(milliseconds=1)
            except ValueError:
                assert parse_span(text) is None
                continue
            assert parse_span(text) == Span(first, first + DAY_MS - 1)
            assert format_ms(first) == f"{text}T00:00:00.000Z"


@given(st.integers(min_value=-1, max_value=TS_UNIX_MS_MAX))
def test_a_formatted_time_reads_back_to_the_millisecond(ts: int) -> None:
    """`format_ms` writes what the calendar says, and `parse_span` reads exactly that."""
    moment = EPOCH + timedelta(milliseconds=ts)
    assert format_ms(ts) == moment.isoformat(timespec="milliseconds") + "Z"
    assert parse_span(format_ms(ts)) == Span(ts, ts)


def test_a_time_names_the_span_of_its_finest_part() -> None:
    """Minutes, seconds and milliseconds each name a span as wide as themselves."""
    base = 12 * 3_600_000
    assert parse_span("1970-01-01T12:00") == Span(base, base + 59_999)
    assert parse_span("1970-01-01 12:00z") == Span(base, base + 59_999)
    assert parse_span("1970-01-01T12:00:00Z") == Span(base, base + 999)
    assert parse_span("1970-01-01t12:00:00.007") == Span(base + 7, base + 7)


@pytest.mark.parametrize(
    "text",
    "0000-01-01 2025-00-01 2025-13-01 2025-01-00 2025-01-32 2025-04-31 2025-02-29 1900-02-29 "
    "2025-1-1 2025-01-01T24:00 2025-01-01T00:60 2025-01-01T00:00:60 2025-01-01T00 20250101 "
    "2025-01-01Z ２０２５-01-01".split(),
)
def test_a_day_or_minute_that_is_not_in_the_calendar_is_no_time(text: str) -> None:
    """What no calendar or clock shows is not read as some other time."""
    assert parse_span(text) is None


def test_leap_days_follow_the_gregorian_rule() -> None:
    """2000 and 2024 have a 29 February."""
    assert parse_span("2000-02-29") is not None
    assert parse_span("2024-02-29") is not None


def test_something_due_on_a_day_is_late_when_the_day_is_over() -> None:
    """A due date counts to its last millisecond; what is no date has no due time."""
    assert due_ms(" 1970-01-02 ") == 2 * DAY_MS - 1
    assert due_ms("soon") is None


def test_bounds_stay_within_what_events_can_have() -> None:
    """Times before 1970 become -1 and times after 9999 the last millisecond."""
    assert [clamp_ms(ts) for ts in (-5, -1, 0, TS_UNIX_MS_MAX, TS_UNIX_MS_MAX + 9)] == [
        -1,
        -1,
        0,
        TS_UNIX_MS_MAX,
        TS_UNIX_MS_MAX,
    ]
