"""Clones that may have a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.warm import Clone, clone


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Clone]:
    """A clone without a server yet; one that is started is ended with the test."""
    with clone(tmp_path / "clone") as made:
        yield made
