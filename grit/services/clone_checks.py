"""The checks of `doctor` that look at the clone around the log: objects, remotes, keys, settings.

No check changes anything (spec/doctor.md).
"""

import os
from collections.abc import Iterator
from typing import Final

from grit.core.errors import GitFailed, GritError, IoFailed, NotFound
from grit.core.ids import ActorId
from grit.core.limits import ID_BYTES
from grit.git import actors as files
from grit.services.checks import FIX, Check, LogRef
from grit.services.workspace import Workspace

_HEX: Final = frozenset("0123456789abcdef")


def check_growth(workspace: Workspace) -> Check:
    """Whether loose objects have piled up; the user's gc settings are respected."""
    from grit.git.gitconfig import GC_AUTO_DEFAULT, load_git_config
    from grit.git.upkeep import count_sampled_objects

    count = count_sampled_objects(workspace.repository) * 256
    try:
        limit = load_git_config(workspace.repository).gc_auto
    except (GitFailed, IoFailed):
        limit = GC_AUTO_DEFAULT
    about = f"about {count} loose objects" if count else "few loose objects"
    if limit <= 0:
        return Check("growth", "ok", f"{about}; git's own collection is switched off (gc.auto=0)")
    if count <= limit:
        return Check("growth", "ok", about)
    return Check(
        "growth",
        "warn",
        f"{about}, which take more room and time than packed ones",
        "run 'git gc' when nothing else is at work here",
    )


def remotes_without_refspec(workspace: Workspace, ref: LogRef) -> list[str]:
    """Return the remotes whose log `git fetch` does not bring; raises GitFailed, IoFailed."""
    from grit.git.gitconfig import load_git_config
    from grit.git.remotes import has_refspec, list_remotes

    config = load_git_config(workspace.repository)
    return [one for one in list_remotes(config) if not has_refspec(config, one, ref.name)]


def check_remotes(workspace: Workspace, ref: LogRef) -> Check:
    """Whether `git fetch` brings the log of every remote."""
    try:
        lacking = remotes_without_refspec(workspace, ref)
    except (GitFailed, IoFailed) as error:
        return Check("remotes", "warn", f"not checked: {error.message}", "mend 'repository' first")
    if not lacking:
        return Check("remotes", "ok", "'git fetch' brings the log of every remote")
    message = f"'git fetch' does not bring the log of {', '.join(lacking)}"
    return Check("remotes", "warn", message, f"{FIX} or 'grit init', which add the refspec")


def key_path(workspace: Workspace, actor_id: ActorId) -> str:
    """Return where the signing key of an actor of this clone lies."""
    return f"{workspace.repository.grit_dir}/actors/{actor_id.hex()}/keys/signing.key"


def local_actor_ids(workspace: Workspace) -> list[ActorId]:
    """Return the ids of the actor folders of this clone, readable or not; raises OSError."""
    try:
        names = sorted(os.listdir(f"{workspace.repository.grit_dir}/actors"))
    except FileNotFoundError:
        return []
    return [
        ActorId(bytes.fromhex(name))
        for name in names
        if len(name) == 2 * ID_BYTES and _HEX.issuperset(name)
    ]


def is_exposed(path: str) -> bool:
    """Return whether others than the owner may read or write the file."""
    if os.name == "nt":
        return False  # access is not in the mode there
    try:
        return os.stat(path).st_mode & 0o077 != 0
    except OSError:
        return False


def check_keys(workspace: Workspace) -> Check:
    """Whether every actor of this clone has the key that its id and public key stand for."""
    try:
        actor_ids = local_actor_ids(workspace)
    except OSError as error:
        plan = "check the permissions of grit's folder in the git directory"
        return Check("keys", "error", f"the actors cannot be listed: {error.strerror}", plan)
    wrong: list[str] = []
    exposed: list[str] = []
    for actor_id in actor_ids:
        wrong += _key_problems(workspace, actor_id)
        if is_exposed(key_path(workspace, actor_id)):
            exposed.append(f"the signing key of {actor_id.hex()[:8]} can be read by others")
    if wrong:
        plan = "restore these files from a copy, or go on as a new actor: 'grit actor init --use'"
        return Check("keys", "error", "; ".join([*wrong, *exposed]), plan)
    if exposed:
        plan = f"{FIX}, which lets the owner alone read it; then go on as a new actor if in doubt"
        return Check("keys", "warn", "; ".join(exposed), plan)
    return Check("keys", "ok", f"actors of this clone: {len(actor_ids)}")


def _key_problems(workspace: Workspace, actor_id: ActorId) -> Iterator[str]:
    short = actor_id.hex()[:8]
    try:
        actor = files.load_actor(workspace.repository, actor_id)
        if actor.public_key is None:
            return
        seed = files.read_signing_key(workspace.repository, actor_id)
    except NotFound:
        yield f"actor {short} has no config.toml"
        return
    except IoFailed as error:
        yield error.message
        return
    from grit.core.signing import actor_id_of, public_key

    if actor_id_of(actor.public_key) != actor_id:
        yield f"the public key of actor {short} does not belong to its id"
    if public_key(seed) != actor.public_key:
        yield f"the signing key of actor {short} does not belong to its public key"


def check_settings(workspace: Workspace) -> Check:
    """Whether the settings can be read and name an actor that exists."""
    try:
        settings = files.load_config(workspace.repository)
        default = settings.get("default_actor")
        if default is None:
            return Check("settings", "ok", "readable; no default actor yet")
        text = str(default)
        if len(text) != 2 * ID_BYTES or not _HEX.issuperset(text):
            raise NotFound("default_actor is not the id of an actor")
        files.load_actor(workspace.repository, ActorId(bytes.fromhex(text)))
    except NotFound as error:
        plan = "choose one of 'grit actor list' with 'grit actor use', or run 'grit init'"
        return Check("settings", "error", f"settings: {error.message}", plan)
    except GritError as error:
        plan = "mend the file by hand; 'grit config list' shows when it can be read again"
        return Check("settings", "error", error.message, plan)
    return Check("settings", "ok", "readable")
