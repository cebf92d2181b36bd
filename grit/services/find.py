"""Which issue an id or a prefix of one names."""

from typing import Final

from grit.core.errors import InvalidArgs, NotFound
from grit.core.ids import IssueId, parse_prefix
from grit.view.reader import ViewReader

CANDIDATES_SHOWN: Final = 10


def resolve(reader: ViewReader, text: str) -> IssueId:
    """Return the issue that a full id or a unique prefix names.

    Raises InvalidArgs when it is malformed or ambiguous, NotFound when nothing matches.
    """
    prefix = parse_prefix(text)
    found = reader.resolve(prefix)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"no issue '{prefix}'", id=prefix)
    shown = found[:CANDIDATES_SHOWN]
    titles = [
        f"{row.issue_id.hex()[: max(len(prefix), reader.unique_chars(row.issue_id))]} {row.title}"
        for row in map(reader.summary, shown)
        if row is not None
    ]
    more = "" if len(found) == len(shown) else "\n  ..."
    raise InvalidArgs(
        f"'{prefix}' is ambiguous:\n  " + "\n  ".join(titles) + more,
        candidates=[issue_id.hex() for issue_id in shown],
    )
