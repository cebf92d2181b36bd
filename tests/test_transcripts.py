"""Whole sessions at the command line, as tests/transcripts/*.md show them."""

from pathlib import Path

import pytest

from tests.console import Step, agrees, check_file, run_steps, steps

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.md"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path) -> None:
    """Every command of the transcript prints what the transcript shows."""
    check_file(path, tmp_path)


def test_steps_are_read() -> None:
    """Only console blocks count; continued commands, output and line numbers are kept."""
    text = "$ no\n```sh\n$ no\n```\n```console\n$ a 'b\n> c'\none\n\ntwo\n\n$ d\n```\n"
    assert steps(text) == [Step("a 'b\nc'", ["one", "", "two"], 6), Step("d", [], 12)]


def test_wildcards() -> None:
    """`...` stands for any text within a line, and alone for any number of lines."""
    assert agrees(["id ... x"], ["id 4f2a x"])
    assert agrees(["a", "...", "z"], ["a", "b", "c", "z"])
    assert agrees(["a", "...", "z"], ["a", "z"])
    assert not agrees(["a", "z"], ["a", "b", "z"])
    assert not agrees(["id ... x"], ["id", " x"])
    assert not agrees(["a.c"], ["abc"])
    assert not agrees([], ["more"])


def test_a_wrong_transcript_fails(tmp_path: Path) -> None:
    """Other output, another status and a shell that stops are noticed."""
    for number, block in enumerate(("$ echo a\nb", "$ false", "$ exit 0", "$ true\n[exit 1]")):
        path = tmp_path / f"{number}.md"
        path.write_text(f"```console\n{block}\n```\n")
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(AssertionError, match=rf"{number}\.md"):
            check_file(path, folder)


def test_one_shell_runs_all(tmp_path: Path) -> None:
    """Variables and the directory stay, both streams are seen, the status is told."""
    found = [Step(line, [], 0) for line in ("A=1", "mkdir x; cd x", "echo $A >&2; pwd; exit_ 2")]
    printed = run_steps([*found, Step("(exit 3)", [], 0)], tmp_path)
    assert printed[:2] == [[], []]
    assert printed[2][:2] == ["1", str(tmp_path / "scratch" / "x")]
    assert printed[2][-1] == "[exit 127]"
    assert printed[3] == ["[exit 3]"]
