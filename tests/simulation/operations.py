"""What simulated actors do: every use case and every kind, on whatever state they see."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from grit.core import events as kinds
from grit.core.errors import NotFound
from grit.core.events import DEPENDENCY_TYPES, Draft, Event
from grit.core.ids import ActorId, EventId, IssueId
from grit.services import issues
from grit.services.write import Transaction

UNKNOWN_KIND = 777
"""A kind of a later version."""
LABELS = ("bug", "docs", "später", "needs triage")
USERS = ("ann", "bob", "@me")
FIELDS = ("priority", "type", "milestone", "due")
ISSUES_MAX = 12
"""Few, so that writers meet on them."""

Work = Callable[[Transaction], object]
_Act = Callable[[Transaction, Random, str], object]


def command(seed: str) -> Work:
    """Return a command, mostly of one operation, that does the same each time it is decided."""

    def work(transaction: Transaction) -> None:
        pick = Random(seed)
        for _ in range(1 if pick.random() < 0.8 else pick.randint(2, 6)):
            _operate(transaction, pick)

    return work


def foreign(seed: str, now_ms: int, known: Mapping[IssueId, Sequence[int]]) -> list[Event]:
    """Return sealed events of another tracker, as an import brings them: without a chain.

    `known`: issues with the times of their events. The times lie around `now_ms`, so that some
    sort before the creation of their issue, or are those of events that are there.
    """
    from grit.core.codec import seal

    pick = Random(seed)
    known_ids = sorted(known)
    new = not known_ids or pick.random() < 0.3
    issue_id = IssueId(pick.randbytes(16)) if new else pick.choice(known_ids)
    actor_id = ActorId(pick.choice((b"\x0f", b"\xf0")) * 16)
    drafts = [
        Draft(issue_id, kinds.COMMENT_ADDED, (f"imported {pick.randrange(10**6)}",)),
        Draft(issue_id, kinds.LABEL_ADDED, (pick.choice(LABELS),)),
        Draft(issue_id, kinds.STATE_CHANGED, (pick.choice(kinds.STATES),)),
    ]
    if pick.random() < 0.5:
        drafts.append(Draft(issue_id, kinds.ISSUE_CREATED, ("Imported", "", ())))
    ties = known.get(issue_id, ())
    times = [
        pick.choice(ties) if ties and pick.random() < 0.5 else now_ms + pick.randint(-7_200_000, 9)
        for _ in drafts
    ]
    return [seal(draft, actor_id, ts, None) for draft, ts in zip(drafts, times, strict=True)]


def _operate(transaction: Transaction, pick: Random) -> None:
    rows = [row.issue_id for row in transaction.reader.all_rows()]
    if not rows or (len(rows) < ISSUES_MAX and pick.random() < 0.2):
        _create(transaction, pick, rows[-1].hex() if rows else None)
        return
    names = list(_ACTS)
    name = pick.choices(names, weights=[_ACTS[one][0] for one in names])[0]
    _ACTS[name][1](transaction, pick, pick.choice(rows).hex())


def _create(transaction: Transaction, pick: Random, parent: str | None) -> None:
    fields = {"priority": str(pick.randrange(5))}
    if parent and pick.random() < 0.3:
        fields["parent"] = parent
    issues.create(
        transaction,
        IssueId(pick.randbytes(16)),
        f"Issue {pick.randrange(10**6)}",
        body=_text(pick),
        labels=pick.sample(LABELS, pick.randrange(3)),
        assignees=pick.sample(USERS, pick.randrange(2)),
        fields=fields,
    )


def _text(pick: Random) -> str:
    return f"text {pick.randrange(10**9)}" + " \N{SNOWMAN}" * pick.randrange(3)


def _update(transaction: Transaction, pick: Random, issue: str) -> None:
    title = f"Title {pick.randrange(10**6)}" if pick.random() < 0.6 else None
    body = _text(pick) if pick.random() < 0.6 else None
    issues.update(transaction, issue, title=title, body=body)


def _field(transaction: Transaction, pick: Random, issue: str) -> None:
    value = None if pick.random() < 0.3 else str(pick.randrange(5))
    issues.update(transaction, issue, fields={pick.choice(FIELDS): value})


def _state(transaction: Transaction, pick: Random, issue: str) -> None:
    body = _text(pick) if pick.random() < 0.3 else None
    issues.set_state(transaction, issue, pick.choice(kinds.STATES), body)


def _label(transaction: Transaction, pick: Random, issue: str) -> None:
    add, remove = pick.sample(LABELS, 2)
    issues.label(transaction, issue, add=[add], remove=[remove])


def _assign(transaction: Transaction, pick: Random, issue: str) -> None:
    add, remove = pick.sample(USERS, 2)
    issues.assign(transaction, issue, add=[add], remove=[remove])


def _dependency(transaction: Transaction, pick: Random, issue: str) -> None:
    rows = [row.issue_id.hex() for row in transaction.reader.all_rows()]
    issues.add_dependency(transaction, issue, pick.choice(rows), pick.choice(DEPENDENCY_TYPES))


def _undependency(transaction: Transaction, pick: Random, issue: str) -> None:
    row = transaction.summary(transaction.resolve(issue))
    if not row.dependencies:
        raise NotFound("no dependency to remove")
    target, dep_type = pick.choice(row.dependencies)
    issues.remove_dependency(transaction, issue, target.hex(), dep_type)


def _change_comment(transaction: Transaction, pick: Random, issue: str) -> None:
    comments = transaction.issue(transaction.resolve(issue)).comments
    if not comments:
        raise NotFound("no comment to change")
    comment = pick.choice(comments).event_id.hex()
    if pick.random() < 0.7:
        issues.edit_comment(transaction, issue, comment, _text(pick))
    else:
        issues.redact_comment(transaction, issue, comment, "private")


def _deletion(transaction: Transaction, pick: Random, issue: str) -> None:
    issues.set_deleted(transaction, issue, pick.random() < 0.4, "")


def _attach(transaction: Transaction, pick: Random, issue: str) -> None:
    content = pick.randbytes(pick.randrange(40))
    issues.attach(transaction, issue, "notes.txt", content, "text/plain")


def _rare(transaction: Transaction, pick: Random, issue: str) -> None:
    """Write kinds that no command of grit makes."""
    issue_id = IssueId(bytes.fromhex(issue))
    sha256 = pick.randbytes(32)
    comment_id = EventId(pick.randbytes(32))
    drafts = (
        Draft(issue_id, UNKNOWN_KIND, (_text(pick),)),
        Draft(issue_id, kinds.CONTEXT_UPDATED, ("a.py", "python", (), _text(pick), sha256)),
        Draft(issue_id, kinds.PROJECT_CONTEXT_UPDATED, ("key", _text(pick))),
        Draft(issue_id, kinds.COMMENT_EDITED, (comment_id, "of a comment that is not there")),
        Draft(IssueId(pick.randbytes(16)), kinds.COMMENT_ADDED, ("of an issue not there",)),
    )
    transaction.add([pick.choice(drafts)])


_ACTS: dict[str, tuple[int, _Act]] = {
    "comment": (16, lambda t, pick, issue: issues.comment(t, issue, _text(pick))),
    "update": (12, _update),
    "field": (10, _field),
    "state": (14, _state),
    "label": (14, _label),
    "assign": (8, _assign),
    "dependency": (12, _dependency),
    "undependency": (5, _undependency),
    "change comment": (9, _change_comment),
    "deletion": (5, _deletion),
    "link": (
        3,
        lambda t, pick, issue: issues.link(t, issue, f"https://example.org/{_text(pick)}", None),
    ),
    "attach": (3, _attach),
    "rare": (6, _rare),
}
"""Operation to its weight and what it does."""
