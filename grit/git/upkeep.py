"""Inviting `git gc --auto` after many appends, without waiting for it (spec/wal.md, Upkeep)."""

import os
from typing import Final

from grit.files.looks import is_plain
from grit.files.names import OBJECTS
from grit.files.private import Folder
from grit.git.gitconfig import GitConfig
from grit.git.process import start_detached
from grit.git.repository import Repository

_CHANGED: Final = (
    *("objects", "worktrees", "rr-cache", "logs", "refs", "reftable"),
    *("info", "packed-refs", "shallow", "gc.pid", "gc.log"),
)
"""What a collection removes and writes, in the git directory or below these folders of it."""


def count_sampled_objects(repository: Repository) -> int:
    """Return the loose objects in the one folder of 256 that git samples too."""
    try:
        with Folder(repository.objects_dir, ("17",), OBJECTS).open() as folder:
            names = [name for name, _ in folder.entries()]
    except OSError:
        return 0
    return sum(not name.startswith("tmp_") for name in names)


def invite_gc(repository: Repository, config: GitConfig) -> bool:
    """Start a collection in the background when git itself would; return whether it was started.

    Not where a program would have a say in it: it would not be run. Nor where git would go through
    a link. Never waits. Raises GitFailed or IoFailed when git cannot be started.
    """
    limit = config.gc_auto
    if limit <= 0 or count_sampled_objects(repository) <= (limit + 255) // 256:
        return False
    if _has_say(repository, config) or not _stays_inside(repository):
        return False
    start_detached(repository.git_dir, "gc", "--auto", "--quiet")
    return True


def _has_say(repository: Repository, config: GitConfig) -> bool:
    """Return whether somebody named a program, or a folder, that keeps objects, or stops it."""
    if "gc.recentobjectshook" in config.values or "gc.repackfilterto" in config.values:
        return True
    if any(key.startswith("hook.") and key.endswith(".command") for key in config.values):
        return True  # whatever its event: git 2.54 names hooks in its configuration
    return os.path.exists(os.path.join(_hooks_dir(repository, config), "pre-auto-gc"))


def _stays_inside(repository: Repository) -> bool:
    """Return whether all that a collection removes and writes is files and folders, no links."""
    tops = dict.fromkeys((repository.common_dir, repository.git_dir))
    paths = dict.fromkeys(f"{top}/{name}" for top in tops for name in _CHANGED)
    return all(map(is_plain, (*paths, repository.objects_dir)))


def _hooks_dir(repository: Repository, config: GitConfig) -> str:
    configured = config.get("core.hookspath")
    if configured is None:
        return f"{repository.common_dir}/hooks"
    base = repository.worktree or repository.git_dir
    return os.path.join(base, os.path.expanduser(configured))
