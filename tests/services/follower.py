"""A feed under test, which notices when anything is given out twice."""

from pathlib import Path
from typing import Any

from grit.core.events import Event
from grit.services.feed import Feed
from tests.services.writers import opened


class Follower:
    """A feed that looks until nothing is left to do, and remembers the titles it was given."""

    def __init__(self, folder: Path, actor: str | None = None, **begin: Any) -> None:
        self.notices: list[str] = []
        workspace = opened(folder)
        ports = workspace.ports._replace(notice=self.notices.append)
        self.feed = Feed(workspace.repository, ports, actor)
        self.events: list[Event] = []
        self.take(self.feed.begin(**begin))

    def take(self, events: Any) -> list[str]:
        found = list(events)
        self.events += found
        return [str(one.payload[0]) for one in found]

    def look(self) -> list[str]:
        """Return what came, in its order."""
        found = self.take(self.feed.look())
        for _ in range(50):
            if not self.feed.behind:
                break
            found += self.take(self.feed.look())
        assert not self.feed.behind
        ids = [one.event_id for one in self.events]
        assert len(ids) == len(set(ids)), "an event was given out twice"
        return found
