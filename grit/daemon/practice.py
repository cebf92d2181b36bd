"""What a waiting process runs for nobody, so that the next command finds everything touched."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from grit.cli import edit, main
from grit.cli.context import Context
from grit.core.errors import GritError, NotFound
from grit.daemon.child import Run
from grit.git import gitconfig
from grit.git.process import run
from grit.git.repository import Repository
from grit.services import listing
from grit.services.actors import current
from grit.services.workspace import Workspace
from grit.services.write import Transaction, Written, write
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

T = TypeVar("T")


def practices(repository: Repository | None, scratch: str) -> list[Run]:
    """Return what to run: a list that takes the view as it is, then a write into `scratch`."""
    if repository is None or repository.worktree is None:
        return [lambda _args: 0]
    os.chdir(repository.worktree)

    def read(args: list[str]) -> int:
        with _replaced(listing, "refresh", _as_it_is), _replaced(main, "_rebuilt", _left_alone):
            return main.program(args)

    def store(_args: list[str]) -> int:
        run(None, "version")
        if gitconfig.remembered is None:
            return 0
        with _elsewhere(scratch):
            return main.program(["new", "Practice"])

    return [read, store]


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
def _elsewhere(folder: str) -> Iterator[None]:
    """Let writes go into a log of their own, with this clone's actor, and forget it in the end."""

    def write_there(
        workspace: Workspace, work: Callable[[Transaction], T], subject: Callable[[T], str]
    ) -> tuple[T, Written]:
        if current(workspace) is None:
            raise NotFound("the first write of a clone makes an actor: not for practice")
        there = workspace.repository._replace(
            git_dir=folder, common_dir=folder, objects_dir=f"{folder}/objects", worktree=None
        )
        for name in ("objects", "refs/grit", "grit"):
            os.makedirs(f"{folder}/{name}")
        for name in ("actors", "config.toml"):
            os.symlink(f"{workspace.repository.grit_dir}/{name}", f"{folder}/grit/{name}")
        other = Workspace(there, workspace.ports)
        try:
            return write(other, work, subject)
        finally:
            other.close()

    config = gitconfig.GitConfig({"core.fsync": ("none",), "gc.auto": ("0",)})
    assert gitconfig.remembered is not None
    known = gitconfig.remembered._replace(git_dir=folder, config=config)
    try:
        with _replaced(gitconfig, "remembered", known), _replaced(edit, "write", write_there):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Let a module use something else for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
