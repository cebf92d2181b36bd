"""Queries as values: terms, what matches them, and the order of results (spec/query.md).

`grit.core.filter_text` turns text into a Query and back. `matches` is the reference that the
view, which plans with indexes, must equal. A query is the conjunction of its terms; the `values`
of one term are alternatives, except in `text` and `phrase`.

kind            values                                          decided by
state           "open", "closed"                                summary
label           exact labels                                    summary
assignee        exact user names ("@me" until resolved)         summary
author          names as typed; `actors` once resolved          summary
field           alternatives for field `key`, as `field_value`  summary
no              "assignee", "label", "type"..., "field.KEY"      summary
id, parent      lower-case hex prefixes                         summary
created,
updated, due,   none: low <= x <= high, unix milliseconds       summary
priority,
estimate        none: low <= x <= high, rank or number          summary
is              "ready", "blocked", "epic", "deleted"           facts and summary
text            one word: some word starts with it              texts
phrase          words that follow each other in one text        texts
"""

from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple

from grit.core.errors import InvalidArgs
from grit.core.ids import ActorId, IssueId, parse_number
from grit.core.issue import Summary
from grit.core.limits import TITLE_SORTED_CHARS
from grit.core.long_text import Text
from grit.core.text import matches_phrase, searched, tokens

TermKind = Literal[
    "state", "label", "assignee", "author", "field", "no", "id", "parent",
    "created", "updated", "due", "priority", "estimate", "is", "text", "phrase",
]  # fmt: skip
SortName = Literal["updated", "created", "priority", "title", "id"]
SORT_NAMES: Final[tuple[SortName, ...]] = ("updated", "created", "priority", "title", "id")
ME: Final = "@me"


class Term(NamedTuple):
    """One condition; see the table above for what `values`, `low` and `high` (inclusive) hold."""

    kind: TermKind
    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    negated: bool = False
    key: str = ""
    """The field's key where kind is `field`."""
    actors: tuple[ActorId, ...] | None = None
    """Whom an `author` term means; None until `resolve`."""


class Query(NamedTuple):
    """Terms that must all hold, and the order asked for (None: the caller's default)."""

    terms: tuple[Term, ...] = ()
    sort: SortName | None = None
    reverse: bool = False


class Facts(NamedTuple):
    """What other issues say about an issue."""

    ready: bool = False
    """Open, not deleted, and nothing open must come before it."""
    blocked: bool = False
    """Open, not deleted, and something open must come before it."""
    has_children: bool = False
    """An issue that is not deleted names it in its field `parent`."""


PRIORITY_RANK_UNSET: Final = 5
"""Rank of an issue without a priority, or with a word that is none: after all that have one."""
_PRIORITY_RANKS: Final = {
    word: rank
    for rank, names in enumerate(
        ("critical urgent", "high", "medium normal", "low", "lowest backlog")
    )
    for word in (str(rank), f"p{rank}", *names.split())
}


def priority_rank(value: str | None) -> int:
    """Return 0 (most urgent) to 4 for a priority in digits or words, else PRIORITY_RANK_UNSET."""
    if value is None:
        return PRIORITY_RANK_UNSET
    return _PRIORITY_RANKS.get(value.strip().lower(), PRIORITY_RANK_UNSET)


def field_value(key: str, value: str) -> str:
    """Return the form under which a field's value is indexed and compared.

    Spellings of one priority agree ("P1", "high" and "1" are "1"); parents are lower-case hex.
    """
    if key == "priority":
        rank = priority_rank(value)
        return value if rank == PRIORITY_RANK_UNSET else str(rank)
    return value.lower() if key == "parent" and value.isascii() else value


def _folded(title: str) -> str:
    if title.isascii():
        return title.lower()
    from grit.core.characters import fold_case

    return fold_case(title)


def estimate_number(value: str) -> int | None:
    """Return the estimate as a whole number, or None when it is not one."""
    return parse_number(value)


def resolve(
    query: Query,
    people: Callable[[str], Iterable[ActorId]],
    me: tuple[str, ...] = (),
    users: Callable[[str], Iterable[str]] = lambda value: (value,),
) -> Query:
    """Return the query with people in place of names.

    `people` gives the actors that a name (or "@me") stands for; none is a term that nobody
    fulfils. `me` holds the user names that "@me" stands for as an assignee, `users` gives those
    that any other value does. Raises InvalidArgs when "@me" is an assignee and `me` is empty.
    """
    terms = (_resolve_term(term, people, me, users) for term in query.terms)
    return query._replace(terms=tuple(terms))


def _resolve_term(
    term: Term,
    people: Callable[[str], Iterable[ActorId]],
    me: tuple[str, ...],
    users: Callable[[str], Iterable[str]],
) -> Term:
    if term.kind == "author":
        found = {actor for name in term.values for actor in people(name)}
        return term._replace(actors=tuple(sorted(found)))
    if term.kind == "assignee":
        if ME in term.values and not me:
            raise InvalidArgs("'@me' is nobody yet: run 'grit init', or name the person")
        names = [name for value in term.values for name in (me if value == ME else users(value))]
        return term._replace(values=tuple(dict.fromkeys(names)))
    return term


def wants_deleted(query: Query) -> bool:
    """Return whether deleted issues may match: only when `is:deleted` asks for them."""
    return any(
        term.kind == "is" and "deleted" in term.values and not term.negated for term in query.terms
    )


