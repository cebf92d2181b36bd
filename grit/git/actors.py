"""Actors and settings on disk, below grit's folder in the git directory (spec/wal.md, Local files).

Settings are plain dictionaries of TOML values, since keys of later versions must survive.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, cast

from grit.core.errors import Conflict, IoFailed, NotFound
from grit.core.ids import ActorId, parse_hex
from grit.core.limits import ID_BYTES, PUBLIC_KEY_BYTES, TOML_BYTES_MAX, TOML_DOTS_MAX
from grit.files.private import Folder, Opened, failed
from grit.git.repository import Repository

Scalar = str | int | float | bool
Setting = Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]
"""A value of the settings: a scalar, a list of them, or one table of both."""
Settings = dict[str, Setting]

CONFIG: Final = "config.toml"
_MARK: Final = f"{CONFIG}.mark"
KEY: Final = "signing.key"
_SEED_BYTES: Final = 32
_MAKES_RUN: Final = "sync.auto"
"""The setting that counts only where it was set: what it makes run may run other programs."""
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class ConfigDamaged(IoFailed):
    """A settings, actor or key file that cannot be used; nothing is reset."""


class ActorFile(NamedTuple):
    """An actor of this clone, as its file states it; `created_ts` in unix milliseconds."""

    actor_id: ActorId
    label: str
    created_ts: int
    public_key: bytes | None


def load_config(repository: Repository) -> Settings:
    """Return the settings of this clone; empty when there are none yet.

    Raises ConfigDamaged when the file is not TOML, IoFailed when it cannot be read.
    """
    return load_toml(repository.private, CONFIG)


def save_config(
    repository: Repository, settings: Mapping[str, Setting], *, ours: bool = True
) -> None:
    """Replace the settings by a rename; raises IoFailed with the old file in place.

    Not `ours`: some of them are not known to come from here (`is_config_ours`).
    """
    folder = repository.private
    replace_file(folder, CONFIG, dump_toml(settings).encode(), 0o666)
    if not ours:
        return
    # They are stored; without a mark what needs one does not count, and the status says so.
    with suppress(OSError), folder.open() as opened:
        opened.replace(_MARK, _mark(opened), 0o600)


def is_config_ours(repository: Repository) -> bool:
    """Whether grit wrote the settings, as they are, in this very place.

    An archive or a copy cannot carry the time of the last change that the system keeps. Where a
    setting makes programs run that git's configuration names, nobody else may have set it.
    """
    try:
        with repository.private.open() as folder:
            return folder.read(_MARK) == _mark(folder)
    except OSError:
        return False


def _mark(folder: Opened) -> bytes:
    found = folder.look(CONFIG)
    return b"%d %d %d" % (found.st_ino, found.st_size, found.st_ctime_ns) if found else b"none"


def set_config(repository: Repository, key: str, value: Scalar | list[Scalar] | None) -> None:
    """Set one key (`name` or `table.name`), or remove it with None; all others stay.

    Two commands that set keys at once follow each other. Raises Conflict when a table stands
    where a value should go or the other way round.
    """
    with changing_config(repository, confirmed=key == _MAKES_RUN) as settings:
        table, dot, name = key.rpartition(".")
        target: dict[str, Setting] = settings
        if dot:
            inner = settings.setdefault(table, {})
            if not isinstance(inner, dict):
                raise Conflict(f"'{table}' is a value in the settings, not a table")
            target = cast(dict[str, Setting], inner)
        if isinstance(target.get(name), dict):
            raise Conflict(f"'{key}' is a table in the settings, not a value")
        if value is None:
            target.pop(name, None)
        else:
            target[name] = cast(Setting, value)


@contextmanager
def changing_config(repository: Repository, *, confirmed: bool = False) -> Iterator[Settings]:
    """Give the settings to change; they are stored at the end, and nobody else does so meanwhile.

    To change one of a file that came with the folder makes the others no more the user's own,
    unless it is `confirmed`: the one that asks whose they are.
    Raises Busy, ConfigDamaged or IoFailed, with the old file in place.
    """
    from grit.git.filelock import FileLock

    with FileLock(repository.private, "config.lock-file"):
        settings = load_config(repository)
        ours = confirmed or not settings or is_config_ours(repository)
        yield settings
        save_config(repository, settings, ours=ours)


def list_actor_ids(repository: Repository) -> list[ActorId]:
    """Return the ids of the actor folders of this clone, readable or not; raises IoFailed."""
    try:
        with repository.private.below("actors").open() as folder:
            names = sorted(name for name, _ in folder.entries())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failed("cannot list actors", error) from error
    found = (parse_hex(name, ID_BYTES) for name in names if name == name.lower())
    return [ActorId(actor_id) for actor_id in found if actor_id is not None]


def list_actors(repository: Repository) -> list[ActorFile]:
    """Return the actors of this clone, oldest first; folders that are no actors are passed over."""
    found = [
        load_actor(repository, actor_id)
        for actor_id in list_actor_ids(repository)
        if _is_there(repository, actor_id)
    ]
    return sorted(found, key=lambda actor: (actor.created_ts, actor.actor_id))


def readable_actors(repository: Repository) -> list[ActorFile]:
    """Return the actors of this clone without those that are damaged: for whom a name may mean."""
    found: list[ActorFile] = []
    for actor_id in list_actor_ids(repository):
        with suppress(NotFound, IoFailed):
            found.append(load_actor(repository, actor_id))
    return found


def load_actor(repository: Repository, actor_id: ActorId) -> ActorFile:
    """Return one actor; raises NotFound, ConfigDamaged or IoFailed."""
    folder = actor_folder(repository, actor_id)
    path = f"{folder.path}/{CONFIG}"
    values = load_toml(folder, CONFIG)
    if not values:
        raise NotFound(f"no actor {actor_id.hex()} in this clone; see 'grit actor list'")
    label, created_ts = values.get("label", ""), values.get("created_ts", 0)
    if values.get("actor_id") != actor_id.hex():
        raise ConfigDamaged(f"{path}: actor_id is not the folder's name", path=path)
    if not isinstance(label, str) or not isinstance(created_ts, int):
        raise ConfigDamaged(f"{path}: label or created_ts has the wrong type", path=path)
    key = values.get("public_key")
    if key is None:
        return ActorFile(actor_id, label, created_ts, None)
    public_key = parse_hex(key, PUBLIC_KEY_BYTES)
    if public_key is None:
        raise ConfigDamaged(f"{path}: public_key is not {PUBLIC_KEY_BYTES * 2} hex digits")
    return ActorFile(actor_id, label, created_ts, public_key)


def create_actor(
    repository: Repository,
    actor_id: ActorId,
    label: str,
    created_ts: int,
    public_key: bytes | None,
    seed: bytes | None,
) -> ActorFile:
    """Store a new actor, its key first, so that a crash leaves no actor that cannot sign.

    Raises Conflict when the actor exists, IoFailed when the disk refuses.
    """
    folder = actor_folder(repository, actor_id)
    if _is_there(repository, actor_id):
        raise Conflict(f"actor {actor_id.hex()} exists already")
    if seed is not None:
        replace_file(folder.below("keys"), KEY, seed.hex().encode() + b"\n", 0o600)
    values: Settings = {"actor_id": actor_id.hex(), "label": label, "created_ts": created_ts}
    if public_key is not None:
        values["public_key"] = public_key.hex()
    replace_file(folder, CONFIG, dump_toml(values).encode(), 0o666)
    return ActorFile(actor_id, label, created_ts, public_key)


def read_signing_key(repository: Repository, actor_id: ActorId) -> bytes:
    """Return the 32-byte seed of an actor with a public key.

    Raises ConfigDamaged when the file is missing or malformed: such an actor never writes unsigned.
    """
    folder = key_folder(repository, actor_id)
    path = f"{folder.path}/{KEY}"
    try:
        with folder.open() as opened:
            text = opened.read(KEY).decode("ascii", errors="replace")
    except FileNotFoundError as error:
        raise ConfigDamaged(
            f"the signing key {path} is missing; restore it, or use another actor with "
            "'grit actor use'",
            path=path,
        ) from error
    except OSError as error:
        raise failed(f"cannot read {path}", error) from error
    seed = parse_hex(text.strip(), _SEED_BYTES)
    if seed is None:
        raise ConfigDamaged(
            f"the signing key {path} is not {_SEED_BYTES * 2} hex digits", path=path
        )
    return seed


def actor_folder(repository: Repository, actor_id: ActorId) -> Folder:
    """Return the folder of an actor of this clone."""
    return repository.private.below("actors").below(actor_id.hex())


def key_folder(repository: Repository, actor_id: ActorId) -> Folder:
    """Return where the signing key of an actor of this clone lies."""
    return actor_folder(repository, actor_id).below("keys")


def tighten_key(repository: Repository, actor_id: ActorId) -> None:
    """Let the owner alone read the signing key of an actor; raises OSError."""
    with key_folder(repository, actor_id).open() as folder:
        fd = folder.open(KEY)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)


def _is_there(repository: Repository, actor_id: ActorId) -> bool:
    """Return whether the actor has a file; raises IoFailed where something else lies there."""
    try:
        with actor_folder(repository, actor_id).open() as folder:
            return folder.look(CONFIG) is not None
    except FileNotFoundError:
        return False
    except OSError as error:
        raise failed(f"cannot look at actor {actor_id.hex()}", error) from error


def load_toml(folder: Folder, name: str) -> Settings:
    """Return what the file says, nothing when there is none; raises ConfigDamaged, IoFailed."""
    path = f"{folder.path}/{name}"
    try:
        with folder.open() as opened:
            data = opened.read(name)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise failed(f"cannot read {path}", error) from error
    return parse_toml(data, path)


def parse_toml(data: bytes, path: str) -> Settings:
    """Return what the contents of the file at `path` say; raises ConfigDamaged."""
    import tomllib

    try:
        if len(data) > TOML_BYTES_MAX:
            raise ValueError(f"it has over {TOML_BYTES_MAX} bytes")
        if any(line.count(b".") > TOML_DOTS_MAX for line in data.split(b"\n")):
            raise ValueError(f"a line with over {TOML_DOTS_MAX} dots")
        values = tomllib.loads(data.decode())
        _check_numbers(values)
        return cast(Settings, values)
    except (ValueError, RecursionError) as error:  # also for a number of 5,000 digits
        raise ConfigDamaged(f"{path} is not valid TOML: {error}; mend it by hand", path=path) from (
            error
        )


def _check_numbers(values: object) -> None:
    """Raise ValueError for a number that TOML does not have, and Python would not print."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("a number of more than 64 bits")


