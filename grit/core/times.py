"""Dates and durations as people write them, to unix milliseconds (spec/query.md, Times).

All times are UTC. A date or time stands for the whole span it names: `2025-01-31` for a day,
`2025-01-31T10:00` for a minute.
"""

import re
from datetime import UTC, datetime, timedelta
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
_DURATION: Final = re.compile(r"([0-9]{1,9})(s|mo|m|h|d|w|y)", re.IGNORECASE)
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{3}))?)?Z?)?",
    re.IGNORECASE,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


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
    try:
        start = datetime(year, month, day, hour, minute, second, ms * 1_000, tzinfo=UTC)
    except ValueError:
        return None
    first_ms = (start - _EPOCH) // _MS
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
    moment = _EPOCH + ts_unix_ms * _MS
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
