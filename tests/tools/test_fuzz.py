"""The saved fuzz corpus keeps every promise that the fuzz targets state."""

import ast
from pathlib import Path

import pytest

import grit
from fuzz.run import replay
from fuzz.targets import TARGETS
from grit.files.names import NAMES

GRIT = Path(grit.__file__).parent
CORPUS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_saved_inputs_keep_the_promises(name: str) -> None:
    """No saved input raises in its target, and no target is without inputs."""
    assert replay(name) > 10


def test_every_corpus_has_a_target() -> None:
    """A corpus without a target would never be run."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


FILES = {
    "config.toml": "file-settings", "config.toml.mark": "file-mark", "remotes": "file-remotes",
    "queue": "file-queue", "queue-taken": "file-queue", "verified": "file-record",
    "verified-mark": "file-mark", "snapshots.toml": "file-record", "snapshots-mark": "file-mark",
    "signing.key": "file-key", "mark": "file-mark", "writer.lock": "file-mark",
    "wal.lock-file": "file-mark", "config.lock-file": "file-mark",
    "actors.lock-file": "file-mark", "queue.lock-file": "file-mark",
    "leases-seen": "file-seen", "leases.lock-file": "file-mark",
    "snapshots.lock-file": "file-mark",
}  # fmt: skip
"""Which target reads a file of the table of names."""
UNFUZZED = {"swap-*", "draft-*", "server-*.lock", "server-*.log", "*"}
"""Read as text of the user, as a pid of 20 bytes, shown escaped, or checked against its hash."""
OUTPUTS = {
    "config": "git-config", "rev-parse": "git-config", "remote": "git-config", "var": "git-config",
    "ls-remote": "git-refs", "for-each-ref": "git-refs", "cat-file": "git-objects",
    "rev-list": "git-commits", "fetch": "git-talk", "push": "git-talk",
}  # fmt: skip
"""Which target reads what a command of git prints."""
SILENT = {"update-ref", "merge-base", "gc"}
"""Commands of which only the status or a set of ids that were given counts."""


def test_every_private_file_has_a_target() -> None:
    """A file that grit reads is fuzzed, or is named with its reason."""
    read = {
        name
        for heading, names in NAMES.items()
        if heading not in ("refs", "objects", "worktree")
        for name, named in names.items()
        if named.kind == "file" and named.bytes_max
    }
    assert read == FILES.keys() | UNFUZZED
    assert set(FILES.values()) <= set(TARGETS)


def test_every_output_of_git_has_a_target() -> None:
    """The commands of git that the code starts by name are those of the table."""
    met = set()
    for path in GRIT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in ("run", "output", "start", "start_detached"):
                words = [one.value for one in node.args if isinstance(one, ast.Constant)]
                met |= {words[0]} if words and isinstance(words[0], str) else set()
    assert {"config", "for-each-ref", "rev-list", "cat-file"} <= met
    assert met <= OUTPUTS.keys() | SILENT
    assert set(OUTPUTS.values()) <= set(TARGETS)


def test_a_broken_promise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that raises fails the replay."""

    def refuse(data: bytes) -> None:
        assert not data, "broken"

    monkeypatch.setitem(TARGETS, "chunk", refuse)
    with pytest.raises(AssertionError, match="broken"):
        replay("chunk")
