"""Words of issues: a lazy index, exact where it is asked (spec/view.md, Words).

A write only notes that an issue's words are stale; a search files what is stale, if it can take
the writers' lock at once, and otherwise reads those issues themselves.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from grit.core.errors import IoFailed
from grit.core.events import (
    COMMENT_ADDED,
    COMMENT_EDITED,
    COMMENT_REDACTED,
    ISSUE_CREATED,
    ISSUE_UPDATED,
    TIME_OVERRULED,
    Event,
)
from grit.core.fold import fold
from grit.core.ids import IssueId
from grit.core.issue import Issue
from grit.core.limits import BATCH_BYTES_MAX, TEXTS_SEARCHED_BYTES
from grit.core.long_text import Long, Text, beginning, utf8_bytes
from grit.core.progress import ProgressReporter
from grit.core.query import Term, texts_meet
from grit.core.text import searched, tokens
from grit.view import keys
from grit.view.database import Database, Txn
from grit.view.rows import IssueEvents, all_of, scan

_BATCH_ISSUES: Final = 2_000
_REPLACING: Final = frozenset((ISSUE_UPDATED, COMMENT_EDITED, COMMENT_REDACTED, TIME_OVERRULED))


class Stale(NamedTuple):
    """The issues whose words are not indexed yet, and those of them that fulfil each term."""

    issue_ids: set[IssueId]
    by_term: dict[Term, set[IssueId]]


def shown_texts(issue: Issue | None) -> Iterator[Text]:
    """Yield the texts of an issue that are shown, and so are searched."""
    if issue is not None:
        yield issue.summary.title
        yield issue.body
        for comment in issue.comments:
            yield comment.body


def file_words(database: Database, progress: ProgressReporter) -> None:
    """Index the words of all stale issues, unless somebody else is writing or the disk is full.

    What stays stale is searched as it stands.
    """
    try:
        with database.exclusive_if_free() as free:
            progress.start("indexing words")
            while free and (count := database.write(_file_batch)):
                progress.advance(count)
    except IoFailed:
        return
    finally:
        progress.done()


def _file_batch(txn: Txn) -> int:
    """Index some stale issues, a bounded count and a bounded size; return how many."""
    size = count = 0
    for key, _ in list(islice(scan(txn, keys.STALE), _BATCH_ISSUES)):
        size += _file_issue(txn, IssueId(key[1:]))
        txn.delete(key)
        count += 1
        if size > BATCH_BYTES_MAX:
            break
    return count


def _file_issue(txn: Txn, issue_id: IssueId) -> int:
    """Index the words of an issue as they are; return the bytes of its texts."""
    events = list(IssueEvents(txn, issue_id))
    size = sum([utf8_bytes(beginning(text)) for event in events for text in _texts_of(event)])
    tags = [event.tag for event in events]
    replaced = tags.count(ISSUE_CREATED) > 1 or not _REPLACING.isdisjoint(tags)
    if replaced or size > TEXTS_SEARCHED_BYTES:
        # Beginnings may end within a word, which is in no whole text.
        for event in chain(all_of(txn, issue_id), events):
            for text in _texts_of(event):
                for word in tokens(beginning(text)):
                    txn.delete(keys.word_key(word, issue_id))
    for text in searched(shown_texts(fold(events))):
        words = sorted(keys.word_key(word, issue_id) for word in tokens(text))
        txn.cursor().putmulti([(key, b"") for key in words])
    return size


def _texts_of(event: Event) -> list[Text]:
    """Return the texts that an event brings."""
    if event.tag in (ISSUE_CREATED, ISSUE_UPDATED):
        texts = event.payload[:2]
    elif event.tag in (COMMENT_ADDED, COMMENT_EDITED):
        texts = event.payload[-1:]
    else:
        return []
    return [text for text in texts if isinstance(text, (str, Long))]


def stale_issues(txn: Txn, terms: Iterable[Term]) -> Stale:
    """Return what is not indexed yet, and what of it fulfils the text and phrase terms."""
    plain = {_plain(term) for term in terms if term.kind in ("text", "phrase")}
    stale = Stale(set(), {term: set() for term in plain})
    for key, _ in scan(txn, keys.STALE):
        issue_id = IssueId(key[1:])
        issue = fold(IssueEvents(txn, issue_id))
        stale.issue_ids.add(issue_id)
        for term in texts_meet(plain, shown_texts(issue)):
            stale.by_term[term].add(issue_id)
    return stale


def _plain(term: Term) -> Term:
    return term._replace(negated=False)


def ids_with(txn: Txn, term: Term, stale: Stale) -> set[IssueId]:
    """Return the issues that fulfil a `text` or `phrase` term, before its negation is applied."""
    plain = _plain(term)
    if term.kind == "text":
        found = _ids_of(txn, keys.WORD + term.values[0].encode())
    else:
        found = _ids_of_phrase(txn, plain, stale)
    return (found - stale.issue_ids) | stale.by_term[plain]


def _ids_of_phrase(txn: Txn, term: Term, stale: Stale) -> set[IssueId]:
    candidates: set[IssueId] | None = None
    for word in set(term.values):
        ids = _ids_of(txn, keys.WORD + word.encode() + b"\0")
        candidates = ids if candidates is None else candidates & ids
    found: set[IssueId] = set()
    for issue_id in (candidates or set()) - stale.issue_ids:
        if texts_meet((term,), shown_texts(fold(IssueEvents(txn, issue_id)))):
            found.add(issue_id)
    return found


def _ids_of(txn: Txn, prefix: bytes) -> set[IssueId]:
    return {IssueId(key[-keys.ID_BYTES :]) for key, _ in scan(txn, prefix)}
