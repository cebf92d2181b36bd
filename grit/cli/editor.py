"""Text from the user's editor, chosen as git chooses it, and never lost when a command fails."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from grit.cli.foreground import leave_to_launcher
from grit.core.errors import GritError, InvalidArgs, IoFailed
from grit.files.private import Folder, failed

SCISSORS: Final = "# ------------------------ >8 ------------------------"
"""All from this line on is instructions; above it '#' is a heading like in any Markdown."""
HINTS: Final = ("Write above the line; all from it on is ignored.", "An empty text does nothing.")


@contextmanager
def edited_text(
    initial: str,
    suffix: str,
    *,
    folder: Folder,
    hints: tuple[str, ...] = HINTS,
    environ: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yield what the user wrote; use it inside the `with`, where a failure keeps the draft.

    `folder` is grit's own in the git directory; it is made if need be. `suffix` names the file
    (".md"). A GritError that leaves the block is raised again with the draft's path. Raises
    InvalidArgs without a terminal or when the text is empty, IoFailed when the editor
    fails.
    """
    environ = os.environ if environ is None else environ
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgs("no text was given, and there is no terminal for an editor: use --body")
    leave_to_launcher(always=True)
    name = _draft(initial, suffix, folder, hints)
    path = f"{folder.path}/{name}"
    try:
        yield _edit(folder, name, hints, environ)
    except _Empty:
        _discard(folder, name)
        raise InvalidArgs("empty, nothing done") from None
    except GritError as error:
        message = f"{error.message} (your text is kept in {path})"
        raise type(error)(message, **{**error.details, "draft": path}) from error
    except BaseException as error:
        error.add_note(f"your text is kept in {path}")
        raise
    _discard(folder, name)


class _Empty(Exception):
    """Nothing but blanks and instructions came back."""


def clean_text(text: str, hints: tuple[str, ...] = HINTS) -> str:
    """Return the text above the scissors, without blank ends; all else in it is the user's.

    Instructions that stayed when the line itself was deleted go as well.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if SCISSORS in lines:
        del lines[lines.index(SCISSORS) :]
    ours = {f"# {hint}" for hint in hints}
    while lines and (not lines[-1].strip() or lines[-1] in ours):
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    return "\n".join(line.rstrip() if not line.strip() else line for line in lines)


def split_title(text: str) -> tuple[str, str]:
    """Return the first line, without a heading's '#', as title, and what follows as body."""
    title, _, body = text.partition("\n")
    if title.startswith("#"):
        title = title.lstrip("#").strip() or title
    return title.strip(), body.strip("\n")


def _draft(initial: str, suffix: str, folder: Folder, hints: tuple[str, ...]) -> str:
    """Write the file to edit, readable by its owner alone, return its name; raises IoFailed."""
    shown = "\n".join((initial, "", SCISSORS, *(f"# {hint}" for hint in hints), ""))
    try:
        name = f"draft-{os.urandom(6).hex()}{suffix}"
        with folder.open(make=True) as opened:
            handle = opened.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(shown)
    except OSError as error:
        raise failed(f"cannot write a draft in {folder.path}", error) from error
    return name


def _edit(folder: Folder, name: str, hints: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """Run the editor on the file and return what is in it then."""
    command = editor_command(environ)
    if command != ":":  # git's word for no editor at all
        status = _run(command, f"{folder.path}/{name}", environ)
        if status != 0:
            raise IoFailed(f"the editor '{command}' failed (exit {status}); nothing done")
    try:
        with folder.open() as opened:
            text = clean_text(opened.read(name).decode("utf-8-sig"), hints)
    except OSError as error:
        raise failed("cannot read the draft again", error) from error
    except UnicodeDecodeError as error:
        raise InvalidArgs("the text is not UTF-8; nothing done") from error
    if not text:
        raise _Empty
    return text


def _run(command: str, path: str, environ: Mapping[str, str]) -> int:
    """Run the editor through the shell as git does, and return its exit status."""
    import signal
    import subprocess

    try:
        process = subprocess.Popen(
            ["sh", "-c", f'{command} "$@"', command, path], env=dict(environ)
        )
    except OSError as error:
        raise IoFailed(f"cannot start the editor '{command}': {error.strerror}") from error
    # Ctrl-C is a key of the editor; it must not end us under it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def editor_command(environ: Mapping[str, str]) -> str:
    """Return the editor as git chooses it: GIT_EDITOR, core.editor, VISUAL, EDITOR, its default.

    What the repository's own configuration names does not count (decision 0028). Raises
    InvalidArgs where git knows of none, as on a dumb terminal.
    """
    if environ.get("GIT_EDITOR"):
        return environ["GIT_EDITOR"]
    from grit.git.gitconfig import default_program, user_value

    found = user_value("core.editor", environ)
    if not found and environ.get("TERM", "dumb") != "dumb":
        found = environ.get("VISUAL")
    found = found or environ.get("EDITOR") or default_program("GIT_EDITOR", environ)
    if not found:
        raise InvalidArgs("no editor is known: set EDITOR, or use --body or --body-file")
    return found


def _discard(folder: Folder, name: str) -> None:
    with suppress(OSError), folder.open() as opened:
        opened.remove(name)
