"""The one error tree, and the one table from code to exit status and advice (spec/errors.md).

GritError
+-- InvalidArgs     invalid_args    wrong use, or a value that a rule refuses
+-- NotFound        not_found       no such issue, comment, actor or file
+-- Conflict        conflict        the log, a lease or another writer disagrees
+-- Busy            busy            another process holds a lock for too long
+-- IoFailed        io_error        the file system refused
+-- GitFailed       git_error       no repository, or git refused
+-- WalDamaged      wal_error       the log or its ref is damaged
+-- ViewFailed      view_error      the view could not be used or rebuilt
+-- InternalFailed  internal_error  a bug
InvalidEvent, InvalidLease (no GritErrors): why one event, chunk or lock ref is set aside; neither
ever leaves a reader.
"""

from typing import ClassVar, Final, NamedTuple

Detail = str | int | bool | None | list[str]


class GritError(Exception):
    """A failure that the user can act on; `details` is JSON-ready."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, **details: Detail) -> None:
        """Keep the message (one sentence, what to do next included) and its JSON details."""
        super().__init__(message)
        self.message: Final = message
        self.details: Final = details


class InvalidArgs(GritError):
    """Wrong use, or a value that a rule refuses."""

    code = "invalid_args"


class NotFound(GritError):
    """No such issue, comment, actor or file."""

    code = "not_found"


class Conflict(GritError):
    """The log, a lease or another writer disagrees."""

    code = "conflict"


class Busy(GritError):
    """Another process holds a lock for longer than the bound."""

    code = "busy"


class IoFailed(GritError):
    """The file system refused: full, read-only, no permission."""

    code = "io_error"


class GitFailed(GritError):
    """No repository, a repository that git refuses, or a git command that failed."""

    code = "git_error"


class WalDamaged(GritError):
    """The log or its ref is damaged; nothing was changed."""

    code = "wal_error"


class ViewFailed(GritError):
    """The view could not be used, nor rebuilt in memory."""

    code = "view_error"


class InternalFailed(GritError):
    """A bug in grit."""

    code = "internal_error"


class InvalidEvent(Exception):
    """Why an event or a chunk is set aside (spec/events.md, Validity)."""


class InvalidLease(Exception):
    """Why a lock ref is reported and blocks nobody (spec/leases.md, Layout)."""


class ErrorRow(NamedTuple):
    """One row of the error table."""

    exit_status: int
    advice: str


ERRORS: Final[dict[str, ErrorRow]] = {
    "invalid_args": ErrorRow(2, "See 'grit COMMAND --help'."),
    "not_found": ErrorRow(3, "'grit ls --state all' shows what there is."),
    "conflict": ErrorRow(4, "Look at the current state with 'grit show ID', then try again."),
    "busy": ErrorRow(5, "Another grit command is running; try again in a moment."),
    "io_error": ErrorRow(5, "Check free space and permissions; nothing acknowledged was lost."),
    "git_error": ErrorRow(
        5, "Run grit inside a git repository that you own, with remotes that plain git can use."
    ),
    "wal_error": ErrorRow(
        1, "Run 'grit doctor' for a diagnosis; it never changes the log unasked."
    ),
    "view_error": ErrorRow(1, "Run 'grit rebuild'; the log is the truth and is not touched."),
    "internal_error": ErrorRow(1, "This is a bug in grit; the log is intact. Please report it."),
}
