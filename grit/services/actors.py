"""Who acts: the current actor, its key, and how a repository is set up."""

from typing import Final, NamedTuple

from grit.core.errors import InvalidArgs
from grit.core.events import Event, Payload
from grit.core.ids import ActorId, is_name, parse_hex
from grit.core.limits import ID_BYTES, LABEL_CHARS_MAX, LOCK_WAIT_MS_MAX
from grit.git import actors as files
from grit.git.actors import ActorFile
from grit.services.workspace import Workspace

GRIT_ACTOR: Final = "GRIT_ACTOR"
"""Environment: the actor (id prefix or label) that acts instead of the default one."""


LOCK_POLICIES: Final = ("off", "warn", "require")
"""What a lease of somebody else means to a write (spec/leases.md, Policy)."""


class Signer(NamedTuple):
    """The actor of this command, ready to seal and sign."""

    actor_id: ActorId
    label: str
    announcement: Payload | None
    seed: bytes | None
    lock_policy: str = LOCK_POLICIES[0]

    def sign(self, event: Event) -> Event:
        """Return the event signed, or as it is for an actor without a key."""
        if self.seed is None:
            return event
        from grit.core import signing

        return signing.sign(event, self.seed)


def signer(workspace: Workspace) -> Signer:
    """Return who writes; the first write of a repository makes an actor, with a notice."""
    settings = files.load_config(workspace.repository)
    actor = current(workspace, settings)
    if actor is None:
        from grit.services.two_logs import refuse_second

        refuse_second(workspace)
        actor, created = _first(workspace, key=True)
        if created:
            workspace.notice(
                f"first write here: made the actor '{actor.label}', as 'grit init' does"
            )
            set_refspecs(workspace)
    name, email = person(workspace, actor.actor_id)
    announcement = (
        actor.label[:LABEL_CHARS_MAX],
        name[:LABEL_CHARS_MAX],
        email[:LABEL_CHARS_MAX],
        actor.public_key,
    )
    seed = None
    if actor.public_key is not None:
        seed = files.read_signing_key(workspace.repository, actor.actor_id)
    policy = lock_policy(settings)
    return Signer(actor.actor_id, actor.label, announcement, seed, policy)


def lock_policy(settings: files.Settings) -> str:
    """Return the setting `lock_policy`; raise ConfigDamaged when it is none of LOCK_POLICIES."""
    policy = settings.get("lock_policy", LOCK_POLICIES[0])
    if policy not in LOCK_POLICIES:
        raise files.ConfigDamaged(
            f"the setting lock_policy is {policy!r}; set it to one of {', '.join(LOCK_POLICIES)} "
            "with 'grit config set'"
        )
    return str(policy)


def person(workspace: Workspace, actor_id: ActorId) -> tuple[str, str]:
    """Return name and email as git would put them on a commit."""
    from grit.git.gitconfig import identity

    return identity(workspace.wal.config, workspace.ports.environ, "author", actor_id)


def current(workspace: Workspace, settings: files.Settings | None = None) -> ActorFile | None:
    """Return the actor that GRIT_ACTOR or the configuration names, or None when none does.

    `settings`: this clone's, where they are read already.
    """
    named = workspace.ports.environ.get(GRIT_ACTOR)
    if named:
        return find(workspace, named)
    if settings is None:
        settings = files.load_config(workspace.repository)
    default = settings.get("default_actor")
    if default is None:
        return None
    return files.load_actor(workspace.repository, default_actor(default))


def default_actor(setting: files.Setting) -> ActorId:
    """Return the actor that the setting `default_actor` names; raise ConfigDamaged."""
    found = parse_hex(setting, ID_BYTES)
    if found is None:
        raise files.ConfigDamaged(
            "the setting default_actor is not the id of an actor: choose one of 'grit actor list' "
            "with 'grit actor use'",
            way_out="grit actor use",
        )
    return ActorId(found)


def find(workspace: Workspace, text: str, me: ActorId | None = None) -> ActorFile:
    """Return the actor of this clone that the text means (spec/trust.md, Names).

    `me`: whom "@me" means. Raises NotFound, or InvalidArgs when several may be meant.
    """
    from grit.services.who import of_file, the_one

    known = {actor.actor_id: actor for actor in files.list_actors(workspace.repository)}
    nobody = f"no actor '{text}' in this clone: see 'grit actor list'"
    return known[the_one(text, map(of_file, known.values()), me, nobody).actor_id]


def find_here(workspace: Workspace, text: str) -> ActorFile:
    """Return what `find` does, where "@me" is the actor that acts now."""
    from grit.services.who import is_me

    me = current(workspace) if is_me(text) else None
    return find(workspace, text, me.actor_id if me else None)


def create(
    workspace: Workspace, *, label: str | None = None, key: bool = True, make_default: bool = False
) -> ActorFile:
    """Make an actor, keyed unless told not to, and on request the one that acts by default."""
    if label is not None:
        label = _checked_label(label)
    entropy = workspace.ports.entropy
    seed = public = None
    actor_id = ActorId(entropy(ID_BYTES))
    if key:
        from grit.core import signing

        seed = entropy(32)
        public = signing.public_key(seed)
        actor_id = signing.actor_id_of(public)
    label = label or person(workspace, actor_id)[0]
    actor = files.create_actor(
        workspace.repository,
        actor_id,
        label=label,
        created_ts=workspace.now_ms(),
        public_key=public,
        seed=seed,
    )
    if make_default:
        use(workspace, actor)
    return actor


