"""Runs the console blocks of a Markdown file by a shell and compares what they print.

In a block that opens with ```console, a line `$ command` is run, lines `> more` go on with it, and
the lines below are what it prints, on both streams. `...` in a line stands for any text, a line of
`...` alone for any lines, and `[exit N]` after the output for a status other than 0.

A hexadecimal word of 7 or more characters, one of them a digit, stands for an id: it agrees with
any id of its length where it is printed first, and means that very id from then on, in outputs and
in commands. All commands of a file run in one shell, so that variables and the directory stay.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 120
ALONE = {"GRIT_NO_DAEMON": "1"}
"""Every command is run by its own process."""
_FENCE = "```"
_MARK = "--- end of step"
_TELL = f"step_status=$?; echo; echo '{_MARK}' $step_status"
_WORDS = re.compile(r"(\.\.\.|(?<![\w])(?=[a-f]*[0-9])[0-9a-f]{7,64}(?![\w]))")


class Step(NamedTuple):
    """A command, the lines it is to print, and where it stands."""

    command: str
    expected: list[str]
    line: int


def steps(text: str) -> list[Step]:
    """Return the steps of all console blocks; `line` counts from 1."""
    found: list[Step] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(_FENCE):
            inside = not inside and line.strip() == f"{_FENCE}console"
        elif inside and line.startswith("$ "):
            found.append(Step(line[2:], [], number))
        elif inside and line.startswith("> ") and not found[-1].expected:
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line[2:]}")
        elif inside:
            found[-1].expected.append(line.rstrip())
    for step in found:
        while step.expected and not step.expected[-1]:
            step.expected.pop()
    return found


class Shell:
    """A shell that takes one command after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Take a shell that reads its standard input."""
        self._process = process

    def run(self, command: str) -> list[str] | None:
        """Return the lines that a command prints, or None when the shell has ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{{\n{command}\n}} </dev/null\n{_TELL}\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if not line.startswith(_MARK):
                lines.append(line.rstrip())
                continue
            while lines and not lines[-1]:
                lines.pop()
            status = line.removeprefix(_MARK).strip()
            return lines if status == "0" else [*lines, f"[exit {status}]"]
        return None


@contextmanager
def open_shell(folder: Path, environ: Mapping[str, str] = ALONE) -> Iterator[Shell]:
    """Yield a shell in a fresh repository below `folder`; it is killed after TIMEOUT_S.

    `environ` goes on top of its environment.
    """
    repository, home = folder / "scratch", folder / "home"
    home.mkdir(parents=True)
    environment = {**_environment(home), **environ}
    subprocess.run(
        ["git", "init", "-q", "-b", "main", str(repository)], env=environment, check=True
    )
    with subprocess.Popen(
        ["sh"],
        cwd=repository,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            yield Shell(process)
        finally:
            watchdog.cancel()


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ann Example",
        "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_COMMITTER_NAME": "Ann Example",
        "GIT_COMMITTER_EMAIL": "ann@example.org",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


def agrees(expected: list[str], printed: list[str], ids: dict[str, str]) -> bool:
    """Return whether the lines are as expected; `ids` learns what the file's ids stand for."""
    pattern = ""
    groups: dict[str, str] = {}
    for line in expected:
        if line == "...":
            pattern += r"(?:[^\n]*\n)*?"
            continue
        for at, part in enumerate(_WORDS.split(line)):
            if at % 2 == 0 or part in ids:
                pattern += re.escape(ids.get(part, part))
            elif part == "...":
                pattern += r"[^\n]*?"
            elif part in groups:
                pattern += f"(?P={groups[part]})"
            else:
                groups[part] = f"id{len(groups)}"
                pattern += f"(?P<{groups[part]}>[0-9a-f]{{{len(part)}}})"
        pattern += "\n"
    found = re.fullmatch(pattern, "".join(f"{line}\n" for line in printed))
    if found is not None:
        ids.update({part: found[name] for part, name in groups.items()})
    return found is not None


def check_file(path: Path, folder: Path, environ: Mapping[str, str] = ALONE) -> None:
    """Fail with the first step whose output is not as the file says."""
    found = steps(path.read_text())
    assert found, f"{path.name} has no console block"
    ids: dict[str, str] = {}
    with open_shell(folder, environ) as shell:
        for step in found:
            place = f"{path.name}:{step.line}: $ {step.command}"
            lines = shell.run(_WORDS.sub(lambda word: ids.get(word[0], word[0]), step.command))
            assert lines is not None, f"{place}\nthe shell has ended"
            assert agrees(step.expected, lines, ids), "\n".join([place, "printed:", *lines])
