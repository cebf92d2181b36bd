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
    line = scissors_for(initial)
    name = _draft(initial, suffix, folder, (line, *(f"# {hint}" for hint in hints)))
    path = f"{folder.path}/{name}"
    try:
        text = above_line(_edit(folder, name, environ, initial), hints, line)
        text = text if text == initial else clean_text(text, initial)
        if not text:
            raise _Empty
        yield text
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


def above_line(text: str, hints: tuple[str, ...] = HINTS, line: str = SCISSORS) -> str:
    """Return the text above the line, which stands last: all of it is the user's.

    Instructions that stayed when the line itself was deleted go as well.
    """
    lines = text.split("\n")
    plain = [one.rstrip("\r") for one in lines]
    if line in plain:
        last = len(plain) - 1 - plain[::-1].index(line)
        # A draft has one blank line before the line.
        blank = last > 0 and not plain[last - 1].strip()
        return "\n".join(lines[: last - blank])
    ours = {"", *(f"# {hint}" for hint in hints)}
    while lines and lines[-1].strip() in ours:
        lines.pop()
    return "\n".join(lines)


def clean_text(text: str, initial: str = "") -> str:
    """Return the text without blank ends, and with plain ends of lines; raise nothing.

    What the initial text had of these was not made by an editor, and stays.
    """
    if "\r" not in initial:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    if not initial:
        text = "\n".join(one if one.strip() else "" for one in text.split("\n"))
    stripped = text.rstrip()
    if text[len(stripped) :] != initial[len(initial.rstrip()) :]:
        text = stripped + text[len(stripped) :].partition("\n")[0]
    if not initial[:1].isspace():
        while (line := text.partition("\n"))[1] and not line[0].strip():
            text = line[2]
    return text if text.strip() else ""


def split_title(text: str, known: tuple[str, str] = ("", "")) -> tuple[str, str]:
    """Return the first line, without a heading's '#', as title, and what follows as body.

    Of title and body that were `known`, what was not touched comes back to the byte.
    """
    title, _, body = text.partition("\n")
    if title != known[0]:
        if title.startswith("#") and not known[0].startswith("#"):
            title = title.lstrip("#").strip() or title
        title = title.strip()
    body = body.removeprefix("\n")
    if body != known[1]:
        body = body.lstrip("\n") if not known[1].startswith("\n") else body
    return title, body


def scissors_for(initial: str) -> str:
    """Return the line that ends the user's text: one that the text does not hold itself."""
    line = SCISSORS
    while line in initial:
        line = line.replace("- >8 -", "-- >8 --")
    return line


def _draft(initial: str, suffix: str, folder: Folder, below: tuple[str, ...]) -> str:
    """Write the file to edit, readable by its owner alone, return its name; raises IoFailed."""
    shown = "\n".join((initial, "", *below, ""))
    try:
        name = f"draft-{os.urandom(6).hex()}{suffix}"
        with folder.open(make=True) as opened:
            handle = opened.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(shown)
    except OSError as error:
        raise failed(f"cannot write a draft in {folder.path}", error) from error
    return name


def _edit(folder: Folder, name: str, environ: Mapping[str, str], initial: str) -> str:
    """Run the editor on the file and return what is in it then."""
    command = editor_command(environ)
    if command != ":":  # git's word for no editor at all
        status = _run(command, f"{folder.path}/{name}", environ)
        if status != 0:
            raise IoFailed(f"the editor '{command}' failed (exit {status}); nothing done")
    try:
        with folder.open() as opened:
            text = opened.read(name).decode()
    except OSError as error:
        raise failed("cannot read the draft again", error) from error
    except UnicodeDecodeError as error:
        raise InvalidArgs("the text is not UTF-8; nothing done") from error
    # An editor may put a byte-order mark in front.
    return text if initial.startswith("\ufeff") else text.removeprefix("\ufeff")


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
