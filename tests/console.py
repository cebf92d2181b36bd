"""Runs the console blocks of a Markdown file by a shell and compares what they print.

In a block that opens with ```console, a line `$ command` is run and the lines below it are what it
prints, on both streams. `...` in a line stands for any text, a line of `...` alone for any lines,
`[exit N]` after the output for a status other than 0, and lines `> more` go on with the command.
All commands of a file run in one shell, so that variables and the directory stay.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 120
_FENCE = "```"
_ELLIPSIS = "..."
_MARK = "--- end of step"
_TELL = f"step_status=$?; echo; echo '{_MARK}' $step_status"


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


def run_steps(found: list[Step], folder: Path) -> list[list[str]]:
    """Run the steps in a fresh repository below `folder`; return the lines each has printed."""
    repository, home, script = folder / "scratch", folder / "home", folder / "steps.sh"
    home.mkdir()
    repository.mkdir()
    parts = [f"{{\n{step.command}\n}} 2>&1 </dev/null\n{_TELL}" for step in found]
    script.write_text("\n".join(["git init -q .", *parts]) + "\n")
    ran = subprocess.run(
        ["sh", str(script)],
        cwd=repository,
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    printed: list[list[str]] = [[]]
    for line in ran.stdout.split("\n"):
        if not line.startswith(_MARK):
            printed[-1].append(line.rstrip())
            continue
        output, status = printed[-1], line.removeprefix(_MARK).strip()
        while output and not output[-1]:
            output.pop()
        if status != "0":
            output.append(f"[exit {status}]")
        printed.append([])
    return printed[:-1]


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


def agrees(expected: list[str], printed: list[str]) -> bool:
    """Return whether the lines are as expected, wildcards considered."""
    pattern = ""
    for line in expected:
        if line == _ELLIPSIS:
            pattern += r"(?:[^\n]*\n)*?"
        else:
            parts = map(re.escape, line.split(_ELLIPSIS))
            pattern += r"[^\n]*?".join(parts) + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def check_file(path: Path, folder: Path) -> None:
    """Fail with the first step whose output is not as the file says."""
    found = steps(path.read_text())
    assert found, f"{path.name} has no console block"
    printed = run_steps(found, folder)
    for step, lines in zip(found, printed, strict=False):
        assert agrees(step.expected, lines), "\n".join(
            [f"{path.name}:{step.line}: $ {step.command}", "printed:", *lines]
        )
    assert len(printed) == len(found), f"{path.name}: the shell stopped after {len(printed)} steps"
