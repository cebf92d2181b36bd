"""Leases under clocks that are apart: never two holders where that can be known (leases.md)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.errors import InvalidArgs
from grit.core.ids import ActorId
from grit.core.lease import Holder, Lease, parse_resource
from grit.core.limits import LEASE_KEEP_MS, LEASE_MS_MAX, LEASE_SKEW_MS, TS_UNIX_MS_MAX
from grit.services import leases
from tests.core.builders import NOW_MS
from tests.services.tenants import Session, bare, clone, git, two_clones

DAY_MS = 86_400_000
BEHIND = [-36_000_000_000, -40 * DAY_MS, -8 * DAY_MS, -31_000]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Session, Session]:
    """Sessions in two clones of one bare repository, and so of two actors."""
    return two_clones(tmp_path)


def tick(pair: tuple[Session, Session], ms: int) -> None:
    for one in pair:
        one.now_ms += ms


@pytest.mark.parametrize("offset_ms", BEHIND)
def test_a_clock_that_is_behind_takes_no_live_lease(
    pair: tuple[Session, Session], offset_ms: int
) -> None:
    """However far behind: a live lease is respected for its length since it was seen, and then
    it can be taken; the holder renews it, and then it is respected again."""
    one, two = pair
    two.now_ms += offset_ms
    one.acquire("repo:x", DAY_MS)
    assert "held by" in two.refused("repo:x")
    tick(pair, DAY_MS - 1_000)
    assert "held by" in two.refused("path:below")
    one.renew("repo:x", DAY_MS)
    tick(pair, DAY_MS - 1_000)
    assert "held by" in two.refused("repo:x")
    # It may have seen the renewal only now.
    tick(pair, DAY_MS + 2 * LEASE_SKEW_MS)
    assert two.acquire("repo:x").fence == 2


@pytest.mark.parametrize("offset_ms", [8 * DAY_MS, 40 * DAY_MS, 365_000 * DAY_MS])
def test_a_holder_whose_clock_is_ahead_stops_nobody_for_longer_than_its_lease(
    pair: tuple[Session, Session], offset_ms: int
) -> None:
    """A lease of a clock that is days or centuries ahead excludes others, and ends for them."""
    one, two = pair
    one.now_ms += offset_ms
    one.acquire("repo:x", DAY_MS)
    assert two.live() == ["repo:x"]
    assert "held by" in two.refused("repo:x")
    one.renew("repo:x", DAY_MS)
    one.release("repo:x")
    assert two.acquire("repo:x").fence == 2
    two.release("repo:x")
    one.acquire("repo:x", DAY_MS)
    two.live()
    tick(pair, DAY_MS + LEASE_SKEW_MS)
    assert two.acquire("repo:x").fence == 4


def test_a_lease_that_was_over_stays_so_when_its_time_comes(pair: tuple[Session, Session]) -> None:
    """One taken by a clock 40 days ahead does not come back to life 40 days later."""
    one, two = pair
    one.now_ms += 40 * DAY_MS
    one.acquire("repo:x", DAY_MS)
    assert two.live() == ["repo:x"]
    for days in (2, 20, 18):
        tick(pair, days * DAY_MS)
        assert two.live() == []
    assert two.acquire("repo:x").fence == 2


@pytest.mark.parametrize("days", [8, 40, 365_000])
def test_a_clock_that_jumped_removes_no_live_lease(
    pair: tuple[Session, Session], days: int
) -> None:
    """The gc of a clone whose clock is ahead removes nothing live, however often it runs at once,
    and nothing after the clock came right; the holder goes on."""
    one, two = pair
    shared = one.folder.parent / "shared.git"
    one.acquire("repo:x", DAY_MS)
    two.live()
    two.now_ms += days * DAY_MS
    for _ in range(3):
        assert two.use(leases.gc).removed == []
    two.now_ms -= days * DAY_MS
    assert two.use(leases.gc).removed == []
    assert git(shared, "for-each-ref", "refs/grit/locks/") != ""
    assert one.renew("repo:x").fence == 1


def test_a_clock_set_back_keeps_what_was_noted_out(pair: tuple[Session, Session]) -> None:
    """What was noted under a clock that was ahead does not count once it is right again."""
    one, two = pair
    one.acquire("path:a")
    one.release("path:a")
    two.now_ms += LEASE_KEEP_MS + DAY_MS
    assert two.use(leases.gc).waiting == 1
    two.now_ms = NOW_MS + 1
    assert two.use(leases.gc) == leases.Collected([], 1)
    two.now_ms = NOW_MS + LEASE_KEEP_MS + LEASE_MS_MAX + 2 * DAY_MS
    assert two.use(leases.gc) == leases.Collected([], 1, 1)


@pytest.mark.parametrize(
    "now_ms", [-315_619_200_000, 0, TS_UNIX_MS_MAX - DAY_MS, TS_UNIX_MS_MAX + 1]
)
def test_no_lease_is_stated_outside_of_time(tmp_path: Path, now_ms: int) -> None:
    """Before 1970 and at the end of time each change is refused, and the refs stay as they are."""
    folder = clone(tmp_path, "one", bare(tmp_path))
    mine = Session(folder, "a")
    mine.acquire("path:held")
    before = git(folder, "for-each-ref")
    mine.now_ms = now_ms
    for work in (
        lambda: mine.acquire("path:new"),
        lambda: mine.acquire("path:new", local=True),
        lambda: mine.renew("path:held"),
        lambda: mine.release("path:held"),
        lambda: mine.use(leases.gc),
    ):
        with pytest.raises(InvalidArgs, match="this machine's clock stands (before|beyond)"):
            work()
    assert git(folder, "for-each-ref") == before


def test_junk_in_what_was_seen_is_as_nothing(pair: tuple[Session, Session]) -> None:
    """The notes of a clone may hold anything: what is no note does not count, and no error."""
    one, two = pair
    one.now_ms += 8 * DAY_MS
    one.acquire("repo:x", DAY_MS)
    oid = two.status().leases[0].oid
    notes = two.folder / ".git/grit/leases-seen"
    assert oid is not None and f"early {oid} {NOW_MS}\n" in notes.read_text()
    for junk in (b"\xff" * 99, f"early {oid} ²\n".encode(), f"early {oid} {'9' * 5_000}".encode()):
        notes.write_bytes(junk)
        assert "held by" in two.refused("repo:x")
    notes.write_text(f"early {oid} {NOW_MS + DAY_MS}\n")
    assert "held by" in two.refused("repo:x")


@given(
    holder_ms=st.integers(-400 * DAY_MS, 400 * DAY_MS),
    behind_ms=st.integers(-LEASE_SKEW_MS + 1_000, 800 * DAY_MS),
    ttl_ms=st.integers(1_000, LEASE_MS_MAX),
    seen_share=st.floats(0, 1),
    asked_share=st.floats(0, 1),
)
def test_the_rule_never_ends_a_lease_before_its_holder_does(
    holder_ms: int, behind_ms: int, ttl_ms: int, seen_share: float, asked_share: float
) -> None:
    """For every taker that is not ahead of the holder by more than the margin: at any moment
    before the lease's end, however late it was first seen, the lease stands against the taker."""
    from grit.git.leases import LockRef
    from grit.services import lease_clock

    taken_ms = NOW_MS + holder_ms
    seen_ms = int(seen_share * (ttl_ms - 1))
    asked_ms = seen_ms + int(asked_share * (ttl_ms - 1 - seen_ms))
    mine = Holder(ActorId(b"\x01" * 16), "n")
    lease = Lease(parse_resource("repo:x"), *mine, taken_ms + ttl_ms, 1)
    lock = LockRef("refs/grit/locks/x", None, "1" * 40, lease, changed_ms=taken_ms // 1000 * 1000)
    offset_ms = holder_ms - behind_ms
    first, asked = NOW_MS + offset_ms + seen_ms, NOW_MS + offset_ms + asked_ms
    if lease_clock._is_early(lock, asked):
        # It was early when it was first seen, too: the clock was no later then.
        assert lease_clock._is_early(lock, first)
        settled = lease_clock._settled(lock, first).lease
        assert settled is not None and settled.live(asked)
    else:
        assert lease.live(asked)
