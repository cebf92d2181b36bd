"""Every failure that grit must survive has a named test, which nobody can drop unseen.

Rows 1 to 36 are the failures of the trackers before grit, faults 1 to 23 those of
disks, processes, remotes and hostile input. A test of a row is called `test_row_N_...` (the older
ones `test_regression_N_...`), one of a fault `test_fault_N_...`.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROWS = range(1, 37)
FAULTS = range(1, 24)
_NAME = re.compile(r"test_(row|regression|fault)_(\d+)_\w+")

PARTS = {
    ("row", 10): ("init_again", "over_a_broken_config", "racing"),
    ("row", 15): ("sync_list_equals", "offline"),
    ("row", 17): ("eight_processes", "beside_plain_git"),
    ("row", 18): ("view_that_heals", "killed"),
    ("row", 19): ("plain_fetch", "plain_git_beside", "git_at_work"),
    ("row", 24): ("racers",),
    ("row", 26): ("refused_push", "garbage"),
    ("row", 27): ("set_back", "made_anew"),
    ("row", 32): ("moves_no_log", "storm"),
    ("row", 33): ("packed", "reftable", "head_switched", "made_again"),
    ("row", 34): ("watches", "never_fires", "network"),
    ("row", 35): ("transcripts", "errors", "streams", "help", "session"),
    ("row", 36): ("slow", "wakes_up", "killed"),
    ("fault", 4): ("write", "rebuild", "sync", "random", "snapshot", "lease"),
    ("fault", 5): ("call_that_fails", "full_disk", "any_command"),
    ("fault", 6): ("pack_refs", "one_actor"),
    ("fault", 7): ("prunes_at_once", "written_again"),
    ("fault", 8): ("kinds_of_repositories", "worktrees", "alternates", "without_any_commit"),
    ("fault", 9): ("shallow_log", "partial_clone"),
    ("fault", 12): ("no_log", "below", "twenty_thousand"),
    ("fault", 15): ("any_order", "stripped", "foreign"),
    ("fault", 20): ("lies", "future", "name_far"),
}
"""What a row with several demands must have tests about, by words of their names."""


def _tests(folder: Path) -> dict[tuple[str, int], list[str]]:
    """Return the names of the tests of each row; one that never runs is none."""
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or _is_off(node):
                continue
            match = _NAME.fullmatch(node.name)
            if match is not None:
                kind = "fault" if match[1] == "fault" else "row"
                found[kind, int(match[2])].append(node.name)
    return found


def _is_off(function: ast.FunctionDef) -> bool:
    marks = " ".join(ast.unparse(mark) for mark in function.decorator_list)
    return re.search(r"mark\.(skip|xfail)\b", marks) is not None


def _missing(folder: Path) -> list[str]:
    tests = _tests(folder)
    wanted = [("row", number) for number in ROWS] + [("fault", number) for number in FAULTS]
    missing = [f"{kind} {number}" for kind, number in wanted if not tests[kind, number]]
    for (kind, number), words in PARTS.items():
        names = tests[kind, number]
        missing += [
            f"{kind} {number}: {word}" for word in words if not any(word in name for name in names)
        ]
    return missing


def test_every_row_has_its_tests() -> None:
    """No row is without a test, and none of its parts."""
    assert _missing(TESTS) == []


@pytest.mark.parametrize("mark", ["", "@pytest.mark.skip\n", "@pytest.mark.xfail(strict=True)\n"])
def test_a_lost_row_is_noticed(mark: str, tmp_path: Path) -> None:
    """A test that is gone, or switched off, is missing."""
    names = [one for found in _tests(TESTS).values() for one in found if "_12_" not in one]
    functions = [f"def {name}(): ...\n" for name in names]
    functions += [f"{mark}def test_row_12_x(): ...\n"] if mark else []
    (tmp_path / "test_x.py").write_text("".join(functions))
    lost = set(_missing(tmp_path)) - set(_missing(TESTS))
    assert "row 12" in lost
    assert "fault 12" in lost