def replace_file(folder: Folder, name: str, data: bytes, mode: int) -> None:
    """Put a file in place in one step, and what is missing above it; raises IoFailed."""
    try:
        with folder.open(make=True) as opened:
            opened.replace(name, data, mode)
    except OSError as error:
        raise failed(f"cannot write {folder.path}/{name}", error) from error


def dump_toml(settings: Mapping[str, Setting]) -> str:
    """Return settings as TOML: scalars and lists first, since there is no way out of a table."""
    top = [
        f"{_key(key)} = {_value(value)}"
        for key, value in settings.items()
        if not isinstance(value, dict)
    ]
    for name, table in settings.items():
        if isinstance(table, dict):
            top += ["", f"[{_key(name)}]"]
            top += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(top).lstrip("\n") + "\n"


def _key(name: str) -> str:
    return name if name and _BARE.issuperset(name) else _string(name)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())}}}"
    return str(value)


def _string(text: str) -> str:
    """Quote a string; control characters become escapes, a lone surrogate a replacement."""
    safe = text.encode(errors="replace").decode()
    return '"' + "".join(_ESCAPES.get(c) or _plain(c) for c in safe) + '"'


def _plain(character: str) -> str:
    if character < " " or character == "\x7f":
        return f"\\u{ord(character):04x}"
    return character
