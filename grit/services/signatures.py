"""Use case: whether events are signed by the key that their actor announced."""

from collections.abc import Iterable, Iterator

from grit.core.events import Event
from grit.core.ids import ActorId
from grit.view.reader import ViewReader


def statuses(reader: ViewReader, events: Iterable[Event]) -> Iterator[tuple[Event, str]]:
    """Yield each event with valid, invalid, unknown_key or none (spec/events.md, Actors)."""
    from grit.core.signing import signature_status

    known: dict[ActorId, bytes | None] = {}
    for event in events:
        if event.actor_id not in known:
            person = reader.actor(event.actor_id)
            known[event.actor_id] = person.public_key if person else None
        yield event, signature_status(event, known[event.actor_id])
