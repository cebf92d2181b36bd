"""Leases: spellings, conflicts, who may take and give back, lock.json (spec/leases.md)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import lease as rules
from grit.core.errors import InvalidArgs, InvalidLease
from grit.core.ids import ActorId
from grit.core.lease import Holder, Lease, Resource, parse_resource
from grit.core.limits import (
    FENCE_MAX,
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    LEASE_SKEW_MS,
    LOCK_BYTES_MAX,
    RESOURCE_CHARS_MAX,
)
from tests.core.builders import ACTOR, ISSUE, NOW_MS

ME = Holder(ACTOR, "a1")
SAME_ACTOR = Holder(ACTOR, "b2")
OTHER = Holder(ActorId(b"\xbb" * 16), "a1")
TTL_MS = 60_000
SRC = parse_resource("path:src")


def lease(resource: Resource = SRC, holder: Holder = ME, **changes: object) -> Lease:
    made = Lease(resource, *holder, NOW_MS + TTL_MS, 3)
    return made._replace(**changes)


@pytest.mark.parametrize(
    ("text", "one_spelling"),
    [
        ("path:src/", "path:src"),
        ("path:./src//a.py", "path:src/a.py"),
        ("path:.", "path:."),
        ("path:./", "path:."),
        (" path:a b ", "path:a b"),
        ("path:e\u0301", "path:\u00e9"),
        ("repo: global  build ", "repo:global build"),
        ("issue:" + "AB" * 16, "issue:" + "ab" * 16),
        ("path:" + "x" * RESOURCE_CHARS_MAX, "path:" + "x" * RESOURCE_CHARS_MAX),
    ],
)
def test_every_resource_has_one_spelling(text: str, one_spelling: str) -> None:
    """Two spellings of one thing are one lease."""
    found = parse_resource(text)
    assert found.text == one_spelling
    assert parse_resource(found.text) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "src", "path", "path:", "path:/etc", "path:../x", "path:a/../b", "path:a\\b", "repo:",
        "repo:  ", "issue:4f2a", "issue:" + "g" * 32, "issue:" + "a" * 33, "PATH:a", "user:x",
        "path:a\nb", "path:\x1b]52;c", "path:\u202ea", "path:\ud800", "repo:\0",
        "path:" + "x" * (RESOURCE_CHARS_MAX + 1),
    ],
)  # fmt: skip
def test_other_resources_are_refused(text: str) -> None:
    """What climbs out, hides, drives a terminal or is no full id is no resource."""
    with pytest.raises(InvalidArgs):
        parse_resource(text)


@given(st.sampled_from(["repo", "path", "issue"]), st.text(max_size=40))
def test_spelling_is_stable(space: str, name: str) -> None:
    """What was accepted once is accepted as it was stored, and hashes to one name."""
    try:
        found = parse_resource(f"{space}:{name}")
    except InvalidArgs:
        return
    assert parse_resource(found.text) == found
    assert len(found.lock_name) == 16
    stored = rules.encode_lock(lease(found))
    assert rules.parse_lock(stored, found.lock_name) == lease(found)


def test_lock_names_are_fixed() -> None:
    """The ref's name is the head of the resource's SHA-256: other implementations compute it."""
    assert parse_resource("repo:global").lock_name == "4fa20104a646a633"
    assert rules.issue_resource(ISSUE).text == "issue:" + "01" * 16


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ("path:src/", "repo:global", True),
        ("path:src/", "path:src/a.py", True),
        ("path:src/", "path:src", True),
        ("path:src", "path:src2", False),
        ("path:src/a", "path:src/ab", False),
        ("path:.", "path:src/a.py", True),
        ("path:a", "path:b", False),
        ("repo:a", "repo:b", True),
        ("issue:" + "1" * 32, "issue:" + "1" * 32, True),
        ("issue:" + "1" * 32, "issue:" + "2" * 32, False),
        ("issue:" + "1" * 32, "path:src", False),
        ("issue:" + "1" * 32, "repo:x", True),
    ],
)
def test_row_25_conflicts_by_namespace(one: str, other: str, conflict: bool) -> None:
    """repo: stands against everything, path: against what is above or below, issue: itself."""
    first, second = parse_resource(one), parse_resource(other)
    assert rules.conflicts(first, second) is conflict
    assert rules.conflicts(second, first) is conflict


def test_a_lease_is_respected_until_its_end_and_a_margin() -> None:
    """Clocks differ: it ends for others only after the margin; a released one at once."""
    one = lease()
    end = one.expires_unix_ms
    assert one.live(NOW_MS)
    assert one.live(end + LEASE_SKEW_MS - 1)
    assert not one.live(end + LEASE_SKEW_MS)
    assert not lease(expires_unix_ms=0).live(NOW_MS)


def test_a_lease_beyond_all_bounds_blocks_nobody() -> None:
    """An end further away than any lease may have is not believed."""
    end = NOW_MS + LEASE_MS_MAX + LEASE_SKEW_MS
    assert lease(expires_unix_ms=end).live(NOW_MS)
    assert not lease(expires_unix_ms=end + 1).live(NOW_MS)


def test_blockers_are_live_leases_of_other_holders() -> None:
    """Owner and nonce tell holders apart; the lease on the very resource is named first."""
    same = lease(holder=SAME_ACTOR)
    below = lease(parse_resource("path:src/a"), OTHER)
    assert rules.blocker(SRC, ME, [lease()], NOW_MS) is None
    assert rules.blocker(SRC, ME, [below, same], NOW_MS) is same
    assert rules.blocker(SRC, ME, [below], NOW_MS) is below
    assert rules.blocker(SRC, ME, [lease(holder=OTHER, expires_unix_ms=0)], NOW_MS) is None
    assert rules.blocker(SRC, ME, [], NOW_MS) is None


def test_the_fence_counts_every_change_of_holder() -> None:
    """A first lease has fence 1; going on keeps it; a takeover, or a new start, counts up; what
    cannot count up starts again."""
    first = rules.acquire(SRC, ME, None, NOW_MS, TTL_MS)
    assert (first.fence, first.expires_unix_ms, first.holder) == (1, NOW_MS + TTL_MS, ME)
    again = rules.acquire(SRC, ME, first, NOW_MS + 10, TTL_MS)
    assert (again.fence, again.expires_unix_ms) == (1, NOW_MS + 10 + TTL_MS)
    late = first.expires_unix_ms + LEASE_SKEW_MS
    assert rules.acquire(SRC, OTHER, first, late, TTL_MS).fence == 2
    assert rules.acquire(SRC, ME, first, late, TTL_MS).fence == 2
    back = rules.release(first, ME)
    assert back is not None and back.released
    assert rules.acquire(SRC, ME, back, NOW_MS, TTL_MS).fence == 2
    full = first._replace(fence=FENCE_MAX, expires_unix_ms=0)
    assert rules.acquire(SRC, ME, full, NOW_MS, TTL_MS).fence == 1
    held = first._replace(fence=FENCE_MAX)
    assert rules.acquire(SRC, ME, held, NOW_MS, TTL_MS).fence == FENCE_MAX


def test_only_the_holder_renews_and_gives_back() -> None:
    """Another session, another actor and a released lease get nothing; an expired one may go on."""
    known = lease()
    for holder in (SAME_ACTOR, OTHER):
        assert rules.renew(known, holder, NOW_MS, TTL_MS) is None
        assert rules.release(known, holder) is None
    released = lease(expires_unix_ms=0)
    assert rules.renew(released, ME, NOW_MS, TTL_MS) is None
    assert rules.release(released, ME) is None
    assert rules.renew(None, ME, NOW_MS, TTL_MS) is None
    assert rules.release(None, ME) is None
    late = known.expires_unix_ms + LEASE_MS_MAX
    renewed = rules.renew(known, ME, late, TTL_MS)
    assert renewed == known._replace(expires_unix_ms=late + TTL_MS)


def test_the_claimed_assignee_stays_with_its_actor() -> None:
    """Another session of the actor takes over what the claim added; others and a release do not."""
    known = lease(claimed="ann")
    late = known.expires_unix_ms + LEASE_SKEW_MS
    assert rules.acquire(SRC, SAME_ACTOR, known, late, TTL_MS).claimed == "ann"
    assert rules.acquire(SRC, OTHER, known, late, TTL_MS).claimed is None
    assert rules.acquire(SRC, OTHER, known, late, TTL_MS, "bob").claimed == "bob"
    back = rules.release(known, ME)
    assert back is not None and back.claimed is None
    assert (
        rules.acquire(SRC, ME, lease(claimed="ann", expires_unix_ms=0), late, 1000).claimed is None
    )


@pytest.mark.parametrize("ttl_ms", [0, -1, LEASE_MS_MIN - 1, LEASE_MS_MAX + 1])
def test_durations_have_bounds(ttl_ms: int) -> None:
    """No lease lasts longer or shorter than the bounds."""
    with pytest.raises(InvalidArgs):
        rules.acquire(SRC, ME, None, NOW_MS, ttl_ms)
    with pytest.raises(InvalidArgs):
        rules.renew(lease(), ME, NOW_MS, ttl_ms)


def test_lock_json_round_trips_with_unknown_keys() -> None:
    """Keys of later versions survive a change; a lock of the older tools has no fence."""
    values = {
        "owner": ACTOR.hex(), "nonce": "a1", "expires_unix_ms": NOW_MS, "resource": "path:src",
        "later": {"x": [1, None, "\u00e4"]}, "claimed": "ann",
    }  # fmt: skip
    found = rules.parse_lock(json.dumps(values).encode(), SRC.lock_name)
    assert (found.fence, found.claimed, found.holder) == (0, "ann", ME)
    changed = rules.acquire(SRC, ME, found, NOW_MS, TTL_MS)
    stored = json.loads(rules.encode_lock(changed))
    assert stored["later"] == values["later"]
    assert stored["fence"] == 0
    assert stored["claimed"] == "ann"


def _changed(**changes: object) -> bytes:
    values: dict[str, object] = {
        "owner": ACTOR.hex(), "nonce": "a1", "expires_unix_ms": NOW_MS, "resource": "path:src",
        "fence": 1,
    }  # fmt: skip
    values.update(changes)
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"owner": 1, "owner": 2}', b"[" * 5_000,
        b'{"x": NaN}', b'{"x": 1e999}', b" " * (LOCK_BYTES_MAX + 1),
        b'{"x": ' + b"9" * 5_000 + b"}",
        _changed(owner="ab"), _changed(owner=None), _changed(owner="AA" * 16), _changed(nonce=""),
        _changed(nonce="a b"), _changed(nonce=7), _changed(expires_unix_ms=-1),
        _changed(expires_unix_ms="0"), _changed(expires_unix_ms=True),
        _changed(expires_unix_ms=1.5), _changed(expires_unix_ms=10**18),
        _changed(fence=-1), _changed(fence=2**60),
        _changed(resource=None), _changed(resource="src"), _changed(resource="path:src/"),
        _changed(resource="path:other"), _changed(claimed=""), _changed(claimed=3),
        _changed(claimed="a\nb"),
    ],
)  # fmt: skip
def test_a_malformed_lock_is_named_and_never_a_lease(data: bytes) -> None:
    """Whatever an implementation would not have written is refused with a reason."""
    with pytest.raises(InvalidLease, match="."):
        rules.parse_lock(data, SRC.lock_name)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """Any bytes are a lease or have a reason why not."""
    with pytest.raises(InvalidLease):
        rules.parse_lock(data, SRC.lock_name)


def test_people_read_the_first_digits_of_an_issue() -> None:
    """Other resources are shown as they are typed."""
    assert rules.issue_resource(ISSUE).short == f"issue:{ISSUE.hex()[:7]}"
    assert parse_resource("repo:main").short == "repo:main"
