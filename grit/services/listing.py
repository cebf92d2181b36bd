"""Use cases that read: pages of issues, whole issues, history, activity, order."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

from grit.core import query as queries
from grit.core.errors import InvalidArgs, NotFound
from grit.core.events import Event
from grit.core.ids import ActorId, IssueId, id_digits
from grit.core.issue import Issue, Summary
from grit.core.limits import LIST_LIMIT_DEFAULT
from grit.core.query import Query, SortName, Term
from grit.core.text import words
from grit.services.find import resolve
from grit.services.refresh import refresh
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader

READY: Final = Term("is", ("ready",))
BLOCKED: Final = Term("is", ("blocked",))


class Asked(NamedTuple):
    """What a list command was asked for."""

    filter_text: str = ""
    state: str | None = None
    labels: Sequence[str] = ()
    assignee: str | None = None
    author: str | None = None
    search: str | None = None
    sort: SortName | None = None
    reverse: bool = False
    limit: int | None = LIST_LIMIT_DEFAULT
    """None: all."""
    terms: tuple[Term, ...] = ()


class Page(NamedTuple):
    """Rows of a list, and how many match in all; `rows` is to be read once."""

    rows: Iterable[Summary]
    total: int
    reader: ViewReader


def page(workspace: Workspace, asked: Asked, default_state: str = "open") -> Page:
    """Return the issues that match, those that are open unless a state was asked for."""
    reader = refresh(workspace)
    query = _query(asked, workspace.now_ms())
    query = queries.with_default_state(query, default_state) if default_state else query
    query = _resolve(workspace, reader, query)
    found = reader.page(query, limit=asked.limit, progress=workspace.ports.progress)
    return Page(found.rows, found.total, reader)


def remote_not_synced(workspace: Workspace) -> str | None:
    """Return a remote from which issues may come, where this clone has no log yet, else None."""
    if workspace.wal.head() is not None:
        return None
    from grit.core.errors import GitFailed
    from grit.git.remotes import sync_remote

    try:
        return sync_remote(workspace.wal.config)
    except GitFailed:
        return "a remote"


def _query(asked: Asked, now_ms: int) -> Query:
    query = Query()
    if asked.filter_text.strip():
        from grit.core.filter_text import parse

        query = parse(asked.filter_text, now_ms=now_ms)
    terms = [*query.terms, *asked.terms]
    if asked.state is not None:
        terms.append(Term("state", ("open", "closed") if asked.state == "all" else (asked.state,)))
    terms += [Term("label", (label,)) for label in asked.labels]
    if asked.assignee is not None:
        terms.append(Term("assignee", (asked.assignee,)))
    if asked.author is not None:
        terms.append(Term("author", (asked.author,)))
    if asked.search is not None:
        found = [words(piece) for piece in asked.search.split()]
        if not any(found):
            raise InvalidArgs("nothing to search for: give at least one word")
        terms += [
            Term("phrase" if len(piece) > 1 else "text", tuple(piece)) for piece in found if piece
        ]
    # What can be done, and what waits, is read by urgency (spec/query.md, Order).
    sort = asked.sort or query.sort or ("priority" if asked.terms else None)
    return Query(tuple(terms), sort, asked.reverse or query.reverse)


def _resolve(workspace: Workspace, reader: ViewReader, query: Query) -> Query:
    if not any(term.kind in ("author", "assignee") for term in query.terms):
        return query
    from grit.git.actors import readable_actors
    from grit.services import actors, who

    me = actors.current(workspace)
    known = cache(lambda: who.everybody(reader, readable_actors(workspace.repository)))

    def people(name: str) -> list[ActorId]:
        return [one.actor_id for one in who.meant(name, known(), me.actor_id if me else None)]

    def users(value: str) -> list[str]:
        found = who.by_id(value, known()) if id_digits(value) else []
        return [name for one in found for name in who.assigned_to(one)] or [value]

    own = who.assigned_to(who.of_file(me)) if me else ()
    return queries.resolve(query, people, own, users)


def whole_issue(workspace: Workspace, text: str) -> Issue:
    """Return the issue that an id or prefix names."""
    reader = refresh(workspace)
    return issue_of(reader, resolve(reader, text))


def issue_of(reader: ViewReader, issue_id: IssueId) -> Issue:
    """Return the whole issue; raise NotFound when its creation has not arrived."""
    issue = reader.issue(issue_id)
    if issue is None:
        raise NotFound(f"no issue '{issue_id.hex()}'", id=issue_id.hex())
    return issue


class Relation(NamedTuple):
    """An edge from or to an issue; `row` is None when the other issue has not arrived."""

    issue_id: IssueId
    dep_type: str
    row: Summary | None


class Shown(NamedTuple):
    """Everything that `grit show` prints."""

    issue: Issue
    dependencies: list[Relation]
    dependents: list[Relation]
    children: list[Summary]
    reader: ViewReader


def show(workspace: Workspace, text: str) -> Shown:
    """Return an issue with what surrounds it."""
    reader = refresh(workspace)
    with reader.at_once():
        return _shown(reader, resolve(reader, text))


def _shown(reader: ViewReader, issue_id: IssueId) -> Shown:
    issue = issue_of(reader, issue_id)
    children = Query((Term("parent", (issue_id.hex(),)),), "created", reverse=True)
    return Shown(
        issue,
        [Relation(*edge, reader.summary(edge.target)) for edge in issue.summary.dependencies],
        [
            Relation(source, dep_type, reader.summary(source))
            for source, dep_type in reader.dependents(issue_id)
        ],
        list(reader.page(children, limit=None).rows),
        reader,
    )


def history(workspace: Workspace, text: str) -> tuple[ViewReader, list[tuple[Event, str | None]]]:
    """Return all events of an issue in their order, each with why it does not count, or None."""
    reader = refresh(workspace)
    return reader, reader.history_of(resolve(reader, text))


def activity(
    workspace: Workspace, *, since_ms: int | None, actor: str | None, limit: int | None
) -> tuple[ViewReader, Iterator[Event]]:
    """Return the events of all issues, newest first."""
    reader = refresh(workspace)
    events: Iterator[Event] = reader.latest_events()
    if since_ms is not None:
        events = events_since(events, since_ms)
    if actor is not None:
        wanted = people_called(workspace, reader, actor)
        events = (event for event in events if event.actor_id in wanted)
    return reader, islice(events, limit)


def people_called(workspace: Workspace, reader: ViewReader, name: str) -> frozenset[ActorId]:
    """Return the actors that a name, a part of an id or '@me' means; raise NotFound for none."""
    query = _resolve(workspace, reader, Query((Term("author", (name,)),)))
    wanted = query.terms[0].actors or ()
    if not wanted:
        raise NotFound(f"nobody called '{name}' has written here")
    return frozenset(wanted)


def events_since(events: Iterator[Event], since_ms: int) -> Iterator[Event]:
    """Yield the events, newest first, up to a time."""
    for event in events:
        if event.ts_unix_ms < since_ms:
            return
        yield event


class Ordered(NamedTuple):
    """All open issues in an order in which they can be done, and the cycles among them."""

    rows: list[Summary]
    cycles: tuple[tuple[IssueId, ...], ...]
    reader: ViewReader


def topological(workspace: Workspace) -> Ordered:
    """Return the open issues, what must come first before what waits for it."""
    from grit.core.dependencies import edges_of, topological_order

    reader = refresh(workspace)
    with reader.at_once():
        open_rows = [row for row in reader.all_rows() if row.state == "open" and not row.deleted]
    rows = {row.issue_id: row for row in open_rows}
    edges = edges_of((row.issue_id, row.dependencies) for row in rows.values())
    created = {issue_id: row.created_ts for issue_id, row in rows.items()}
    order = topological_order(created, edges)
    return Ordered([rows[issue_id] for issue_id in order.order], order.cycles, reader)


def blockers(reader: ViewReader, row: Summary) -> list[Summary]:
    """Return the open issues that must come before this one."""
    with reader.at_once():
        found = [reader.summary(issue_id) for issue_id in reader.blockers_of(row.issue_id)]
    return [one for one in found if one is not None and one.state == "open" and not one.deleted]
