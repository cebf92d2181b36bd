"""Hostile command lines, batches and imports: refused with a code and a status, nothing changed."""

import json
from pathlib import Path

import pytest

from grit.core.errors import ERRORS
from tests.hostile.commands import ID, UNSAFE_NAMES, Refused, refused_commands
from tests.hostile.plumbing import fresh_repository, git, log_head, push_chunks, run
from tests.hostile.records import hostile_chunks
from tests.hostile.texts import NASTY, SLOTS

TABLE = refused_commands()


def test_two_hundred_hostile_inputs() -> None:
    """The tables hold at least 200 hostile inputs, each with its class, half on each side."""
    assert len({row.name for row in TABLE}) == len(TABLE)
    aside, shown, refused = len(hostile_chunks()), len(NASTY) * len(SLOTS), len(TABLE)
    assert (aside >= 130, shown >= 200, refused >= 100) == (True, True, True)


class Scene:
    """A repository with one issue, and the state that no refused command may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = fresh_repository(folder)
        (self.folder / "content.bin").write_bytes(b"content")
        done = run(self.folder, "new", "Stays as it is", "--json")
        self.issue: str = json.loads(done.out)["data"]["issue_id"]
        self.head = log_head(self.folder)

    def fill(self, text: str | bytes) -> str | bytes:
        """Put the issue's id where the table says ID."""
        return self.issue if text == ID else text


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """One repository for all rows: each row checks that it left it alone."""
    return Scene(tmp_path_factory.mktemp("refused") / "repository")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_fault_22_hostile_commands_are_refused(row: Refused, scene: Scene) -> None:
    """REFUSE: the error code and exit status of the table, a message, and the ref unmoved."""
    # Options come before `--`, behind which everything is a value.
    at = row.arguments.index("--") if "--" in row.arguments else len(row.arguments)
    arguments = [scene.fill(word) for word in row.arguments]
    if "--json=nonsense" not in arguments:
        arguments[at:at] = ["--json"] if row.name != "an unknown command" else []
    stdin = row.stdin.replace(f'"{ID}"'.encode(), f'"{scene.issue}"'.encode())
    done = run(scene.folder, *arguments, stdin=stdin)
    assert log_head(scene.folder) == scene.head
    assert done.status == ERRORS[row.code].exit_status, (done.out, done.err)
    if "--json" in arguments:
        error = json.loads(done.out)["error"]
        assert error["code"] == row.code
        assert len(error["message"]) > 8
        assert len(error["message"]) < 1_000, "a message is for reading"
    else:
        assert done.err or done.out


def test_nothing_was_left_behind(scene: Scene) -> None:
    """After all rows the issue is what it was, and the repository is whole."""
    done = run(scene.folder, "show", scene.issue, "--events", "--json")
    shown = json.loads(done.out)["data"]
    assert shown["issue"]["title"] == "Stays as it is"
    assert len(shown["events"]) == 1
    total = json.loads(run(scene.folder, "ls", "--state", "all", "--json").out)["data"]["total"]
    assert total == 1
    git(scene.folder, "fsck", "--strict")


@pytest.mark.parametrize("name", UNSAFE_NAMES.values(), ids=list(UNSAFE_NAMES))
def test_fault_22_attachments_never_climb_out(name: str, tmp_path: Path) -> None:
    """An unsafe name in the log is listed, is not written without -o, and is readable with it."""
    from hashlib import sha256

    from grit.core import codec
    from grit.core import events as kinds
    from tests.hostile.plumbing import ISSUE, event

    repository = fresh_repository(tmp_path / "repository")
    issue = event(kinds.ISSUE_CREATED, "T", "", ())
    attached = event(kinds.ATTACHMENT_ADDED, name, sha256(b"content").digest(), "text/plain", ts=1)
    push_chunks(repository, [codec.encode_chunk([issue, attached])])
    inside = repository / "a" / "b"
    inside.mkdir(parents=True)
    before = sorted(path for path in tmp_path.rglob("*") if ".git" not in path.parts)
    assert run(inside, "issue", "attachment", "list", ISSUE.hex()).status == 0
    done = run(inside, "issue", "attachment", "get", ISSUE.hex(), name)
    assert done.status in (1, 2)
    assert sorted(path for path in tmp_path.rglob("*") if ".git" not in path.parts) == before
