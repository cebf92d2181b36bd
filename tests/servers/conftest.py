"""Servers for the sync suite: each is started once a test process, when first asked for."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.servers.desk import Repository
from tests.servers.hosts import KINDS, VERSIONS, Host, serve

Serving = Callable[..., Repository]

FULL_PRODUCT = os.environ.get("GRIT_SERVERS") == "all"
PAIRS = [(kind, version) for kind in KINDS for version in VERSIONS]
FEW = [(kind, version) for number, (kind, version) in enumerate(PAIRS) if number % 4 in (1, 2)]
"""Every server in one version, both versions alike."""
_NUMBERS = count(1)


def kinds(*usual: str, full: Sequence[str] = KINDS) -> pytest.MarkDecorator:
    """Ask a test for `kind`: these servers usually, with GRIT_SERVERS=all the full list."""
    return pytest.mark.parametrize("kind", full if FULL_PRODUCT else usual)


@pytest.fixture(scope="session")
def host_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Host]]:
    """Return a running server of a kind; all of them end with the test process."""
    root = tmp_path_factory.mktemp("served")
    running: dict[str, Host] = {}
    with ExitStack() as stack:

        def host(kind: str) -> Host:
            if kind not in running:
                scratch = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(serve(kind, root, scratch))
            return running[kind]

        yield host


@pytest.fixture
def serving(host_of: Callable[[str], Host], tmp_path: Path) -> Serving:
    """Return a fresh bare repository at a server of a kind, asked in a protocol version."""

    def make(kind: str = "path", version: int = 2, *options: str) -> Repository:
        host = host_of(kind)
        name = f"{next(_NUMBERS)}.git"
        place = Repository(
            host, host.url(name), host.root / name, host.configuration(tmp_path, version), tmp_path
        )
        _make_bare(place, options)
        return place

    return make


def _make_bare(place: Repository, options: tuple[str, ...]) -> None:
    make = ["git", "init", "-q", "--bare", *options, str(place.bare)]
    subprocess.run(make, check=True, timeout=30)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test every server and version, or for `pair` each server in one, unless all is asked.

    The environment variable GRIT_SERVERS=all asks for all.
    """
    for name, chosen in (("every_pair", PAIRS), ("pair", PAIRS if FULL_PRODUCT else FEW)):
        if name in metafunc.fixturenames:
            ids = [f"{kind}-v{version}" for kind, version in chosen]
            metafunc.parametrize(name, chosen, ids=ids)
