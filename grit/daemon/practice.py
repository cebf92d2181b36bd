"""What a waiting process runs for nobody, so that the next command finds everything touched."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from grit.cli import edit
from grit.cli.main import program
from grit.core.errors import NotFound
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


def practise(repository: Repository | None, scratch: str, args: list[str]) -> int:
    """Run a list that takes the view as it is, a write into `scratch`, and a git process."""
    if repository is None or repository.worktree is None:
        return 0
    os.chdir(repository.worktree)
    with _replaced(listing, "refresh", _as_it_is):
        program(args)
    if gitconfig.remembered is not None:
        with _elsewhere(scratch):
            program(["new", "Practice"])
    run(None, "version")
    return 0


def _as_it_is(workspace: Workspace, **_: object) -> ViewReader:
    """Stand in for `refresh`; raises NotFound where that would have to do something."""
    reader = ViewReader(workspace.database)
    try:
        reader.place()
    except ViewDoubt as doubt:
        raise NotFound(str(doubt)) from doubt
    return reader


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
