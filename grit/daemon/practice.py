"""What a waiting process runs for nobody, so that the next command finds everything touched."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from grit.cli import edit
from grit.cli.main import program
from grit.core.errors import NotFound
from grit.git.repository import Repository
from grit.services import listing
from grit.services.workspace import Workspace
from grit.services.write import rehearse
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt


def practise(repository: Repository | None, args: list[str]) -> int:
    """Run a list and a write without what they do besides reading the view as it is."""
    if repository is None or repository.worktree is None:
        return 0
    os.chdir(repository.worktree)
    with _replaced(listing, "refresh", _as_it_is), _replaced(edit, "write", rehearse):
        program(args)
        return program(["new", "Practice"])


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Let a module use something else for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _as_it_is(workspace: Workspace, **_: object) -> ViewReader:
    """Stand in for `refresh`; raises NotFound where that would have to do something."""
    reader = ViewReader(workspace.database)
    try:
        reader.place()
    except ViewDoubt as doubt:
        raise NotFound(str(doubt)) from doubt
    return reader
