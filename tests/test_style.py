"""House rules that a program can check: sizes, first lines, words, where printing may happen."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
SCRIPTS = [
    path
    for path in sorted((TOP / "tools").iterdir())
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python3")
]
PACKAGE = sorted((TOP / "grit").rglob("*.py"))
TESTS = sorted((TOP / "tests").rglob("*.py"))
MODULES = [path for folder in ("fuzz", "tools") for path in sorted((TOP / folder).rglob("*.py"))]
SOURCES = [*PACKAGE, *TESTS, *MODULES, *SCRIPTS]

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
LINE_CHARS_MAX = 100
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE_PATHS = re.compile(r"/(work|root|home|Users)/[a-z0-9_.]")
HOT_COMMANDS = (["ls"], ["ready"], ["show"])
COLD_MODULES = {"dulwich", "nacl", "subprocess", "json", "tabulate"}


def _name(path: Path) -> str:
    return str(path.relative_to(TOP))


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def _problems(path: Path, text: str) -> list[str]:
    """Every broken rule of one source file, as one line each."""
    tree = ast.parse(text)
    lines = text.splitlines()
    found = []
    if not (ast.get_docstring(tree) or "").strip():
        found.append("no docstring that says what lives here")
    if len(lines) > MODULE_LINES_MAX:
        found.append(f"{len(lines)} lines")
    if path.stem in FORBIDDEN_NAMES:
        found.append(f"a module called {path.stem} says nothing")
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_CHARS_MAX:
            found.append(f"line {number} has {len(line)} characters")
        if UNFINISHED.search(line):
            found.append(f"line {number} is unfinished")
        if MACHINE_PATHS.search(line):
            found.append(f"line {number} names a path of some machine")
    for function in _functions(tree):
        size = (function.end_lineno or 0) - function.lineno + 1
        if size > FUNCTION_LINES_MAX:
            found.append(f"{function.name} has {size} lines")
    return found


def _talk(path: Path) -> list[str]:
    """Calls that print, exit or read the environment, which only the shells may do."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and node.id in ("print", "input", "exit", "quit"):
            found.append(f"line {node.lineno}: {node.id}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            word = f"{node.value.id}.{node.attr}"
            if word in ("sys.exit", "sys.stdout", "sys.stderr", "os.environ", "os.getenv"):
                found.append(f"line {node.lineno}: {word}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_house_rules(path: Path) -> None:
    """Sizes, first docstring line, names, unfinished work, machine paths."""
    assert _problems(path, path.read_text()) == []


def test_the_rules_can_fail() -> None:
    """Each rule finds the file that breaks it."""
    long_function = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX
    broken = {
        "": "no docstring",
        '"""A."""\n' + "#\n" * MODULE_LINES_MAX: "501 lines",
        '"""A."""\n# TO' + "DO later\n": "unfinished",
        '"""A."""\n# /wo' + "rk/main\n": "some machine",
        '"""A."""\n' + "#" * 101: "101 characters",
        '"""A."""\n' + long_function: "f has 71 lines",
    }
    for text, problem in broken.items():
        found = _problems(Path("module.py"), text)
        assert len(found) == 1 and problem in found[0]
    assert "says nothing" in _problems(Path("utils.py"), '"""A."""\n')[0]


SHELLS = ("cli", "daemon", "launch.py", "__main__.py")


@pytest.mark.parametrize(
    "path", [p for p in PACKAGE if p.relative_to(TOP).parts[1] not in SHELLS], ids=_name
)
def test_library_code_neither_prints_nor_exits(path: Path) -> None:
    """Principle 7: only the shells print, exit or read the environment.

    Whoever starts git hands the environment on, and adds to it.
    """
    allowed = ["os.environ"] if _name(path) == "grit/git/process.py" else []
    assert [found.partition(": ")[2] for found in _talk(path)] == allowed


@pytest.mark.parametrize("path", TESTS, ids=_name)
def test_every_test_states_its_rule(path: Path) -> None:
    """A test's docstring states the rule that it holds."""
    tests = [f for f in _functions(ast.parse(path.read_text())) if f.name.startswith("test_")]
    assert [f.name for f in tests if not ast.get_docstring(f)] == []


@pytest.mark.parametrize("command", HOT_COMMANDS, ids=" ".join)
def test_hot_commands_load_little(command: list[str], git_repository: Path) -> None:
    """`ls`, `ready` and `show` start fast because they import none of the heavy modules."""
    main = [sys.executable, "-c", "from grit.cli.main import main; main()"]
    for setup in (["init"], ["new", "--title", "First", "--json=issue_id"]):
        made = subprocess.run(
            [*main, *setup], cwd=git_repository, capture_output=True, text=True, timeout=60
        )
        assert made.returncode == 0, made.stderr
    if command == ["show"]:
        found = re.search(r"[0-9a-f]{32}", made.stdout)
        assert found
        command = [*command, found[0]]
    probe = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('MODULES', *sys.modules, file=sys.__stderr__))\n"
        "from grit.cli.main import main\nmain()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe, *command],
        cwd=git_repository,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = {name.partition(".")[0] for name in ran.stderr.partition("MODULES")[2].split()}
    assert loaded, ran.stderr
    assert loaded & COLD_MODULES == set()
