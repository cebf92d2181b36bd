"""Where the worker works: the repository, seen from the folder that plain git would use."""

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from grit.core.errors import GitFailed
from grit.git.process import run
from grit.git.repository import Repository, discover

_OF_A_COMMAND: Final = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_PREFIX",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_CEILING_DIRECTORIES",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_REFLOG_ACTION",
    }
)
"""What git sets for a hook, or a person for one command."""


class Home(NamedTuple):
    """A repository, and the folder from which addresses of remotes are meant."""

    repository: Repository
    directory: str


def lasting(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what was meant for the one command that started the server."""
    return {name: value for name, value in environ.items() if name not in _OF_A_COMMAND}


def find_home(directory: str, environ: Mapping[str, str]) -> Home:
    """Return the repository around `directory`, which may be its git directory.

    Relative addresses of remotes are meant from the working tree. Raises GitFailed, IoFailed.
    """
    inner = discover(directory, environ)
    if inner.worktree is not None or inner.bare:
        return Home(inner, inner.worktree or inner.common_dir)
    for folder in (os.path.dirname(inner.common_dir), _configured(inner)):
        try:
            outer = discover(folder, environ) if folder else None
        except GitFailed:
            continue
        if outer is not None and outer.common_dir == inner.common_dir and outer.worktree:
            return Home(outer, outer.worktree)
    return Home(inner, inner.common_dir)


def _configured(repository: Repository) -> str | None:
    """Return the working tree that git's configuration names, as in a submodule."""
    done = run(repository.common_dir, "config", "core.worktree")
    path = done.stdout.decode(errors="surrogateescape").rstrip("\n")
    return os.path.join(repository.common_dir, path) if path else None
