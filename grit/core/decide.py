"""Decisions: a command and the state it saw become drafts of events (spec/events.md, Commands).

Every function returns the drafts in order, none when the command would change nothing, and
raises InvalidArgs for a value that a rule refuses.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from grit.core import events as kinds
from grit.core.errors import Conflict, InvalidArgs, NotFound
from grit.core.events import Draft
from grit.core.ids import EventId, IssueId
from grit.core.issue import Comment, Dependency, Issue, Summary
from grit.core.limits import LABEL_CHARS_MAX, TITLE_CHARS_MAX, VALUE_CHARS_MAX

_MIRRORED: Final = {"blocks": "depends_on", "depends_on": "blocks", "related_to": "related_to"}


def check_line(what: str, text: str, chars_max: int = LABEL_CHARS_MAX) -> str:
    """Return the text without outer blanks; raise InvalidArgs unless it is one proper line."""
    line = text.strip()
    if not line:
        raise InvalidArgs(f"the {what} is empty")
    if len(line) > chars_max:
        raise InvalidArgs(f"the {what} has {len(line)} characters; at most {chars_max}")
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line):
        raise InvalidArgs(f"the {what} contains control characters; it must be one line of text")
    return line


def create(
    issue_id: IssueId,
    title: str,
    *,
    body: str = "",
    labels: Iterable[str] = (),
    assignees: Iterable[str] = (),
    fields: Mapping[str, str] | None = None,
) -> list[Draft]:
    """Return the creation and what goes with it."""
    names = tuple(dict.fromkeys(check_line("label", label) for label in labels))
    title = check_line("title", title, TITLE_CHARS_MAX)
    drafts = [Draft(issue_id, kinds.ISSUE_CREATED, (title, body, names))]
    for user in dict.fromkeys(check_line("assignee", user) for user in assignees):
        drafts.append(Draft(issue_id, kinds.ASSIGNEE_ADDED, (user,)))
    for key, value in (fields or {}).items():
        drafts.append(_field(issue_id, key, value))
    return drafts


def update(
    issue: Issue,
    *,
    title: str | None = None,
    body: str | None = None,
    fields: Mapping[str, str | None] | None = None,
) -> list[Draft]:
    """Return the changes of title, body and fields; a field of None or "" is removed."""
    summary = issue.summary
    drafts: list[Draft] = []
    if title is not None:
        title = check_line("title", title, TITLE_CHARS_MAX)
    new_title = title if title != summary.title else None
    new_body = body if body != issue.body else None
    if new_title is not None or new_body is not None:
        drafts.append(Draft(summary.issue_id, kinds.ISSUE_UPDATED, (new_title, new_body)))
    for key, value in (fields or {}).items():
        if (value or None) != summary.field(key):
            drafts.append(_field(summary.issue_id, key, value or None))
    return drafts


def _field(issue_id: IssueId, key: str, value: str | None) -> Draft:
    if value is not None:
        value = check_line(f"value of '{key}'", value, VALUE_CHARS_MAX)
    return Draft(issue_id, kinds.FIELD_SET, (check_line("field name", key), value))


def set_state(summary: Summary, state: str) -> list[Draft]:
    """Return the change to "open" or "closed"."""
    if summary.state == state:
        return []
    return [Draft(summary.issue_id, kinds.STATE_CHANGED, (state,))]


def comment(summary: Summary, body: str) -> list[Draft]:
    """Return the comment; raise InvalidArgs when it is blank."""
    if not body.strip():
        raise InvalidArgs("the comment is empty")
    return [Draft(summary.issue_id, kinds.COMMENT_ADDED, (body,))]


def label(summary: Summary, add: Iterable[str], remove: Iterable[str]) -> list[Draft]:
    """Return the labels that are really added and removed."""
    tags = (kinds.LABEL_ADDED, kinds.LABEL_REMOVED)
    return _change_set(summary, "label", summary.labels, tags, add, remove)


def assign(summary: Summary, add: Iterable[str], remove: Iterable[str]) -> list[Draft]:
    """Return the assignees that are really added and removed."""
    tags = (kinds.ASSIGNEE_ADDED, kinds.ASSIGNEE_REMOVED)
    return _change_set(summary, "assignee", summary.assignees, tags, add, remove)


def _change_set(
    summary: Summary,
    what: str,
    present: tuple[str, ...],
    tags: tuple[int, int],
    add: Iterable[str],
    remove: Iterable[str],
) -> list[Draft]:
    added = [check_line(what, name) for name in dict.fromkeys(add)]
    drafts = [Draft(summary.issue_id, tags[0], (name,)) for name in added if name not in present]
    # What is removed may come from another tool: it is matched, not checked.
    drafts += [
        Draft(summary.issue_id, tags[1], (name,))
        for name in dict.fromkeys(remove)
        if name in present
    ]
    return drafts


def link(issue: Issue, url: str, note: str | None) -> list[Draft]:
    """Return the link unless the issue has the very same."""
    url = check_line("url", url, VALUE_CHARS_MAX)
    if any((known.url, known.note) == (url, note) for known in issue.links):
        return []
    return [Draft(issue.summary.issue_id, kinds.LINK_ADDED, (url, note))]


def attach(issue: Issue, name: str, sha256: bytes, mime: str) -> list[Draft]:
    """Return the attachment unless the issue has the very same."""
    if any((known.name, known.sha256) == (name, sha256) for known in issue.attachments):
        return []
    return [Draft(issue.summary.issue_id, kinds.ATTACHMENT_ADDED, (name, sha256, mime))]


def add_dependency(
    summary: Summary, target: IssueId, dep_type: str, mirrored: bool, cycle: list[str] | None
) -> list[Draft]:
    """Return the edge.

    `mirrored`: the target already states the same; `cycle`: short ids of the cycle that the
    edge would close, or None. Raises Conflict for a cycle, InvalidArgs for an issue itself.
    """
    if target == summary.issue_id:
        raise InvalidArgs("an issue cannot depend on itself")
    if mirrored or Dependency(target, dep_type) in summary.dependencies:
        return []
    if cycle is not None:
        path = " -> ".join(cycle)
        raise Conflict(f"refused: this would close a cycle: {path}", cycle=cycle)
    return [Draft(summary.issue_id, kinds.DEPENDENCY_ADDED, (target, dep_type))]


def remove_dependency(
    summary: Summary, target: Summary | None, target_id: IssueId, dep_type: str
) -> list[Draft]:
    """Return the removals of the edge, whichever of the two issues states it."""
    drafts: list[Draft] = []
    if Dependency(target_id, dep_type) in summary.dependencies:
        payload = (target_id, dep_type)
        drafts.append(Draft(summary.issue_id, kinds.DEPENDENCY_REMOVED, payload))
    if target is not None and mirror(summary.issue_id, dep_type) in target.dependencies:
        mirrored = (summary.issue_id, _MIRRORED[dep_type])
        drafts.append(Draft(target.issue_id, kinds.DEPENDENCY_REMOVED, mirrored))
    return drafts


def mirror(issue_id: IssueId, dep_type: str) -> Dependency:
    """Return the edge by which the other issue would state the same."""
    return Dependency(issue_id, _MIRRORED[dep_type])


def edit_comment(issue: Issue, comment_id: EventId, body: str) -> list[Draft]:
    """Return the edit; raise NotFound without such a comment, Conflict on a redacted one."""
    found = _comment(issue, comment_id)
    if found.redacted is not None:
        raise Conflict("the comment is redacted; it cannot be edited")
    if not body.strip():
        raise InvalidArgs("the comment is empty; 'comment-redact' hides a comment")
    if found.body == body:
        return []
    return [Draft(issue.summary.issue_id, kinds.COMMENT_EDITED, (comment_id, body))]


def redact_comment(issue: Issue, comment_id: EventId, reason: str) -> list[Draft]:
    """Return the redaction; raise NotFound when the issue has no such comment."""
    if _comment(issue, comment_id).redacted is not None:
        return []
    return [Draft(issue.summary.issue_id, kinds.COMMENT_REDACTED, (comment_id, reason))]


def _comment(issue: Issue, comment_id: EventId) -> Comment:
    for found in issue.comments:
        if found.event_id == comment_id:
            return found
    raise NotFound(f"no comment {comment_id.hex()[:12]} in this issue")


def set_deleted(summary: Summary, deleted: bool, reason: str) -> list[Draft]:
    """Return the deletion or the restoration."""
    if summary.deleted == deleted:
        return []
    tag = kinds.ISSUE_DELETED if deleted else kinds.ISSUE_RESTORED
    return [Draft(summary.issue_id, tag, (reason,))]
