"""Use cases that change issues, each a function of a transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from grit.core import decide
from grit.core.dependencies import edge_of, find_cycle
from grit.core.errors import Conflict, InvalidArgs, NotFound
from grit.core.events import DEPENDENCY_TYPES, Event
from grit.core.ids import (
    EventId,
    IssueId,
    id_digits,
    parse_hex,
    parse_number,
    parse_prefix,
    plain,
    user_name,
)
from grit.core.issue import Dependency, Issue, Summary
from grit.core.limits import (
    ATTACHMENT_BYTES_MAX,
    ATTACHMENT_NAME_BYTES_MAX,
    ID_BYTES,
    PREFIX_CHARS_MIN,
)
from grit.core.query import ME
from grit.services.write import Transaction

SHORT: Final = 7
Data = dict[str, object]


class Change(NamedTuple):
    """What a use case did: the issue, its last event (None: nothing), JSON data, log line."""

    issue_id: IssueId
    event_id: EventId | None
    data: Data
    subject: str


def _change(
    transaction: Transaction, verb: str, row: Summary, events: Sequence[Event], **data: object
) -> Change:
    row = transaction.find(row.issue_id) or row
    event_id = events[-1].event_id if events else None
    return Change(row.issue_id, event_id, data, f"{verb} {row.issue_id.hex()[:SHORT]} {row.title}")


def people(transaction: Transaction, names: Iterable[str]) -> list[str]:
    """Return the user names that are meant: "@me" and ids are those of actors."""
    return [_user(transaction, name) for name in names]


def _user(transaction: Transaction, name: str) -> str:
    if plain(name) == ME:
        return user_name(transaction.author.label, transaction.author.actor_id)
    if not id_digits(name):
        return name
    from grit.services.who import Known, everybody, user_meant

    author = transaction.author
    known = everybody(transaction.reader, transaction.here())
    others = [one for one in known if one.actor_id != author.actor_id]
    return user_meant(name, [*others, Known(author.actor_id, author.label)])


def create(
    transaction: Transaction,
    issue_id: IssueId,
    title: str,
    *,
    body: str = "",
    labels: Iterable[str] = (),
    assignees: Iterable[str] = (),
    fields: Mapping[str, str] | None = None,
) -> Change:
    """Create an issue under a fresh id; a field `parent` may be a short id."""
    values = _resolve_parent(transaction, fields or {})
    drafts = decide.create(
        issue_id,
        title,
        body=body,
        labels=labels,
        assignees=people(transaction, assignees),
        fields={key: value for key, value in values.items() if value},
    )
    events = transaction.add(drafts)
    # The creation is what a caller wants to name, not the last of its companions.
    return _change(transaction, "create", transaction.summary(issue_id), events[:1])


def update(
    transaction: Transaction,
    issue: str,
    *,
    title: str | None = None,
    body: str | None = None,
    fields: Mapping[str, str | None] | None = None,
) -> Change:
    """Change title, body and fields; a field of None or "" is removed."""
    known = transaction.issue(transaction.resolve(issue))
    values = _resolve_parent(transaction, fields or {})
    if values.get("parent"):
        _check_parent(transaction, known.summary.issue_id, str(values["parent"]))
    if body is not None:
        known = known._replace(body=transaction.whole(known.body))
    drafts = decide.update(known, title=title, body=body, fields=values)
    return _change(transaction, "update", known.summary, transaction.add(drafts))


def _resolve_parent(
    transaction: Transaction, fields: Mapping[str, str | None]
) -> dict[str, str | None]:
    parent = fields.get("parent")
    if not parent:
        return dict(fields)
    return {**fields, "parent": transaction.resolve(parent).hex()}


def _check_parent(transaction: Transaction, issue_id: IssueId, parent: str) -> None:
    """Raise Conflict when the issue would be a part of itself."""
    path = [issue_id.hex()]
    above: str | None = parent
    while above is not None and above not in path[1:]:
        path.append(above)
        if above == path[0]:
            shown = " -> ".join(one[:SHORT] for one in path)
            raise Conflict(f"refused: an issue would be part of itself: {shown}", cycle=path)
        found = parse_hex(above, ID_BYTES)  # another tool may have filled the field
        row = transaction.find(IssueId(found)) if found is not None else None
        above = row.field("parent") if row is not None else None


def comment(transaction: Transaction, issue: str, body: str) -> Change:
    """Add a comment."""
    row = transaction.summary(transaction.resolve(issue))
    return _change(transaction, "comment", row, transaction.add(decide.comment(row, body)))


def set_state(transaction: Transaction, issue: str, state: str, body: str | None = None) -> Change:
    """Open or close, with an optional comment before it."""
    row = transaction.summary(transaction.resolve(issue))
    events: list[Event] = []
    if body is not None:
        events += transaction.add(decide.comment(row, body))
    events += transaction.add(decide.set_state(row, state))
    return _change(
        transaction, "close" if state == "closed" else "reopen", row, events, state=state
    )


def label(
    transaction: Transaction, issue: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Change:
    """Add and remove labels."""
    row = transaction.summary(transaction.resolve(issue))
    events = transaction.add(decide.label(row, add, remove))
    return _change(transaction, "label" if add else "unlabel", row, events, label=[*add, *remove])


def assign(
    transaction: Transaction, issue: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Change:
    """Add and remove assignees; what is removed may also stand on the issue as it was typed."""
    added, removed = people(transaction, add), people(transaction, remove)
    return assign_users(transaction, issue, add=added, remove=[*removed, *remove])


def assign_users(
    transaction: Transaction, issue: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Change:
    """Add and remove assignees by their very user names."""
    row = transaction.summary(transaction.resolve(issue))
    events = transaction.add(decide.assign(row, add, remove))
    names = [*dict.fromkeys((*add, *remove))]
    return _change(transaction, "assign" if add else "unassign", row, events, assignee=names)


def link(transaction: Transaction, issue: str, url: str, note: str | None) -> Change:
    """Add a link."""
    known = transaction.issue(transaction.resolve(issue))
    events = transaction.add(decide.link(known, url, note))
    return _change(transaction, "link", known.summary, events, url=url, note=note)


def attach(transaction: Transaction, issue: str, name: str, content: bytes, mime: str) -> Change:
    """Add an attachment, its contents stored in the log."""
    from hashlib import sha256

    if len(content) > ATTACHMENT_BYTES_MAX:
        raise InvalidArgs(f"'{name}' has {len(content)} bytes; at most {ATTACHMENT_BYTES_MAX}")
    check_attachment_name(name)
    known = transaction.issue(transaction.resolve(issue))
    digest = sha256(content)
    events = transaction.add(decide.attach(known, name, digest.digest(), mime))
    if events:
        transaction.attachments[digest.hexdigest()] = content
    return _change(
        transaction, "attach", known.summary, events, name=name, sha256=digest.hexdigest()
    )


def check_attachment_name(name: str) -> None:
    """Raise InvalidArgs unless the name is one safe file name on every system."""
    base = name.split(".", maxsplit=1)[0].upper()
    reserved = base in {"CON", "PRN", "AUX", "NUL"} or (
        base[:3] in {"COM", "LPT"} and base[3:].isdigit()
    )
    bad = name in {"", ".", ".."} or set(name) & set('/\\:*?"<>|')
    if bad or reserved or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise InvalidArgs(f"{name!r} is not a safe attachment name: give a plain file name")
    if len(name.encode("utf-8", "replace")) > ATTACHMENT_NAME_BYTES_MAX:
        raise InvalidArgs(f"the attachment name has over {ATTACHMENT_NAME_BYTES_MAX} bytes")


def add_dependency(transaction: Transaction, issue: str, target: str, dep_type: str) -> Change:
    """Add an edge; refuse one that closes a cycle over both kinds of ordering edges."""
    _check_dep_type(dep_type)
    row = transaction.summary(transaction.resolve(issue))
    other = transaction.summary(transaction.resolve(target))
    mirrored = decide.mirror(row.issue_id, dep_type) in other.dependencies
    drafts = decide.add_dependency(
        row, other.issue_id, dep_type, mirrored, _cycle(transaction, row, other, dep_type)
    )
    return _dependency_change(
        transaction, "depend", row, other.issue_id, dep_type, transaction.add(drafts)
    )


def remove_dependency(transaction: Transaction, issue: str, target: str, dep_type: str) -> Change:
    """Remove an edge, whichever of its two issues states it."""
    _check_dep_type(dep_type)
    row = transaction.summary(transaction.resolve(issue))
    try:
        target_id = transaction.resolve(target)
    except NotFound:
        # An edge may point at an issue that never arrived; it can still be taken away.
        found = parse_hex(target.strip().removeprefix("#"), ID_BYTES)
        if found is None:
            raise
        target_id = IssueId(found)
    drafts = decide.remove_dependency(row, transaction.find(target_id), target_id, dep_type)
    return _dependency_change(
        transaction, "undepend", row, target_id, dep_type, transaction.add(drafts)
    )


def _dependency_change(
    transaction: Transaction,
    verb: str,
    row: Summary,
    target: IssueId,
    dep_type: str,
    events: Sequence[Event],
) -> Change:
    return _change(transaction, verb, row, events, target=target.hex(), dep_type=dep_type)


def _check_dep_type(dep_type: str) -> None:
    if dep_type not in DEPENDENCY_TYPES:
        raise InvalidArgs(f"'{dep_type}' is not one of {', '.join(DEPENDENCY_TYPES)}")


def _cycle(
    transaction: Transaction, row: Summary, other: Summary, dep_type: str
) -> list[str] | None:
    """Return the short ids of the cycle that the new edge would close, or None."""
    edge = edge_of(row.issue_id, Dependency(other.issue_id, dep_type))
    if edge is None or edge.before == edge.after:
        return None
    cycle = find_cycle(lambda issue_id: issues_before(transaction, issue_id), edge)
    if cycle is None:
        return None
    # The new edge leads from the end of the path back to its start.
    return [issue_id.hex()[:SHORT] for issue_id in (*cycle, cycle[0])]


def issues_before(transaction: Transaction, issue_id: IssueId) -> set[IssueId]:
    """Return the issues that must come before this one, pending edges included."""
    states_it = Dependency(issue_id, "blocks")
    sources = {source for source, _ in transaction.reader.dependents(issue_id)}
    sources.update(pending.issue_id for pending in transaction.pending_rows())
    found = {
        source
        for source in sources
        if (row := transaction.find(source)) is not None and states_it in row.dependencies
    }
    own = transaction.find(issue_id)
    if own is not None:
        found |= {edge.target for edge in own.dependencies if edge.dep_type == "depends_on"}
    return found


def edit_comment(transaction: Transaction, issue: str, comment_id: str, body: str) -> Change:
    """Replace a comment's text; the old one stays in the history."""
    known = transaction.issue(transaction.resolve(issue))
    found = find_comment(known, comment_id)
    comments = tuple(
        one._replace(body=transaction.whole(one.body)) if one.event_id == found else one
        for one in known.comments
    )
    drafts = decide.edit_comment(known._replace(comments=comments), found, body)
    events = transaction.add(drafts)
    return _change(transaction, "comment-edit", known.summary, events, comment=found.hex())


