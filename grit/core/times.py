"""Dates and durations as people write them, to unix milliseconds (spec/query.md, Times).

All times are UTC. A date or time stands for the whole span it names: `2025-01-31` for a day,
`2025-01-31T10:00` for a minute.
"""

import re
from typing import Final, NamedTuple

from grit.core.limits import TS_UNIX_MS_MAX

MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 60 * MINUTE_MS
_UNIT_MS: Final = {
    "s": 1_000,
    "m": MINUTE_MS,
    "h": 60 * MINUTE_MS,
    "d": DAY_MS,
    "w": 7 * DAY_MS,
    "mo": 30 * DAY_MS,
    "y": 365 * DAY_MS,
}
_DURATION: Final = re.compile(r"([0-9]{1,9})(s|mo|m|h|d|w|y)", re.IGNORECASE | re.ASCII)
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{3}))?)?Z?)?",
    re.IGNORECASE | re.ASCII,
)
_MONTH_STARTS: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
"""Days before each month of a year that is no leap year."""
_EPOCH_DAY: Final = 719_162
"""1970-01-01 in days since 0001-01-01, in the calendar that has always been Gregorian."""


class Span(NamedTuple):
    """First and last unix millisecond of what a date or time names."""

    first_ms: int
    last_ms: int


def parse_duration_ms(text: str) -> int | None:
    """Return the milliseconds of `30m`, `12h`, `7d`, `2w`, `3mo` (of 30 days), `1y` (of 365)."""
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _UNIT_MS[found[2].lower()] if found else None


def parse_span(text: str) -> Span | None:
    """Return the span of `YYYY-MM-DD[THH:MM[:SS[.mmm]]][Z]`, or None when it is no such time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, ms = (int(part or 0) for part in found.groups())
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _month_days(year, month)):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    days = _days_before(year, month) + day - 1 - _EPOCH_DAY
    first_ms = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000 + ms
    width_ms = DAY_MS
    for group, finer_ms in ((4, MINUTE_MS), (6, 1_000), (7, 1)):
        if found[group] is not None:
            width_ms = finer_ms
    return Span(first_ms, first_ms + width_ms - 1)


def due_ms(text: str) -> int | None:
    """Return when something due at `text` is late: the last millisecond of what it names."""
    span = parse_span(text.strip())
    return None if span is None else span.last_ms


def clamp_ms(ts_unix_ms: int) -> int:
    """Return the time within what events can have, or -1, which is before all of them."""
    return max(-1, min(ts_unix_ms, TS_UNIX_MS_MAX))


def format_ms(ts_unix_ms: int) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.mmmZ`, which `parse_span` reads back to the millisecond."""
    days, rest_ms = divmod(ts_unix_ms, DAY_MS)
    year, month, day = _civil(days + _EPOCH_DAY)
    minutes, rest_ms = divmod(rest_ms, MINUTE_MS)
    clock = f"{minutes // 60:02}:{minutes % 60:02}:{rest_ms // 1_000:02}.{rest_ms % 1_000:03}"
    return f"{year:04}-{month:02}-{day:02}T{clock}Z"


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _month_days(year: int, month: int) -> int:
    return 28 + _is_leap(year) if month == 2 else 30 + (month in (1, 3, 5, 7, 8, 10, 12))


def _days_before(year: int, month: int) -> int:
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 + _MONTH_STARTS[month - 1]
    return days + (month > 2 and _is_leap(year))


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of the day that lies `days` after 0001-01-01."""
    year = days * 400 // 146_097 + 2
    while _days_before(year, 1) > days:
        year -= 1
    month = 12
    while _days_before(year, month) > days:
        month -= 1
    return year, month, days - _days_before(year, month) + 1
