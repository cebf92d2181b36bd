"""Where a sync goes: the remote it talks to, where it pushes, what is noted (spec/sync.md)."""

import os

from grit.core.errors import GitFailed
from grit.git import remotes
from grit.git.remotes import Remote
from grit.git.repository import Repository
from grit.services.workspace import Workspace


def early(workspace: Workspace, remote: str | None) -> Remote | None:
    """Return the remote that `choose` will return, where that is plain before git was asked.

    Whether it is a bundle is not known yet.
    """
    name = remote or chosen(workspace) or "origin"
    if not remotes.is_written_down(workspace.repository, name):
        return None
    return Remote(name, name, True, False)


def chosen(workspace: Workspace) -> str | None:
    """Return the remote that the settings name."""
    from grit.git.actors import load_config

    table = load_config(workspace.repository).get("sync")
    name = table.get("remote") if isinstance(table, dict) else None
    return None if name is None else str(name)


def choose(workspace: Workspace, remote: str | None = None, directory: str = ".") -> Remote:
    """Return the remote that is named, or the one to sync with; raise GitFailed without one."""
    config = workspace.wal.config
    if remote is None:
        remote = remotes.sync_remote(config, chosen(workspace))
    if remote is None:
        raise GitFailed("there is no remote to sync with: 'git remote add origin URL' adds one")
    return remotes.find_remote(config, remote, directory)


def push_places(workspace: Workspace, remote: Remote, asked: str | None) -> list[Remote]:
    """Return where pushes go that are not where `remote` is fetched from, each to be read there.

    As git has it: `remote.<name>.pushurl`, `url.<base>.pushInsteadOf`; and `remote.pushDefault`
    where neither the user (`asked`) nor the settings name a remote. Empty: pushes go to `remote`.
    """
    config = workspace.wal.config
    pushed = remote
    default = config.get("remote.pushdefault")
    if asked is None and chosen(workspace) is None and default in remotes.list_remotes(config):
        pushed = remotes.find_remote(config, default)
    apart = pushed.configured and (
        f"remote.{pushed.address}.pushurl" in config.values
        or any(key.startswith("url.") and key.endswith(".pushinsteadof") for key in config.values)
    )
    urls = remotes.push_urls(workspace.repository, pushed.address) if apart else []
    fetched = remotes.fetch_url(workspace.repository, pushed.address) if apart else ""
    if not urls or urls == [fetched]:
        return [] if pushed == remote else [pushed]
    top = workspace.repository.worktree or workspace.repository.git_dir
    return [
        pushed._replace(reads=place.address, tracking=place.tracking)
        for place in (remotes.find_remote(config, url, top) for url in urls)
    ]


def set_refspec(workspace: Workspace, remote: Remote) -> list[str]:
    """Let a plain `git fetch` bring the log; return what to tell of that."""
    wal = workspace.wal
    if remote.configured and remotes.add_refspec(
        workspace.repository, wal.config, remote.address, wal.ref
    ):
        return [f"'git fetch {remote.name}' now brings its issues"]
    return []


def learn_leases(workspace: Workspace, remote: Remote) -> None:
    """Where leases of others matter to writes, take note of those of the remote."""
    from grit.git.actors import load_config

    if load_config(workspace.repository).get("lock_policy", "off") != "off":
        from grit.services.lease_book import record

        record(workspace, remote)


def is_cut(repository: Repository) -> bool:
    """Whether a shallow fetch has cut the log off."""
    if not os.path.exists(f"{repository.common_dir}/shallow"):
        return False
    from grit.git.joins import is_cut

    return is_cut(repository)
