"""Use case: whether events are signed by the key that their actor announced."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from grit.core.events import ACTOR_ANNOUNCED, Event
from grit.core.ids import ActorId, IssueId
from grit.view.reader import ViewReader


def statuses(reader: ViewReader, events: Iterable[Event]) -> Iterator[tuple[Event, str]]:
    """Yield each event with valid, invalid, unknown_key or none (spec/events.md, Actors)."""
    from grit.core.signing import signature_status

    known: dict[ActorId, bytes | None] = {}
    for event in events:
        if event.actor_id not in known:
            known[event.actor_id] = _key(reader, event.actor_id)
        yield event, signature_status(event, known[event.actor_id])


class Judge:
    """Tells, while a view takes events in, which of two signed copies of one event is valid."""

    __slots__ = ("_keys", "_reader", "_records")

    def __init__(self, reader: ViewReader) -> None:
        """Ask the view, as far as it is written, and the records about to be written."""
        self._reader = reader
        self._records: Sequence[tuple[Event, bytes]] = ()
        self._keys: dict[ActorId, bytes | None] = {}

    def begin(self, records: Sequence[tuple[Event, bytes]]) -> None:
        """Take the records that are written next; announcements among them count."""
        self._records = records
        self._keys = {}

    def __call__(self, event: Event) -> bool:
        """Return whether the signature is valid; copies are rare, so that nothing is prepared."""
        from grit.core.signing import signature_status

        actor_id = event.actor_id
        if actor_id not in self._keys:
            coming = (other for other, _ in self._records if other.issue_id == bytes(actor_id))
            self._keys[actor_id] = _key(self._reader, actor_id, coming)
        return signature_status(event, self._keys[actor_id]) == "valid"


def _key(reader: ViewReader, actor_id: ActorId, coming: Iterable[Event] = ()) -> bytes | None:
    """Return the key that certifies the actor, whoever announced it and whatever came later.

    The latest announcement alone would not do: anybody can write one in the actor's name.
    """
    from grit.core.signing import actor_id_of

    person = reader.actor(actor_id)
    latest = person.public_key if person else None
    if latest is not None and actor_id_of(latest) == actor_id:
        return latest
    for event in chain(reader.events_of(IssueId(bytes(actor_id))), coming):
        key = event.payload[-1] if event.tag == ACTOR_ANNOUNCED else None
        if isinstance(key, bytes) and actor_id_of(key) == actor_id:
            return key
    return latest
