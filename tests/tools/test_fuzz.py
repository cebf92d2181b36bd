"""The saved fuzz corpus keeps every promise that the fuzz targets state."""

from pathlib import Path

import pytest

from fuzz.run import replay
from fuzz.targets import TARGETS

CORPUS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_saved_inputs_keep_the_promises(name: str) -> None:
    """No saved input raises in its target, and no target is without inputs."""
    assert replay(name) > 10


def test_every_corpus_has_a_target() -> None:
    """A corpus without a target would never be run."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


def test_a_broken_promise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that raises fails the replay."""

    def refuse(data: bytes) -> None:
        assert not data, "broken"

    monkeypatch.setitem(TARGETS, "chunk", refuse)
    with pytest.raises(AssertionError, match="broken"):
        replay("chunk")
