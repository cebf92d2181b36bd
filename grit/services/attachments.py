"""Use cases of attachments: find the content, and write it to a safe place."""

import os

from grit.core.errors import Conflict, InvalidArgs, IoFailed, NotFound, WalDamaged
from grit.core.issue import Attachment
from grit.services.issues import check_attachment_name
from grit.services.listing import whole_issue
from grit.services.workspace import Workspace


def content_of(workspace: Workspace, issue: str, name: str) -> tuple[Attachment, bytes]:
    """Return the newest attachment of that name and its content.

    Raises NotFound without one, WalDamaged when the log does not hold its content.
    """
    known = whole_issue(workspace, issue)
    found = [one for one in known.attachments if one.name == name]
    if not found:
        names = ", ".join(one.name for one in known.attachments) or "none"
        raise NotFound(f"no attachment '{name}' in this issue; it has: {names}")
    content = workspace.wal.attachment(found[-1].sha256.hex())
    if content is None:
        raise WalDamaged(f"the log names the attachment '{name}' but does not hold its content")
    return found[-1], content


def save(name: str, content: bytes, output: str | None) -> str:
    """Write the content to a file and return its path.

    Without `output` it goes into the current folder under its own name, when that is safe, and
    never over a file that exists. Raises InvalidArgs, Conflict or IoFailed.
    """
    mode = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if output is None else os.O_TRUNC)
    if output is None:
        try:
            check_attachment_name(name)
        except InvalidArgs as error:
            raise InvalidArgs(f"{error.message}; choose a place with -o FILE") from error
    path = output or name
    try:
        fd = os.open(path, mode | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise Conflict(f"'{path}' exists already; choose a place with -o FILE") from error
    except OSError as error:
        raise IoFailed(f"cannot write '{path}': {error.strerror}") from error
    return path
