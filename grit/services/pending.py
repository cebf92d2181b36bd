"""What waiting writers have queued, as a decision sees it beside the view (spec/wal.md, Queue)."""

from grit.core import codec
from grit.core.events import Event
from grit.core.ids import ActorId, IssueId
from grit.core.issue import Order
from grit.core.limits import ID_BYTES
from grit.git.spool import Entry, Queued
from grit.view.reader import ViewReader


class Pending:
    """The entries of the queue over a view that may know some of them already."""

    __slots__ = ("_decoded", "_entries", "after", "known_count")

    def __init__(self, reader: ViewReader, queued: Queued) -> None:
        """Look at the queue first and at the view then: so that nothing falls between them."""
        self._entries = queued.entries
        self._decoded: dict[int, list[Event]] = {}
        self.after = self._entries[-1].last if self._entries else b""
        """Place of the last event queued."""
        taken = queued.taken[-1].last if queued.taken else b""
        count, held = reader.standing((taken,))
        unknown = queued.waiting if held[0] else self._entries
        self.known_count = count + sum([entry.event_count for entry in unknown])
        """Events of the log once all of these are in it."""

    def tip(self, actor_id: ActorId) -> Order | None:
        """Return the place of the actor's last queued event among its events, if there is one."""
        own = (entry.tip for entry in reversed(self._entries) if entry.actor_id == actor_id)
        return next(own, None)

    def announces(self, actor_id: ActorId) -> bool:
        """Return whether an announcement of the actor is queued."""
        return any(entry.announces and entry.actor_id == actor_id for entry in self._entries)

    def issue_ids(self) -> set[IssueId]:
        """Return the issues that queued events are of."""
        contents = filter(None, (entry.content for entry in self._entries))
        return {
            IssueId(content.issue_ids[at : at + ID_BYTES])
            for content in contents
            for at in range(0, len(content.issue_ids), ID_BYTES)
        }

    def events_of(self, issue_id: IssueId) -> list[Event]:
        """Return the queued events of an issue in their order; the view may hold some by now."""
        found = [
            event
            for number, entry in enumerate(self._entries)
            if entry.packed.find(issue_id) >= 0  # most are told apart at once
            for event in self._events(number, entry)
            if event.issue_id == issue_id
        ]
        return sorted(found, key=lambda event: event.order)

    def _events(self, number: int, entry: Entry) -> list[Event]:
        if number not in self._decoded:
            content = entry.content
            records = codec.decode_chunk(content.chunk).records if content is not None else ()
            self._decoded[number] = [event for event, _ in records]
        return self._decoded[number]
