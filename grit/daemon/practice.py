"""What a waiting process runs for nobody, so that the next command finds everything touched."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from grit.cli import edit, main
from grit.cli.context import Context
from grit.core.errors import GritError, NotFound
from grit.daemon.child import Run
from grit.git.repository import Repository
from grit.services import listing
from grit.services.actors import current
from grit.services.workspace import Workspace
from grit.services.write import Transaction, Written, rehearse
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

T = TypeVar("T")


def practices(repository: Repository | None) -> list[Run]:
    """Return what to run: a list that takes the view as it is, then a write that stores nothing."""
    if repository is None or repository.worktree is None:
        return [lambda _args: 0]
    os.chdir(repository.worktree)

    def read(args: list[str]) -> int:
        with _replaced(listing, "refresh", _as_it_is), _replaced(main, "_rebuilt", _left_alone):
            return main.program(args)

    def store(_args: list[str]) -> int:
        with _replaced(edit, "write", _rehearse), _replaced(main, "_rebuilt", _left_alone):
            return main.program(["new", "Practice"])

    return [read, store]


def _rehearse(
    workspace: Workspace, work: Callable[[Transaction], T], subject: Callable[[T], str]
) -> tuple[T, Written]:
    if current(workspace) is None:
        raise NotFound("the first write of a clone makes an actor: not for practice")
    return rehearse(workspace, work, subject)


def _as_it_is(workspace: Workspace, **_: object) -> ViewReader:
    """Stand in for `refresh`; raises NotFound where that would have to do something."""
    reader = ViewReader(workspace.database)
    try:
        reader.place()
    except ViewDoubt as doubt:
        raise NotFound(str(doubt)) from doubt
    return reader


def _left_alone(_context: Context, doubt: ViewDoubt) -> GritError:
    """Stand in for the mending of a view that turns out to be damaged: a command shall tell."""
    return NotFound(str(doubt))


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Let a module use something else for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
