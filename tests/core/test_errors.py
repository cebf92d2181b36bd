"""The error tree and its one table agree with each other and with the text (spec/errors.md)."""

import re
from pathlib import Path

import pytest

from grit.core import errors
from grit.core.errors import ERRORS, GritError, InvalidEvent

SPEC = Path(__file__).resolve().parents[2] / "spec" / "errors.md"
DESTRUCTIVE = re.compile(r"\b(rm|delete|reset|prune|gc|force|update-ref|reflog)\b|-f\b")


def _leaves() -> dict[str, type[GritError]]:
    return {leaf.code: leaf for leaf in GritError.__subclasses__()}


def test_every_error_has_one_row_and_every_row_an_error() -> None:
    """Codes of the classes, the table and the drawing of the tree are the same set."""
    drawn = set(re.findall(r"\+-- \w+ +(\w+) ", errors.__doc__ or ""))
    leaves = _leaves()
    assert set(leaves) == set(ERRORS) == drawn
    assert len(leaves) == len(GritError.__subclasses__())
    assert GritError.code == "internal_error"


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_the_specification_lists_every_code(code: str) -> None:
    """spec/errors.md shows each code in one row with its exit status."""
    rows = [line for line in SPEC.read_text().splitlines() if f"`{code}`" in line]
    assert any(str(ERRORS[code].exit_status) in row for row in rows)


def test_exit_statuses_mean_what_scripts_are_told() -> None:
    """2 wrong use, 3 not found, 4 conflict, 5 environment, 1 anything else."""
    statuses = {code: row.exit_status for code, row in ERRORS.items()}
    assert statuses == {
        "invalid_args": 2,
        "not_found": 3,
        "conflict": 4,
        "busy": 5,
        "io_error": 5,
        "git_error": 5,
        "wal_error": 1,
        "view_error": 1,
        "internal_error": 1,
    }


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_regression_11_no_advice_destroys(code: str) -> None:
    """An error says what to do next, and never suggests a command that deletes."""
    advice = ERRORS[code].advice
    assert advice.endswith(".")
    assert DESTRUCTIVE.search(advice) is None


def test_an_error_carries_its_message_and_details() -> None:
    """The message is the text of the exception; details are kept for JSON."""
    error = errors.Conflict("refused", cycle=["a", "b"], count=2)
    assert (str(error), error.message) == ("refused", "refused")
    assert error.details == {"cycle": ["a", "b"], "count": 2}


def test_damaged_data_is_not_an_error_of_the_user() -> None:
    """A reason for setting an event aside is outside the tree that commands report."""
    assert not issubclass(InvalidEvent, GritError)
