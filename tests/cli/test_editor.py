"""The editor: chosen as git does, private, and no text is ever lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.cli.editor import (
    HINTS,
    SCISSORS,
    above_line,
    clean_text,
    edited_text,
    editor_command,
    scissors_for,
    split_title,
)
from grit.core.errors import Conflict, InvalidArgs, IoFailed
from grit.files.private import Folder

TOP = str(Path(__file__).resolve().parent.parent.parent)


class Tty:
    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_tty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both ends look like a terminal; editors in these tests need none."""
    monkeypatch.setattr(sys, "stdin", Tty())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def editor(command: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "GIT_EDITOR": command}


def private(directory: Path) -> Folder:
    """Return a folder for drafts, which is made."""
    if not directory.exists():
        directory.mkdir()
    return Folder(str(directory), (), "grit")


def drafts(directory: Path) -> list[Path]:
    return sorted(directory.glob("draft-*")) if directory.exists() else []


def test_text_comes_back_without_instructions(on_tty: None, tmp_path: Path) -> None:
    """The user's text is what stands above the line, headings included; the draft goes away."""
    folder = tmp_path / "drafts"
    script = 'sed -i "1s/.*/# Title\\n\\nText with # signs/"'
    with edited_text("old", ".md", folder=private(folder), environ=editor(script)) as text:
        assert text == "# Title\n\nText with # signs"
        (draft,) = drafts(folder)
        assert draft.suffix == ".md"
        assert draft.stat().st_mode & 0o077 == 0
    assert drafts(folder) == []


def test_editor_sees_the_old_text_and_the_hints(on_tty: None, tmp_path: Path) -> None:
    """The file opens with what there was, and says below it what to do."""
    copy = tmp_path / "copy"
    with edited_text(
        "old text", ".md", folder=private(tmp_path), environ=editor(f'f() {{ cp "$1" {copy}; }}; f')
    ) as text:
        assert text == "old text"
    lines = copy.read_text().split("\n")
    assert lines[0] == "old text"
    assert lines[lines.index(SCISSORS) + 1] == f"# {HINTS[0]}"


@pytest.mark.parametrize("script", ["truncate -s 0", "sed -i 1d", "sed -i '1s/.*/   /'"])
def test_empty_text_does_nothing(on_tty: None, tmp_path: Path, script: str) -> None:
    """Nothing but blanks above the line ends the command, and leaves no draft."""
    with (
        pytest.raises(InvalidArgs, match=r"^empty, nothing done$"),
        edited_text("x", ".md", folder=private(tmp_path), environ=editor(script)),
    ):
        raise AssertionError("must not run")
    assert drafts(tmp_path) == []


def test_failing_command_keeps_the_text(on_tty: None, tmp_path: Path) -> None:
    """When what follows fails, the error keeps its kind and names the file with the text."""
    with (
        pytest.raises(Conflict) as caught,
        edited_text("mine", ".md", folder=private(tmp_path), environ=editor("true")),
    ):
        raise Conflict("somebody else was faster", issue="1a2b3c4")
    (draft,) = drafts(tmp_path)
    assert str(draft) in caught.value.message
    assert caught.value.details == {"issue": "1a2b3c4", "draft": str(draft)}
    assert draft.read_text().startswith("mine\n")


def test_interrupted_command_keeps_the_text(on_tty: None, tmp_path: Path) -> None:
    """Ctrl-C after the editor loses nothing either."""
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        edited_text("mine", ".md", folder=private(tmp_path), environ=editor("true")),
    ):
        raise KeyboardInterrupt
    (draft,) = drafts(tmp_path)
    assert str(draft) in caught.value.__notes__[0]


def test_failing_editor_keeps_the_text(on_tty: None, tmp_path: Path) -> None:
    """An editor that exits non-zero stops the command; the draft is named."""
    with (
        pytest.raises(IoFailed, match=r"editor 'false' failed \(exit 1\).*draft-"),
        edited_text("mine", ".md", folder=private(tmp_path), environ=editor("false")),
    ):
        raise AssertionError("must not run")
    assert len(drafts(tmp_path)) == 1


def test_text_that_is_not_utf8(on_tty: None, tmp_path: Path) -> None:
    """Bytes that are no text are refused, and kept."""
    script = "f() { printf '\\377\\376' > \"$1\"; }; f"
    with (
        pytest.raises(InvalidArgs, match="not UTF-8"),
        edited_text("mine", ".md", folder=private(tmp_path), environ=editor(script)),
    ):
        raise AssertionError("must not run")
    assert len(drafts(tmp_path)) == 1


