"""Names in place of ids, for people to read."""

from grit.core.ids import ActorId, IssueId, name_or_id
from grit.core.limits import SHORT_ID_CHARS_MIN
from grit.view.reader import ViewReader


def name_of(reader: ViewReader, actor_id: ActorId) -> str:
    """Return the label that the actor announced, else its short id; no label looks like one."""
    person = reader.actor(actor_id)
    return name_or_id(person.label or person.name if person else "", actor_id)


def short(reader: ViewReader, issue_id: IssueId) -> str:
    """Return the short id: unique here, at least seven digits."""
    return issue_id.hex()[: max(SHORT_ID_CHARS_MIN, reader.unique_chars(issue_id))]
