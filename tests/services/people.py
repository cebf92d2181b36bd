"""People with keys, and what they or others in their name write: material for tests of trust."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from grit.core import codec, signing
from grit.core.events import Draft, Event, Payload
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.trust import Policy, chain_ends, fault, follow
from tests.core.builders import ISSUE, NOW_MS


class Person:
    """A keyed actor; every event follows the one before in its chain."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seed = name.encode().ljust(32, b".")
        self.key = signing.public_key(self.seed)
        self.actor_id = signing.actor_id_of(self.key)
        self.last: EventId | None = None

    def write(
        self,
        tag: int,
        *payload: object,
        ts: int = NOW_MS,
        issue: IssueId = ISSUE,
        parent: EventId | None = None,
    ) -> Event:
        """Return a signed event after the last one, or after `parent`."""
        values: Payload = payload  # type: ignore[assignment]
        draft = Draft(issue, tag, values)
        event = codec.seal(draft, self.actor_id, ts, parent or self.last)
        self.last = event.event_id
        return signing.sign(event, self.seed)

    def announce(self, label: str | None = None, ts: int = NOW_MS - 1) -> Event:
        """Return the announcement of the key."""
        about = IssueId(bytes(self.actor_id))
        return self.write(100, label or self.name, self.name, "", self.key, ts=ts, issue=about)

    def create(self, title: str, ts: int = NOW_MS, issue: IssueId = ISSUE) -> Event:
        return self.write(1, title, "", (), ts=ts, issue=issue)


ANN, BOB, EVE = Person("ann"), Person("bob"), Person("eve")


def stripped(event: Event) -> Event:
    """Return the event without its signature."""
    return event._replace(sig=None)


def forged(event: Event, by: Person = EVE) -> Event:
    """Return the event signed with the key of somebody else."""
    return signing.sign(event, by.seed)


class Verdict(NamedTuple):
    """What a policy makes of a set of events: all at once, the simple way."""

    counted: list[Event]
    held: dict[EventId, str]


def judge(events: Iterable[Event], policy: Policy) -> Verdict:
    """Judge copies of events as spec/trust.md says, without any view."""
    copies: dict[EventId, list[Event]] = {}
    keys: dict[ActorId, bytes] = {}
    for event in events:
        copies.setdefault(event.event_id, []).append(event)
        key = event.payload[-1]
        about = ActorId(bytes(event.issue_id))
        if event.tag == 100 and isinstance(key, bytes) and signing.actor_id_of(key) == about:
            keys[about] = key
    reached: set[EventId] = set()
    for actor_id, ends in policy.revoked:
        theirs = {k: v[0].parent for k, v in copies.items() if v[0].actor_id == actor_id}
        reached |= follow(ends, theirs).reached
    counted: list[Event] = []
    held: dict[EventId, str] = {}
    for event_id, several in copies.items():
        statuses = {signing.signature_status(one, keys.get(one.actor_id)) for one in several}
        best = next(s for s in ("valid", "invalid", "unknown_key", "none") if s in statuses)
        found = fault(policy, frozenset(reached), event_id, several[0].actor_id, best)
        if found is None or not policy.requires:
            counted.append(several[0])
        else:
            held[event_id] = found
    return Verdict(sorted(counted, key=lambda event: event.order), held)


def ends_of(events: Sequence[Event]) -> tuple[EventId, ...]:
    """Return the ends of the chain that these events of one actor make."""
    return chain_ends({event.event_id: event.parent for event in events})
