"""Whole sessions at the command line, as tests/transcripts/*.md show them."""

from pathlib import Path

import pytest

from tests.console import Step, agrees, check_file, open_shell, steps

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
    assert agrees(["id ... x"], ["id 4f2a x"], {})
    assert agrees(["a", "...", "z"], ["a", "b", "c", "z"], {})
    assert agrees(["a", "...", "z"], ["a", "z"], {})
    assert not agrees(["a", "z"], ["a", "b", "z"], {})
    assert not agrees(["id ... x"], ["id", " x"], {})
    assert not agrees(["a.c"], ["abc"], {})
    assert not agrees([], ["more"], {})


def test_ids_stand_for_one_id_each() -> None:
    """An id of the file is learnt where it is printed first, and must agree from then on."""
    ids: dict[str, str] = {}
    assert agrees(
        ["new 4f2a91c", "on 4f2a91c of defaced"], ["new 0000001", "on 0000001 of defaced"], ids
    )
    assert ids == {"4f2a91c": "0000001"}
    assert not agrees(["see 4f2a91c"], ["see 0000002"], ids)
    assert not agrees(["see 4f2a91d"], ["see 00000001"], ids)
    assert not agrees(["a 1111111 1111111"], ["a 2222222 3333333"], ids)
    assert ids == {"4f2a91c": "0000001"}


def test_a_wrong_transcript_fails(tmp_path: Path) -> None:
    """Other output, another status and a shell that stops are noticed."""
    for number, block in enumerate(("$ echo a\nb", "$ false", "$ exit 0", "$ true\n[exit 1]")):
        path = tmp_path / f"{number}.md"
        path.write_text(f"```console\n{block}\n```\n")
        with pytest.raises(AssertionError, match=rf"{number}\.md"):
            check_file(path, tmp_path / str(number))


def test_one_shell_runs_all(tmp_path: Path) -> None:
    """Variables and the directory stay, both streams are seen, the status is told."""
    with open_shell(tmp_path) as shell:
        assert shell.run("A=1; mkdir x; cd x") == []
        assert shell.run("echo $A >&2; pwd; echo") == ["1", str(tmp_path / "scratch" / "x")]
        assert shell.run("printf 'no newline'; (exit 3)") == ["no newline", "[exit 3]"]
        assert shell.run("cat") == []
