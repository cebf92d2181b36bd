"""Use case: whether events are signed by the key that their actor announced, and so may count."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from grit.core.events import ACTOR_ANNOUNCED, Event
from grit.core.fold import counted_ts, overruled_times
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.trust import OFF, VALID, Policy, decode_policy, fault, follow
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader
from grit.view.rows import Meta
from grit.view.standing import Stamp
from grit.view.trust import ViewDoubt

if TYPE_CHECKING:
    from grit.services.verifying import Verifier

Records = Sequence[tuple[Event, bytes]]
Span = tuple[str, str | None, bool]
"""A part of the log: its head, where it begins, and whether it was verified before."""

_UNSURE: Final = ("none", "invalid", "unknown_key")
_INSPECTED: Final = 50_000
"""Events that `inspect` holds in memory."""
WORDS: Final = {
    "none": "unsigned",
    "invalid": "with a wrong signature",
    "unknown_key": "by actors whose key was not announced",
    "untrusted": "by actors that are not on the list",
    "revoked": "by revoked actors",
}


def statuses(reader: ViewReader, events: Iterable[Event]) -> Iterator[tuple[Event, str]]:
    """Yield each event with valid, invalid, unknown_key or none (spec/events.md, Actors)."""
    from grit.core.signing import signature_status

    known: dict[ActorId, bytes | None] = {}
    for event in events:
        if event.actor_id not in known:
            known[event.actor_id] = _key(reader, event.actor_id)
        yield event, signature_status(event, known[event.actor_id])


def judged(
    reader: ViewReader, history: Iterable[tuple[Event, str | None]]
) -> Iterator[tuple[Event, str, str | None, int | None]]:
    """Yield each event of a history with its signature's status, why it does not count, and when.

    When is unix milliseconds, and None for what does not count (spec/projection.md).
    """
    events = list(history)
    times = overruled_times(event for event, reason in events if reason is None)
    checked = statuses(reader, (event for event, _ in events))
    for (event, status), (_, reason) in zip(checked, events, strict=True):
        yield event, status, reason, counted_ts(event, times) if reason is None else None


class ChainFilled(ViewDoubt):
    """An event arrived that lets more events of a revoked actor count: all are folded again."""


class Judge:
    """Says, while a view takes events in, which signatures are valid and which events count.

    Follows spec/trust.md; the view asks it through `standing.Judge`.
    """

    def __init__(self, reader: ViewReader, policy: Policy, stamp: Stamp) -> None:
        """Ask the view, as far as it is written, and the records about to be written."""
        self._reader = reader
        self._policy = policy
        self.looks = policy.verify != OFF
        self.stamp = stamp
        self.keyed: set[ActorId] = set()
        self.faults: Counter[str] = Counter()
        """How many events were not in order, by what `trust.fault` says."""
        self._keys: dict[ActorId, bytes | None] = {}
        self._statuses: dict[tuple[EventId, bytes], str] = {}
        self._wrong: frozenset[EventId] = frozenset()
        self._reached: frozenset[EventId] = frozenset()
        self._revoked = frozenset(actor_id for actor_id, _ in policy.revoked)
        self._followed = False
        self._verifier: Verifier | None = None

    def spans(self, workspace: Workspace, head: str, old: str | None) -> list[Span]:
        """Return the parts in which to read the log: what was verified before comes first.

        For a log that is read whole, chains of revoked actors are followed here.
        """
        if not self.looks or old is not None:
            return [(head, old, False)]
        from grit.services import verified

        if self._revoked:
            self._follow_chains(workspace, head)
        record = verified.load(workspace)
        if record is not None and workspace.wal.contains(head, record.head):
            self._wrong = record.wrong
            spans: list[Span] = [(record.head, None, True)]
            return spans if record.head == head else [*spans, (head, record.head, False)]
        from grit.services.verifying import Verifier

        self._verifier = Verifier()
        self._verifier.start()
        return [(head, None, False)]

    def finish(self, workspace: Workspace, head: str) -> None:
        """Record that all up to `head` was verified, and say what was not in order."""
        if not self.looks:
            return
        from grit.services import verified

        # What could not be read was not verified, and may come back.
        if not any(one.reason.endswith("missing or broken") for one in self._reader.asides()):
            verified.save(workspace, head, self._reader.wrong_signatures())
        self.tell(workspace)

    def tell(self, workspace: Workspace) -> None:
        """Say once how many of the events that came were not in order."""
        if self.faults:
            words = ", ".join(f"{count} {WORDS[name]}" for name, count in self.faults.items())
            held = "are held back" if self._policy.requires else "are not in order"
            workspace.notice(f"events that {held}: {words}; see 'grit doctor'")

    def close(self) -> None:
        """End what was started."""
        if self._verifier is not None:
            self._verifier.close()

    def inspect(
        self, workspace: Workspace, head: str, events: Iterable[Event]
    ) -> Iterator[tuple[Event, str]]:
        """Yield the events of a view that stands for `head` that are not in order, and why."""
        from grit.services import verified

        if self._revoked:
            self._follow_chains(workspace, head)
        record = verified.load(workspace)
        known = record is not None and record.head == head
        self._wrong = record.wrong if record is not None else frozenset()
        rest = map(bare, events)
        while portion := list(islice(rest, _INSPECTED)):
            self.begin([(event, b"") for event in portion], verified=known)
            for event in portion:
                found = self._fault(event)
                if found is not None:
                    yield event, found

    def begin(
        self, records: Records, *, verified: bool = False, own: Collection[EventId] = ()
    ) -> None:
        """Take the records that are written next; announcements among them count.

        `verified`: this span was verified before; `own`: events that this process has just signed.
        Raises ChainFilled when what was decided about revoked actors has to be decided again.
        """
        self._keys = {}
        self.keyed = set()
        self._statuses = {}
        for event, _ in records:
            if event.tag == ACTOR_ANNOUNCED:
                self._take_key(event)
        if not self.looks:
            return
        self._check_chains(records)
        self._verify([event for event, _ in records if event.sig is not None], verified, own)
        self.faults.update(filter(None, (self._fault(event) for event, _ in records)))

    def valid(self, event: Event) -> bool:
        """Return whether the signature is valid; copies are rare, so that nothing is prepared."""
        from grit.core.signing import signature_status

        return signature_status(event, self._key(event.actor_id)) == VALID

    def unknown(self, actor_id: ActorId) -> bool:
        """Return whether nobody has announced the actor's key yet."""
        return self._key(actor_id) is None

    def status(self, event: Event) -> str:
        """Return valid, invalid, unknown_key or none."""
        if event.sig is None:
            return "none"
        found = self._statuses.get((event.event_id, event.sig))
        if found is not None:
            return found
        from grit.core.signing import signature_status

        return signature_status(event, self._key(event.actor_id))

    def held(self, event: Event, status: str) -> str | None:
        """Return why the event must not count, or None."""
        if not self._policy.requires:
            return None
        return fault(self._policy, self._reached, event.event_id, event.actor_id, status)

    def _fault(self, event: Event) -> str | None:
        status = self.status(event)
        return fault(self._policy, self._reached, event.event_id, event.actor_id, status)

    def _verify(self, events: list[Event], verified: bool, own: Collection[EventId]) -> None:
        """Find the status of signed events; only those not known yet are verified."""
        unsure: list[Event] = []
        signed: list[bytes] = []
        for event in events:
            event_id, sig = event.event_id, event.sig
            assert sig is not None
            key = self._key(event.actor_id)
            if key is None:
                self._statuses[event_id, sig] = "unknown_key"
            elif verified:
                self._statuses[event_id, sig] = "invalid" if event_id in self._wrong else VALID
            elif event_id in own:
                self._statuses[event_id, sig] = VALID
            else:
                unsure.append(event)
                signed.append(key + sig + event_id)
        if not unsure:
            return
        from grit.services.verifying import Verifier

        if self._verifier is None:
            self._verifier = Verifier()
        answers = self._verifier.verify(signed)
        for event, answer in zip(unsure, answers, strict=True):
            assert event.sig is not None
            self._statuses[event.event_id, event.sig] = VALID if answer else "invalid"

    def _take_key(self, event: Event) -> None:
        """Keep a key that certifies its actor, whoever announces it."""
        from grit.core.signing import actor_id_of

        key, actor_id = event.payload[-1], ActorId(bytes(event.issue_id))
        if isinstance(key, bytes) and actor_id_of(key) == actor_id:
            self._keys[actor_id] = key
            self.keyed.add(actor_id)

    def _key(self, actor_id: ActorId) -> bytes | None:
        if actor_id not in self._keys:
            self._keys[actor_id] = _key(self._reader, actor_id)
        return self._keys[actor_id]

    def _follow_chains(self, workspace: Workspace, head: str) -> None:
        """Read the log for the events of revoked actors, and find those that still count."""
        from grit.services.decoding import decoded

        self._followed = True
        parents: dict[ActorId, dict[EventId, EventId | None]] = {
            actor_id: {} for actor_id in self._revoked
        }
        for _, chunk in decoded(workspace.wal.read(head, None), whole_log=True):
            for event, _ in chunk.records:
                if event.actor_id in parents:
                    parents[event.actor_id][event.event_id] = event.parent
            del chunk
        chains = [follow(ends, parents[actor_id]) for actor_id, ends in self._policy.revoked]
        self._reached = frozenset().union(*(one.reached for one in chains))
        missing = sorted(frozenset().union(*(one.missing for one in chains)))
        self.stamp = self.stamp._replace(missing=tuple(missing))

    def _check_chains(self, records: Records) -> None:
        """Raise ChainFilled when it takes the whole chain to say what counts of a revoked actor.

        A new event that no chain names is none of its past, and needs no such look.
        """
        if self._followed or not self._revoked:
            return
        missing = frozenset(self.stamp.missing)
        for event, _ in records:
            if event.actor_id in self._revoked and (
                event.event_id in missing
                or (self._reader.reason_held(event) in _UNSURE and self.valid(event))
            ):
                raise ChainFilled("schema", "an older event of a revoked actor arrived")
        for actor_id in self.keyed & self._revoked:
            if self._reader.has_unknown_key(actor_id):
                raise ChainFilled("schema", "the key of a revoked actor arrived")


def bare(event: Event) -> Event:
    """Return the event as far as signatures need it: without what it says, but for keys."""
    return event if event.tag == ACTOR_ANNOUNCED else event._replace(payload=())


def judge_of(reader: ViewReader, meta: Meta) -> Judge:
    """Return the judge of a view that stays under the policy that it was folded under."""
    stamp = Stamp(meta.policy, meta.settings, meta.missing)
    return Judge(reader, decode_policy(meta.policy), stamp)


def _key(reader: ViewReader, actor_id: ActorId) -> bytes | None:
    """Return the key that certifies the actor, whoever announced it and whatever came later.

    The latest announcement alone would not do: anybody can write one in the actor's name.
    """
    from grit.core.signing import actor_id_of

    person = reader.actor(actor_id)
    latest = person.public_key if person else None
    if latest is not None and actor_id_of(latest) == actor_id:
        return latest
    for event, _ in reader.history_of(IssueId(bytes(actor_id))):
        key = event.payload[-1] if event.tag == ACTOR_ANNOUNCED else None
        if isinstance(key, bytes) and actor_id_of(key) == actor_id:
            return key
    return None
