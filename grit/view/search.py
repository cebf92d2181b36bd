"""Words of issues: a lazy index, exact where it is asked (spec/view.md, Words).

A write only notes that an issue's words are stale; a search files what is stale, if it can take
the writers' lock at once, and otherwise reads those issues themselves.
"""

from itertools import islice
from typing import Final

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
from grit.core.progress import ProgressReporter
from grit.core.query import Term, texts_match
from grit.core.text import tokens
from grit.view import keys
from grit.view.database import Database, Txn
from grit.view.rows import IssueEvents, scan

_BATCH_ISSUES: Final = 2_000
_REPLACING: Final = frozenset((ISSUE_UPDATED, COMMENT_EDITED, COMMENT_REDACTED, TIME_OVERRULED))

Texts = dict[IssueId, list[str]]


def shown_texts(issue: Issue) -> list[str]:
    """Return the texts of an issue that are shown, and so are searched."""
    return [issue.summary.title, issue.body, *(comment.body for comment in issue.comments)]


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
    """Index some stale issues; return how many."""
    stale = [key[1:] for key, _ in islice(scan(txn, keys.STALE), _BATCH_ISSUES)]
    added: list[tuple[bytes, bytes]] = []
    for issue_id in stale:
        events = list(IssueEvents(txn, issue_id))
        issue = fold(events)
        known = set() if issue is None else set().union(*map(tokens, shown_texts(issue)))
        added += [(keys.word_key(word, issue_id), b"") for word in known]
        creations = sum(event.tag == ISSUE_CREATED for event in events)
        if creations > 1 or not _REPLACING.isdisjoint([event.tag for event in events]):
            for word in _words_ever(events) - known:
                txn.delete(keys.word_key(word, issue_id))
    added.sort()
    txn.cursor().putmulti(added)
    for issue_id in stale:
        txn.delete(keys.STALE + issue_id)
    return len(stale)


def _words_ever(events: list[Event]) -> set[str]:
    """Return the words of every text that these events ever showed."""
    found: set[str] = set()
    for event in events:
        if event.tag in (ISSUE_CREATED, ISSUE_UPDATED):
            texts = event.payload[:2]
        elif event.tag in (COMMENT_ADDED, COMMENT_EDITED):
            texts = event.payload[-1:]
        else:
            continue
        for text in texts:
            if isinstance(text, str):
                found |= tokens(text)
    return found


def stale_texts(txn: Txn) -> Texts:
    """Return the texts of the issues whose words are not indexed yet."""
    texts: Texts = {}
    for key, _ in scan(txn, keys.STALE):
        issue_id = IssueId(key[1:])
        issue = fold(IssueEvents(txn, issue_id))
        texts[issue_id] = [] if issue is None else shown_texts(issue)
    return texts


def ids_with(txn: Txn, term: Term, stale: Texts) -> set[IssueId]:
    """Return the issues that fulfil a `text` or `phrase` term, before its negation is applied."""
    plain = term._replace(negated=False)
    if term.kind == "text":
        found = _ids_of(txn, keys.WORD + term.values[0].encode()) - stale.keys()
    else:
        found = _ids_of_phrase(txn, plain, stale)
    found.update(issue_id for issue_id, texts in stale.items() if texts_match((plain,), texts))
    return found


def _ids_of_phrase(txn: Txn, term: Term, stale: Texts) -> set[IssueId]:
    candidates: set[IssueId] | None = None
    for word in set(term.values):
        ids = _ids_of(txn, keys.WORD + word.encode() + b"\0")
        candidates = ids if candidates is None else candidates & ids
    found: set[IssueId] = set()
    for issue_id in (candidates or set()) - stale.keys():
        issue = fold(IssueEvents(txn, issue_id))
        if issue is not None and texts_match((term,), shown_texts(issue)):
            found.add(issue_id)
    return found


def _ids_of(txn: Txn, prefix: bytes) -> set[IssueId]:
    return {IssueId(key[-keys.ID_BYTES :]) for key, _ in scan(txn, prefix)}
