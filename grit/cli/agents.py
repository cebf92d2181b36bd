"""The section for coding agents in AGENTS.md; whatever else stands there is its author's."""

import stat
from typing import Final

from grit.core.errors import Conflict, InvalidArgs
from grit.files.names import WORKTREE
from grit.files.private import Folder, failed
from grit.services.workspace import Workspace

_FILE: Final = "AGENTS.md"
_BEGIN: Final = "<!-- grit: begin -->"
_END: Final = "<!-- grit: end -->"
_SECTION: Final = f"""{_BEGIN}
## Issues

Issues of this repository live in git, in `refs/grit/wal`; use the `grit` command.

- `grit ready --json`: what can be worked on now. `grit show ID --json`: one issue whole.
- `grit new "TITLE" --body TEXT --label L --type bug --priority 1`: create one.
- `grit sync` first and last: it brings what others wrote, and sends them yours.
- `grit issue claim ID` before you work on one: exit status 4 says that somebody else has it. Give
  every agent a `GRIT_SESSION` of its own. `grit issue release ID` gives it back.
- `grit comment ID --body TEXT`, `grit close ID --comment TEXT`: report and finish.
- `grit issue dep add ID --target OTHER --type depends_on`: OTHER must come first.
- `grit batch`: many changes from JSON lines on stdin, all or nothing.
- Every command takes `--json`; exit status 0 done, 2 wrong use, 3 not found, 4 conflict,
  5 environment. Ids may be shortened to a unique prefix.
{_END}
"""

_MARKS: Final = (_BEGIN.encode(), _END.encode())


def planned(workspace: Workspace) -> bytes | None:
    """Return what the file is to hold, None where it holds that already.

    Raises InvalidArgs without a working tree, Conflict where the markers of the section are not
    one of each in their order, IoFailed where something else lies there.
    """
    folder = _folder(workspace)
    try:
        with folder.open() as opened:
            old = opened.read(_FILE)
    except FileNotFoundError:
        old = b""
    except OSError as error:
        raise failed(f"cannot read {folder.path}/{_FILE}", error) from error
    new = _with_section(old)
    return None if new == old else new


def write(workspace: Workspace) -> bool:
    """Add the section, or bring it up to date; return whether the file changed.

    Raises what `planned` does.
    """
    data = planned(workspace)
    if data is None:
        return False
    folder = _folder(workspace)
    try:
        with folder.open() as opened:
            found = opened.look(_FILE)
            mode = stat.S_IMODE(found.st_mode) if found else None
            opened.replace(_FILE, data, keep_mode=mode)
    except OSError as error:
        raise failed(f"cannot write {folder.path}/{_FILE}", error) from error
    return True


def _folder(workspace: Workspace) -> Folder:
    worktree = workspace.repository.worktree
    if worktree is None:
        raise InvalidArgs("--agents-md needs a working tree; this repository is bare")
    if not workspace.repository.in_own_worktree:
        raise InvalidArgs(
            f"{worktree} is the working tree only because core.worktree or GIT_WORK_TREE says so; "
            f"write the section into its {_FILE} yourself"
        )
    return Folder(worktree, (), WORKTREE)


def _with_section(old: bytes) -> bytes:
    """Return the text with the section in its place, or at the end; all else stays as it is."""
    newline = b"\r\n" if b"\r\n" in old else b"\n"
    section = _SECTION.encode().replace(b"\n", newline)
    lines = old.splitlines(keepends=True)
    marks = [(word, at) for at, line in enumerate(lines) if (word := line.strip()) in _MARKS]
    if not marks:
        if old and not old.endswith(b"\n"):
            old += newline
        return old + newline + section if old else section
    if tuple(word for word, _ in marks) != _MARKS:
        raise Conflict(
            f"{_FILE} has not one line '{_BEGIN}' and after it one line '{_END}', so that nobody "
            "knows what lies between: put these lines right, or take them out; nothing was changed"
        )
    before, after = lines[: marks[0][1]], lines[marks[1][1] + 1 :]
    return b"".join((*before, section, *after))
