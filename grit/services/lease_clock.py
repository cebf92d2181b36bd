"""Leases under clocks that differ by days: what this clone has seen by its own clock counts.

The rules, and what no rule can do without a common clock: spec/leases.md, Clocks.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from grit.core.errors import InvalidArgs
from grit.core.ids import parse_number
from grit.core.limits import LEASE_MS_MAX, LEASE_SKEW_MS, LEASES_SEEN_MAX, TS_UNIX_MS_MAX
from grit.git.leases import LockRef
from grit.git.repository import Repository
from grit.services.workspace import Workspace

_NAME: Final = "leases-seen"
_EARLY: Final = "early"
_OLD: Final = "old"
_Seen = dict[tuple[str, str], int]
"""By what it was found to be and its commit: since when, by this clone's clock."""


def check_clock(now_ms: int) -> None:
    """Raise InvalidArgs where no lease can be stated: before 1970, or at the end of time."""
    if not 0 < now_ms <= TS_UNIX_MS_MAX - LEASE_MS_MAX:
        side = "before 1970" if now_ms <= 0 else "beyond the year 9999"
        raise InvalidArgs(f"this machine's clock stands {side}; set it right and try again")


def by_own_clock(workspace: Workspace, locks: Sequence[LockRef]) -> list[LockRef]:
    """Return the lock refs with the ends of leases that were taken by a clock ahead of this one.

    Such a lease counts for its own length from when this clone first saw it, also once its time has
    come by this clock.
    """
    if not locks:
        return []
    now_ms = workspace.now_ms()
    noted = {oid for kind, oid in read_seen(workspace.repository) if kind == _EARLY}
    early = {lock.oid for lock in locks if _is_early(lock, now_ms) or lock.oid in noted}
    if not early:
        return list(locks)
    seen = _note(workspace, _EARLY, [oid or "" for oid in early], locks)
    return [_settled(lock, seen[lock.oid or ""]) if lock.oid in early else lock for lock in locks]


def old_since(workspace: Workspace, locks: Sequence[LockRef], old: Sequence[LockRef]) -> set[str]:
    """Return the commits of `old` that an earlier gc found old too, longer ago than a lease lasts.

    `locks` are all that there are. The others are noted, for a later gc.
    """
    seen = _note(workspace, _OLD, [lock.oid or "" for lock in old], locks)
    latest_ms = workspace.now_ms() - LEASE_MS_MAX - LEASE_SKEW_MS
    return {oid for oid, since_ms in seen.items() if since_ms <= latest_ms}


def _is_early(lock: LockRef, now_ms: int) -> bool:
    """Whether a lease was taken by a clock ahead of this one, and is one that a clone can take."""
    if lock.lease is None or lock.changed_ms <= now_ms + LEASE_SKEW_MS:
        return False
    return 0 < lock.lease.expires_unix_ms - lock.changed_ms <= LEASE_MS_MAX + LEASE_SKEW_MS


def _settled(lock: LockRef, seen_ms: int) -> LockRef:
    if lock.lease is None:
        return lock
    end_ms = lock.lease.expires_unix_ms
    end_ms = min(end_ms, seen_ms + end_ms - lock.changed_ms)
    return lock._replace(lease=lock.lease._replace(expires_unix_ms=end_ms))


def _note(
    workspace: Workspace, what: str, found: Iterable[str], locks: Sequence[LockRef]
) -> dict[str, int]:
    """Return since when each of `found` was found so, from now on where it is news.

    What is gone is forgotten. What cannot be noted counts from now on each time: that keeps it.
    """
    now_ms = workspace.now_ms()
    there = {lock.oid for lock in locks}
    noted = read_seen(workspace.repository)
    known = {key: ms for key, ms in noted.items() if key[1] in there and ms <= now_ms}
    found = list(found)
    seen = known | {(what, oid): known.get((what, oid), now_ms) for oid in found}
    if seen != noted:
        lines = [f"{kind} {oid} {ms}\n" for (kind, oid), ms in seen.items()][:LEASES_SEEN_MAX]
        with suppress(OSError), workspace.repository.private.open(make=True) as folder:
            folder.replace(_NAME, "".join(lines).encode(), sync=False)
    return {oid: seen[what, oid] for oid in found}


def read_seen(repository: Repository) -> _Seen:
    """Return what was noted, without lines that say nothing."""
    try:
        with repository.private.open() as folder:
            text = folder.read(_NAME, cut=True).decode("ascii", "replace")
    except OSError:
        return {}
    rows = [line.split(" ") for line in text.split("\n")]
    known = {(row[0], row[1]): parse_number(row[2]) for row in rows if len(row) == 3}
    return {key: since_ms for key, since_ms in known.items() if since_ms is not None}