def redact_comment(transaction: Transaction, issue: str, comment_id: str, reason: str) -> Change:
    """Hide a comment's text in every view."""
    known = transaction.issue(transaction.resolve(issue))
    found = find_comment(known, comment_id)
    events = transaction.add(decide.redact_comment(known, found, reason))
    return _change(transaction, "comment-redact", known.summary, events, comment=found.hex())


def find_comment(issue: Issue, text: str) -> EventId:
    """Return the comment that a prefix of its event id or its number (1, 2, ...) names."""
    number = parse_number(text, PREFIX_CHARS_MIN - 1)
    if number is not None:
        if not 0 < number <= len(issue.comments):
            raise NotFound(f"no comment {text}: this issue has {len(issue.comments)}")
        return issue.comments[number - 1].event_id
    prefix = parse_prefix(text, chars_max=64, what="comment id")
    found = [c.event_id for c in issue.comments if c.event_id.hex().startswith(prefix)]
    if not found:
        raise NotFound(f"no comment '{prefix}' in this issue")
    if len(found) > 1:
        raise InvalidArgs(f"'{prefix}' names {len(found)} comments; give more digits")
    return found[0]


def set_deleted(transaction: Transaction, issue: str, deleted: bool, reason: str) -> Change:
    """Hide an issue, or bring it back; nothing is lost either way."""
    row = transaction.summary(transaction.resolve(issue))
    events = transaction.add(decide.set_deleted(row, deleted, reason))
    return _change(transaction, "delete" if deleted else "restore", row, events, deleted=deleted)