def test_folder_that_cannot_be_written(on_tty: None, tmp_path: Path) -> None:
    """A draft that cannot be written is a clear error."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(IoFailed, match="cannot write a draft"),
        edited_text("x", ".md", folder=private(tmp_path / "file"), environ=editor("true")),
    ):
        raise AssertionError("must not run")


def test_without_a_terminal_no_editor_opens(tmp_path: Path) -> None:
    """In a pipe or under an agent the editor is never started."""
    ran = tmp_path / "ran"
    code = (
        "from grit.cli.editor import edited_text\n"
        "from grit.files.private import Folder\n"
        f"with edited_text('x', '.md', folder=Folder({str(tmp_path)!r}, ())) as text: pass"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**editor(f"touch {ran};"), "PYTHONPATH": TOP},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "InvalidArgs" in result.stderr and "--body" in result.stderr
    assert not ran.exists()
    assert drafts(tmp_path) == []


def test_editor_is_chosen_as_git_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GIT_EDITOR, the user's core.editor, VISUAL, EDITOR; none on a dumb terminal.

    What the repository's own configuration names does not count.
    """
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    environ["TERM"] = "xterm"
    assert editor_command({**environ, "EDITOR": "four"}) == "four"
    assert editor_command({**environ, "VISUAL": "three", "EDITOR": "four"}) == "three"
    subprocess.run(["git", "config", "core.editor", "evil"], check=True)
    assert editor_command({**environ, "EDITOR": "four"}) == "four"
    assert editor_command(environ) not in ("evil", "")
    subprocess.run(["git", "config", "--global", "core.editor", "two"], check=True, env=environ)
    assert editor_command({**environ, "VISUAL": "three"}) == "two"
    assert editor_command({**environ, "GIT_EDITOR": "one", "VISUAL": "three"}) == "one"
    assert editor_command({"PATH": "/nowhere", "EDITOR": "four"}) == "four"
    with pytest.raises(InvalidArgs, match="no editor is known"):
        editor_command({"PATH": "/nowhere"})
    assert editor_command({**environ, "TERM": "dumb"}) == "two"
    os.unlink(tmp_path / ".gitconfig")
    assert (
        editor_command({**environ, "TERM": "dumb", "VISUAL": "three", "EDITOR": "four"}) == "four"
    )
    with pytest.raises(InvalidArgs, match="no editor is known"):
        editor_command({**environ, "TERM": "dumb", "VISUAL": "three"})


def _written(initial: str) -> str:
    """What stands in the file that the editor opens."""
    hints = (f"# {hint}" for hint in HINTS)
    return "\n".join((initial, "", scissors_for(initial), *hints, ""))


def _read(text: str, initial: str) -> str:
    above = above_line(text, HINTS, scissors_for(initial))
    return above if above == initial else clean_text(above, initial)


def test_clean_text_keeps_what_is_the_users() -> None:
    """Headings, blank lines inside and indents stay; blank ends and our lines go."""
    hints = "\n".join(f"# {hint}" for hint in HINTS)
    text = f"\n# One\n\n  - a\n# Two\n\n{SCISSORS}\n{hints}\nrest"
    assert clean_text(above_line(text)) == "# One\n\n  - a\n# Two"
    assert clean_text(above_line(f"text\r\nmore\r\n\r\n{hints}\r\n")) == "text\nmore"
    assert clean_text("\n \n") == ""


PARTS = (
    SCISSORS, SCISSORS + "-", f"# {'-' * 25} >8 {'-' * 25}", "# a comment", *HINTS, "a",
    "a  ", " a", *(f"# {hint}" for hint in HINTS),
    "", " ", "\t", "a\r", "\r", "a\rb", "\ufeffa", "\u2028", "\x0c", "#",
    "<!-- grit begin -->", "---", "diff --git a/x b/x", "\N{CRAB}", "\x1f", "\xa0",
)  # fmt: skip


@given(
    st.lists(st.sampled_from(PARTS) | st.text(st.characters(exclude_categories=["Cs"]))),
    st.sampled_from(["Old", "# Old", "#12", " Old", "\ufeffOld", SCISSORS]),
    st.sampled_from(["New", "Newer title", SCISSORS + " x"]),
)
def test_a_body_survives_an_edit_of_the_title(lines: list[str], old: str, new: str) -> None:
    """Whatever stands in a body, it is the same to the byte when only the title was changed."""
    body = "\n".join(lines)
    initial = f"{old}\n\n{body}"
    shown = _written(initial)
    assert split_title(_read(shown, initial), (old, body)) == (old, body)
    edited = new + shown.removeprefix(old)
    title, kept = split_title(_read(edited, initial), (old, body))
    assert (title.lstrip("# "), kept) == (new.lstrip("# "), body)


@given(st.lists(st.sampled_from(PARTS), min_size=1))
def test_a_comment_that_was_not_touched_stays(lines: list[str]) -> None:
    """A text alone comes back as it was, and so does one that something was added to."""
    body = "\n".join(lines)
    assert _read(_written(body), body) == body
    if body.strip():
        shown = _written(body)
        assert _read(f"first\n{shown}", body) == f"first\n{body}"


@pytest.mark.parametrize("line", [SCISSORS, f"# {HINTS[0]}", "a\r", "trailing  ", "\n\n"])
def test_a_body_survives_the_editor(on_tty: None, tmp_path: Path, line: str) -> None:
    """The same through a real editor and a real file."""
    initial = f"Title\n\nabove\n{line}\nbelow\n{line}"
    script = 'sed -i "1s/$/ (edited)/"'
    with edited_text(initial, ".md", folder=private(tmp_path), environ=editor(script)) as text:
        assert text == initial.replace("Title", "Title (edited)", 1)


def test_split_title() -> None:
    """The first line is the title, a heading's sign aside; the rest is the body."""
    assert split_title("# Title \n\nBody\nmore") == ("Title", "Body\nmore")
    assert split_title("Title\n\n\nBody") == ("Title", "Body")
    assert split_title("Title") == ("Title", "")
    assert split_title("#") == ("#", "")
    assert split_title("#12 x\n\nb", ("#12 y", "b")) == ("#12 x", "b")
