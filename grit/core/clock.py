"""The hybrid clock: at least the wall clock, and after everything seen (spec/events.md, Time)."""


def next_ts(now_ms: int, seen_ms: int | None) -> int:
    """Return the time of the next event, unix milliseconds.

    `now_ms` is the wall clock, `seen_ms` the latest time seen of the issue, or None.
    """
    return now_ms if seen_ms is None else max(now_ms, seen_ms + 1)
