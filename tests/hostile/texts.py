"""The table of hostile texts: all that is ever printed, with everything that drives a screen."""

from grit.core import codec
from grit.core import events as kinds
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from tests.hostile.plumbing import NOW_MS

NASTY: dict[str, str] = {
    "an escape that writes the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "a title sequence ended by ST": "\x1b]0;evil\x1b\\",
    "colours and a cleared screen": "\x1b[31m\x1b[2J",
    "C1: CSI in one byte": "\x9b31m\x9d0;evil\x9c",
    "a right-to-left override": "\u202eexe.gpj\u202c",
    "isolates": "\u2066a\u2069\u2067",
    "carriage return and backspaces": "\rshown\x08\x08\x08\x08\x08",
    "200 combining marks": "a" + "\u0301" * 200,
    "NUL and DEL": "a\x00b\x7f",
    "line separators": "a\u2028b\u2029c\x85d",
    "tag characters": "a\U000e0041\U000e0042",
    "nothing to see": "\u200b\ufeff\u2060",
}

SLOTS = (
    "title", "body", "label", "comment", "new title", "new body", "added label", "assignee",
    "url", "note", "attachment", "mime", "field key", "field value", "edit", "reason",
    "context path", "project key", "actor label", "actor name", "actor email",
)  # fmt: skip
"""What a hostile text stands in; `slot@text` is what the event holds."""


def issue_id(number: int) -> IssueId:
    """Return the issue of one hostile text."""
    return IssueId(bytes([0x40 + number]) * 16)


def actor_id(number: int) -> ActorId:
    """Return the actor of one hostile text."""
    return ActorId(bytes([0xA0 + number]) * 16)


def events_of(number: int, nasty: str) -> list[Event]:
    """Return events that hold the text in every slot."""

    def mark(slot: str) -> str:
        return f"{slot}@{nasty}"

    issue, actor = issue_id(number), actor_id(number)
    found: list[Event] = []

    def add(tag: int, *payload: object, on: bytes = issue) -> Event:
        draft = Draft(IssueId(on), tag, payload)  # type: ignore[arg-type]
        found.append(codec.seal(draft, actor, NOW_MS + len(found), None))
        return found[-1]

    add(kinds.ACTOR_ANNOUNCED, mark("actor label"), mark("actor name"), mark("actor email"), None,
        on=actor)  # fmt: skip
    add(kinds.ISSUE_CREATED, mark("title"), mark("body"), (mark("label"),))
    edited = add(kinds.COMMENT_ADDED, mark("comment"))
    hidden = add(kinds.COMMENT_ADDED, "to be hidden")
    add(kinds.COMMENT_ADDED, mark("comment"))
    add(kinds.LABEL_ADDED, mark("added label"))
    add(kinds.ASSIGNEE_ADDED, mark("assignee"))
    add(kinds.LINK_ADDED, mark("url"), mark("note"))
    add(kinds.ATTACHMENT_ADDED, mark("attachment"), bytes(32), mark("mime"))
    add(kinds.FIELD_SET, mark("field key"), mark("field value"))
    add(kinds.COMMENT_EDITED, edited.event_id, mark("edit"))
    add(kinds.COMMENT_REDACTED, hidden.event_id, mark("reason"))
    add(kinds.CONTEXT_UPDATED, mark("context path"), nasty, ((nasty, nasty, 1, 2),), nasty,
        bytes(32))  # fmt: skip
    add(kinds.PROJECT_CONTEXT_UPDATED, mark("project key"), nasty)
    add(kinds.ISSUE_UPDATED, mark("new title"), mark("new body"))
    add(kinds.ISSUE_DELETED, mark("reason"))
    add(kinds.ISSUE_RESTORED, mark("reason"))
    add(4242, mark("unknown"), 7, (nasty,))
    return found
