"""Which events count: the policy for signatures, as rules (spec/trust.md)."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, cast

from grit.core.codec import pack, unpack
from grit.core.ids import ActorId, EventId

OFF: Final = "off"
WARN: Final = "warn"
REQUIRE: Final = "require"
VERIFY: Final = (OFF, WARN, REQUIRE)
"""What the setting `verify` may say, the mildest first."""

VALID: Final = "valid"
UNTRUSTED: Final = "untrusted"
REVOKED: Final = "revoked"


class Policy(NamedTuple):
    """Which events count; two clones with equal policies and events show the same."""

    verify: str = OFF
    allowed: tuple[ActorId, ...] = ()
    """Sorted; empty: everybody."""
    revoked: tuple[tuple[ActorId, tuple[EventId, ...]], ...] = ()
    """Sorted; each with the ends of the chain up to which its events count."""

    @property
    def requires(self) -> bool:
        """Whether events that are not in order are held back."""
        return self.verify == REQUIRE


def encode_policy(policy: Policy) -> bytes:
    """Return the policy as bytes, equal for equal policies; nothing when no event is looked at."""
    return b"" if policy.verify == OFF else pack(tuple(policy))


def decode_policy(data: bytes) -> Policy:
    """Return the policy of `encode_policy`; raise InvalidEvent for other bytes."""
    if not data:
        return Policy()
    verify, allowed, revoked = cast(
        tuple[str, tuple[ActorId, ...], tuple[tuple[ActorId, tuple[EventId, ...]], ...]],
        unpack(data),
    )
    return Policy(verify, allowed, revoked)


class Chains(NamedTuple):
    """How far the chains of revoked actors were followed."""

    reached: frozenset[EventId]
    """Events that lie on a chain before one of its ends, or are one."""
    missing: frozenset[EventId]
    """Named by a chain and not in the log: if one arrives, more can be reached."""


def follow(ends: Iterable[EventId], parents: Mapping[EventId, EventId | None]) -> Chains:
    """Follow chains backwards from their ends; `parents` holds every event that is there.

    An event's id covers its parent, so that nothing can be slipped in before an end later.
    """
    reached: set[EventId] = set()
    missing: set[EventId] = set()
    for end in ends:
        event_id: EventId | None = end
        while event_id is not None and event_id not in reached:
            if event_id not in parents:
                missing.add(event_id)
                break
            reached.add(event_id)
            event_id = parents[event_id]
    return Chains(frozenset(reached), frozenset(missing))


def chain_ends(parents: Mapping[EventId, EventId | None]) -> tuple[EventId, ...]:
    """Return the events that no other one names as its parent, sorted."""
    named = set(parents.values())
    return tuple(sorted(event_id for event_id in parents if event_id not in named))


def fault(
    policy: Policy, reached: frozenset[EventId], event_id: EventId, actor_id: ActorId, status: str
) -> str | None:
    """Return why the policy holds an event back, or None when it counts.

    `status` is what `signing.signature_status` says; `reached` are the events before the ends of
    all revoked chains. The answer is a status that is not `valid`, or `untrusted`, or `revoked`.
    """
    if status != VALID:
        return status
    if event_id not in reached and any(actor_id == revoked for revoked, _ in policy.revoked):
        return REVOKED
    if policy.allowed and actor_id not in policy.allowed:
        return UNTRUSTED
    return None
