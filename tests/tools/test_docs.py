"""Generated parts of the documents are as the program is."""

import subprocess
import sys
from pathlib import Path

from grit.core.errors import ERRORS, GritError

TOP = Path(__file__).resolve().parents[2]


def test_generated_parts_are_fresh() -> None:
    """Module map, command reference and error table say what the code says; see tools/docs."""
    command = [sys.executable, str(TOP / "tools" / "docs"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_every_error_has_a_row() -> None:
    """Each leaf of the error tree has one code, and the table has exactly these codes."""
    codes = [kind.code for kind in GritError.__subclasses__()]
    assert sorted(codes) == sorted(ERRORS)
    assert set(ERRORS) <= {word.strip("`| ") for word in _error_cells()}


def _error_cells() -> list[str]:
    return (TOP / "spec" / "errors.md").read_text().split()


def test_no_advice_destroys() -> None:
    """Regression row 11: no advice offers a command that deletes anything."""
    for row in ERRORS.values():
        words = set(row.advice.lower().replace("'", " ").split())
        assert not words & {"rm", "delete", "remove", "reset", "--force", "prune", "update-ref"}