def with_default_state(query: Query, state: str = "open") -> Query:
    """Return the query limited to `state`, unless it names a state or asks for deleted issues."""
    if wants_deleted(query) or any(term.kind == "state" for term in query.terms):
        return query
    return query._replace(terms=(*query.terms, Term("state", (state,))))


def matches(
    query: Query, summary: Summary, *, facts: Facts, texts: Callable[[], Iterable[Text]]
) -> bool:
    """Return whether the issue fulfils every term: the reference for any planner.

    `texts` gives title, body and comments that are shown; it is called only when the cheaper
    terms leave the issue in and a term needs it. Author terms must have been resolved.
    """
    if summary.deleted and not wants_deleted(query):
        return False
    searches = []
    for term in query.terms:
        if term.kind in ("text", "phrase"):
            searches.append(term)
        elif row_matches(term, summary, facts) == term.negated:
            return False
    return not searches or texts_match(searches, texts())


def row_matches(term: Term, summary: Summary, facts: Facts) -> bool:
    """Return whether a term that needs no text holds, before its negation is applied.

    `facts` counts only for the kind `is`.
    """
    if term.kind == "is":
        return any(_is(word, summary, facts) for word in term.values)
    return _ROW_TESTS[term.kind](term, summary)


def texts_match(terms: Iterable[Term], texts: Iterable[Text]) -> bool:
    """Return whether all `text` and `phrase` terms hold, negations applied, over an issue's texts.

    A phrase must stand within one text; different terms may be met by different texts.
    """
    terms = list(terms)
    met = texts_meet(terms, texts)
    return all((term in met) != term.negated for term in terms)


def texts_meet(terms: Iterable[Term], texts: Iterable[Text]) -> set[Term]:
    """Return the `text` and `phrase` terms that hold over an issue's texts, negations left out."""
    left, met = set(terms), set[Term]()
    for text in searched(texts) if left else ():
        known = tokens(text)
        met.update([term for term in left if _found(term, known, text)])
        left -= met
    return met


def _found(term: Term, known: set[str], text: str) -> bool:
    if term.kind == "text":
        return any(word.startswith(term.values[0]) for word in known)
    return known.issuperset(term.values) and matches_phrase(text, term.values)


def _is(word: str, summary: Summary, facts: Facts) -> bool:
    if word == "epic":
        return facts.has_children or summary.field("type") == "epic"
    if word == "deleted":
        return summary.deleted
    return facts.ready if word == "ready" else facts.blocked


def _author(term: Term, summary: Summary) -> bool:
    assert term.actors is not None, "author terms are resolved before they are matched"
    return summary.author in term.actors


def _field(term: Term, summary: Summary) -> bool:
    value = summary.field(term.key)
    return value is not None and field_value(term.key, value) in term.values


def _no(term: Term, summary: Summary) -> bool:
    return any(_lacks(summary, name) for name in term.values)


def _lacks(summary: Summary, name: str) -> bool:
    if name == "assignee":
        return not summary.assignees
    if name == "label":
        return not summary.labels
    return summary.field(name.removeprefix("field.")) is None


def _parent(term: Term, summary: Summary) -> bool:
    value = summary.field("parent")
    return value is not None and field_value("parent", value).startswith(term.values)


def _between(term: Term, number: int | None) -> bool:
    if number is None:
        return False
    return (term.low is None or term.low <= number) and (term.high is None or number <= term.high)


def _priority(term: Term, summary: Summary) -> bool:
    rank = priority_rank(summary.field("priority"))
    return rank != PRIORITY_RANK_UNSET and _between(term, rank)


def _field_number(key: str, number: Callable[[str], int | None]) -> Callable[[Term, Summary], bool]:
    def test(term: Term, summary: Summary) -> bool:
        value = summary.field(key)
        return value is not None and _between(term, number(value))

    return test


def _due_ms(value: str) -> int | None:
    from grit.core.times import due_ms  # few queries ask, and its patterns take time to compile

    return due_ms(value)


_ROW_TESTS: Final[dict[str, Callable[[Term, Summary], bool]]] = {
    "state": lambda term, summary: summary.state in term.values,
    "label": lambda term, summary: not set(summary.labels).isdisjoint(term.values),
    "assignee": lambda term, summary: not set(summary.assignees).isdisjoint(term.values),
    "author": _author,
    "field": _field,
    "no": _no,
    "id": lambda term, summary: summary.issue_id.hex().startswith(term.values),
    "parent": _parent,
    "created": lambda term, summary: _between(term, summary.created_ts),
    "updated": lambda term, summary: _between(term, summary.updated_ts),
    "due": _field_number("due", _due_ms),
    "priority": _priority,
    "estimate": _field_number("estimate", estimate_number),
}

SortKey = tuple[int | str | bytes, ...]


def sort_key(summary: Summary, name: SortName) -> SortKey:
    """Return the key by which ascending order puts the issues as people expect them.

    `updated` and `created` newest first, `priority` most urgent first and then oldest first,
    `title` alphabetically without case by its beginning; the issue id breaks every tie.
    """
    return _SORT_KEYS[name](summary)


def _title_key(title: str, issue_id: IssueId) -> SortKey:
    return _folded(title), title, issue_id


_SORT_KEYS: Final[dict[str, Callable[[Summary], SortKey]]] = {
    "updated": lambda row: (-row.updated_ts, row.issue_id),
    "created": lambda row: (-row.created_ts, row.issue_id),
    "priority": lambda row: (priority_rank(row.field("priority")), row.created_ts, row.issue_id),
    "title": lambda row: _title_key(row.title[:TITLE_SORTED_CHARS], row.issue_id),
    "id": lambda row: (row.issue_id,),
}