def _checked_label(label: str) -> str:
    """Return the label; raise InvalidArgs for one under which nobody would find the actor."""
    from grit.core.decide import check_line
    from grit.core.escape import escape

    line = check_line("label", label)
    if not is_name(line) or line.startswith("-") or escape(line) != line:
        raise InvalidArgs(
            f"'{label}' cannot be a label: it looks like an id, an option or '@me', or holds "
            "characters that cannot be seen"
        )
    return line


def use(workspace: Workspace, actor: ActorFile) -> None:
    """Let this actor act by default in this clone."""
    files.set_config(workspace.repository, "default_actor", actor.actor_id.hex())


def set_refspecs(workspace: Workspace) -> list[str]:
    """Let `git fetch` bring the log of every remote; return the remotes that were set up."""
    from grit.git.remotes import add_refspec, list_remotes, mend_refspecs

    wal = workspace.wal
    for remote in mend_refspecs(workspace.repository, wal.config):
        workspace.notice(f"removed a refspec of remote '{remote}' that stopped every 'git fetch'")
    return [
        remote
        for remote in list_remotes(wal.config)
        if add_refspec(workspace.repository, wal.config, remote, wal.ref)
    ]


def adopt_log(workspace: Workspace) -> str | None:
    """Begin with the log of the first remote that has one; return that remote's name.

    Remotes of which nothing is recorded are asked, whatever the dialect of their log.
    A log that is here already stays as it is.
    """
    from grit.git.remotes import find_remote, list_remotes
    from grit.services.join import Other, take_in
    from grit.services.partial import complete_log
    from grit.services.snapshot_upkeep import fetch_newest
    from grit.services.two_logs import find_log

    wal = workspace.wal
    if wal.head() is not None:
        return None
    for remote in list_remotes(wal.config):
        heads = _Heads(workspace, remote)
        ref = find_log(workspace.repository, heads.head)
        if ref is None:
            continue
        wal.ref, found = ref, heads.known[ref]
        assert found is not None
        place = find_remote(wal.config, remote)
        complete_log(workspace, place, [found])
        if take_in(workspace, [Other(f"the log of {remote}", found)], LOCK_WAIT_MS_MAX):
            fetch_newest(workspace, place)
            return remote
    return None


class _Heads:
    """The heads of one remote's logs: as recorded, else as it says."""

    def __init__(self, workspace: Workspace, remote: str) -> None:
        self.known: dict[str, str | None] = {}
        """By ref."""
        self._workspace = workspace
        self._remote = remote
        self._silent = False

    def head(self, ref: str) -> str | None:
        """Return the head of one log, None without one; what goes wrong is told."""
        from grit.git.refs import read_ref
        from grit.git.tracking import tracking_ref

        tracking = tracking_ref(self._remote, ref)
        found = read_ref(self._workspace.repository, tracking)
        if found is None and not self._silent:
            self._ask(f"+{ref}:{tracking}")
            found = read_ref(self._workspace.repository, tracking)
        self.known[ref] = found
        return found

    def _ask(self, spec: str) -> None:
        from grit.git.transport import fetch

        ports = self._workspace.ports
        done = fetch(
            self._workspace.repository, self._remote, [spec], ports.environ, ports.progress
        )
        if done.failed and not done.missing:
            self._silent = True
            self._workspace.notice(f"could not ask {self._remote} for its log: {done.failed}")


def _first(workspace: Workspace, *, key: bool) -> tuple[ActorFile, bool]:
    """Return the actor that acts here, and whether it was made just now.

    Two commands that come first at once make one actor. Where the settings were lost and the keys
    were not, the oldest actor goes on.
    """
    from grit.git.filelock import FileLock

    with FileLock(workspace.repository.private, "actors.lock-file"):
        actor = current(workspace)
        if actor is not None:
            return actor, False
        known = files.list_actors(workspace.repository)
        if not known:
            return create(workspace, key=key, make_default=True), True
        actor = min(known, key=lambda one: (one.created_ts, one.actor_id))
        use(workspace, actor)
        return actor, False


class Initialised(NamedTuple):
    """What `init` found or made."""

    actor: ActorFile
    created: bool
    remotes: list[str]
    adopted: str | None


def init(workspace: Workspace, *, key: bool = True) -> Initialised:
    """Set the repository up; doing it again changes nothing."""
    from grit.services.two_logs import others, ways_out

    actor, created = _first(workspace, key=key)
    adopted = adopt_log(workspace)
    added = set_refspecs(workspace)  # which fits the log that counts
    ref = workspace.wal.ref
    for other in others(workspace, fetched=True):
        workspace.notice(
            f"{ref} is the log that counts here, and {other} is another one, which is not joined "
            f"with it; {ways_out(workspace, other)}"
        )
    return Initialised(actor, created, added, adopted)
