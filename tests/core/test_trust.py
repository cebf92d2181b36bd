"""The policy for signatures, as rules (spec/trust.md)."""

import pytest

from grit.core.errors import InvalidEvent
from grit.core.ids import ActorId, EventId
from grit.core.trust import (
    Policy,
    chain_ends,
    decode_policy,
    encode_policy,
    fault,
    follow,
)

ANN, BOB, EVE = (ActorId(bytes([n]) * 16) for n in (1, 2, 3))
A, B, C, D = (EventId(bytes([n]) * 32) for n in (10, 11, 12, 13))
NONE: frozenset[EventId] = frozenset()


def test_a_policy_comes_back_from_its_bytes() -> None:
    """Equal policies have equal bytes; one that looks at nothing has none, whatever it lists."""
    policy = Policy("require", (ANN, BOB), ((EVE, (A, B)),))
    assert decode_policy(encode_policy(policy)) == policy
    assert encode_policy(Policy("off", (ANN,), ((EVE, ()),))) == b""
    assert decode_policy(b"") == Policy()
    with pytest.raises(InvalidEvent):
        decode_policy(b"\xff")


def test_what_counts() -> None:
    """A signature that is not valid is a fault, then revocation, then the list."""
    policy = Policy("require", (ANN, EVE), ((EVE, (A,)),))
    assert policy.requires and not Policy("warn").requires
    reached = frozenset({A})
    for status in ("none", "invalid", "unknown_key"):
        assert fault(policy, reached, A, ANN, status) == status
    assert fault(policy, reached, B, ANN, "valid") is None
    assert fault(policy, reached, B, BOB, "valid") == "untrusted"
    assert fault(policy, reached, A, EVE, "valid") is None
    assert fault(policy, reached, B, EVE, "valid") == "revoked"
    assert fault(Policy("require"), NONE, B, BOB, "valid") is None


def test_chains_are_followed_from_their_ends() -> None:
    """What lies before an end is reached; where the log has a gap, the missing id is named."""
    parents: dict[EventId, EventId | None] = {A: None, B: A, C: B, D: B}
    assert follow((C,), parents) == (frozenset({A, B, C}), NONE)
    assert follow((C, D), parents) == (frozenset({A, B, C, D}), NONE)
    assert follow((), parents) == (NONE, NONE)
    gap: dict[EventId, EventId | None] = {A: None, C: B}
    assert follow((C,), gap) == (frozenset({C}), frozenset({B}))
    assert follow((D,), gap) == (NONE, frozenset({D}))


def test_the_ends_of_a_chain() -> None:
    """An end is what nothing names as its parent; following the ends reaches everything."""
    parents: dict[EventId, EventId | None] = {A: None, B: A, C: A, D: None}
    assert chain_ends(parents) == (B, C, D)
    assert follow(chain_ends(parents), parents).reached == frozenset(parents)
