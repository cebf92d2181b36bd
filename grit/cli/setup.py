"""Commands that set a clone up: init, actors, settings."""

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING, Final

import click

from grit.cli import agents
from grit.cli.context import ACTOR, KNOWN, Context, GritCommand, TalkingCommand
from grit.cli.main import LazyGroup
from grit.cli.table import counted
from grit.core.errors import InvalidArgs, NotFound
from grit.core.escape import escape
from grit.core.ids import ACTOR_CHARS_MIN, is_name, parse_number
from grit.git import actors as files
from grit.git.actors import ActorFile
from grit.services import actors
from grit.services.workspace import Workspace

if TYPE_CHECKING:
    from grit.services.trust import Changed
    from grit.services.who import Known


def actor_json(actor: ActorFile) -> dict[str, object]:
    """Return an actor of this clone; never its key's secret."""
    return {
        "actor_id": actor.actor_id.hex(),
        "label": actor.label,
        "created_ts": actor.created_ts,
        "public_key": actor.public_key.hex() if actor.public_key else None,
    }


@click.command(cls=TalkingCommand, name="init")
@click.option("--agents-md", is_flag=True, help="Add a section for coding agents to AGENTS.md.")
@click.option("--no-key", is_flag=True, help="Make an actor that does not sign.")
@click.pass_obj
def init(run: Context, agents_md: bool, no_key: bool) -> None:
    """Set this clone up; again and again does no harm.

    Makes an actor with a signing key, lets 'git fetch' bring issues, and takes over the log of a
    remote that has one.
    """
    if agents_md:
        agents.planned(run.workspace)  # what cannot be written is refused before anything is done
    found = actors.init(run.workspace, key=not no_key)
    wrote = agents.write(run.workspace) if agents_md else False
    data = {
        "actor": actor_json(found.actor),
        "created": found.created,
        "remotes": found.remotes,
        "adopted": found.adopted,
        "agents_md": wrote,
        "wal_head": run.workspace.wal.head(),
    }

    def lines() -> Iterator[str]:
        label = escape(found.actor.label)
        if found.created:
            yield f"ready: you are '{label}' ({found.actor.actor_id.hex()[:8]})"
        else:
            yield f"already set up: you are '{label}' ({found.actor.actor_id.hex()[:8]})"
        for remote in found.remotes:
            yield f"'git fetch {escape(remote)}' now brings its issues"
        if found.adopted:
            yield f"took over the issues of {escape(found.adopted)}"
        if wrote:
            yield "AGENTS.md now tells coding agents how to use grit"
        if found.created and data["wal_head"] is None:
            yield 'next: grit new "What is to be done"'

    run.show(data, lines)


@click.command(cls=TalkingCommand, name="init")
@click.option("--label", help="How the actor is called; your git user.name by default.")
@click.option("--no-key", is_flag=True, help="Make an actor that does not sign.")
@click.option("--use", "use_", is_flag=True, help="Let it act by default from now on.")
@click.pass_obj
def actor_init(run: Context, label: str | None, no_key: bool, use_: bool) -> None:
    """Make another actor."""
    made = actors.create(run.workspace, label=label, key=not no_key)
    if use_ or actors.current(run.workspace) is None:
        actors.use(run.workspace, made)
    run.show({"actor": actor_json(made)}, lambda: [f"made {_line(made)}"])


def _line(actor: ActorFile) -> str:
    signs = "" if actor.public_key else " (does not sign)"
    return f"'{escape(actor.label)}' {actor.actor_id.hex()}{signs}"


@click.command(cls=GritCommand, name="list")
@click.pass_obj
def actor_list(run: Context) -> None:
    """List the actors: those of this clone, and those that the log knows."""
    from grit.services.refresh import refresh

    here = {actor.actor_id: actor for actor in files.list_actors(run.workspace.repository)}
    current = actors.current(run.workspace)
    rows: list[dict[str, object]] = []
    for actor in here.values():
        default = current is not None and actor.actor_id == current.actor_id
        rows.append({**actor_json(actor), "here": True, "current": default})
    for person in refresh(run.workspace).actors():
        if person.actor_id not in here:
            key = person.public_key.hex() if person.public_key else None
            rows.append(
                {
                    "actor_id": person.actor_id.hex(),
                    "label": person.label or person.name,
                    "created_ts": person.announced_ts,
                    "public_key": key,
                    "here": False,
                    "current": False,
                }
            )
    _mark_trust(run.workspace, rows)
    run.show({"actors": rows}, lambda: _actor_lines(rows))


def _mark_trust(workspace: Workspace, rows: list[dict[str, object]]) -> None:
    """Add to each actor whether the list allows it, and whether it was revoked."""
    from grit.services.policy import allowed_actors, revoked_actors

    settings = files.load_config(workspace.repository)
    allowed = {actor_id.hex() for actor_id in allowed_actors(settings)}
    revoked = {actor_id.hex() for actor_id, _ in revoked_actors(settings)}
    for row in rows:
        row["trusted"] = not allowed or row["here"] is True or row["actor_id"] in allowed
        row["revoked"] = row["actor_id"] in revoked


def _actor_lines(rows: list[dict[str, object]]) -> list[str]:
    from tabulate import tabulate

    judged = any(row["revoked"] or not row["trusted"] for row in rows)
    ids = {str(row["actor_id"]) for row in rows}
    chars = ACTOR_CHARS_MIN
    while len({actor_id[:chars] for actor_id in ids}) < len(ids):
        chars += 1  # whoever has time makes a key whose id begins like another's
    table = [
        (
            "*" if row["current"] else "",
            str(row["actor_id"])[:chars],
            escape(str(row["label"])) if is_name(str(row["label"])) else "-",
            "yes" if row["public_key"] else "no",
            "here" if row["here"] else "elsewhere",
            *((_trust_word(row),) if judged else ()),
        )
        for row in rows
    ]
    heads = ("", "id", "label", "signs", "key", *(("trust",) if judged else ()))
    return str(tabulate(table, heads, "plain", disable_numparse=True)).split("\n")


def _trust_word(row: dict[str, object]) -> str:
    if row["revoked"]:
        return "revoked"
    return "yes" if row["trusted"] else "no"


@click.command(cls=GritCommand, name="show")
@click.argument("actor", metavar="ACTOR", shell_complete=ACTOR)
@click.pass_obj
def actor_show(run: Context, actor: str) -> None:
    """Show one actor of this clone, by label, id or '@me'."""
    found = actors.find_here(run.workspace, actor)
    run.show({"actor": actor_json(found)}, lambda: [_line(found)])


@click.command(cls=GritCommand, name="current")
@click.pass_obj
def actor_current(run: Context) -> None:
    """Show who acts."""
    found = actors.current(run.workspace)
    if found is None:
        raise NotFound("no actor yet: run 'grit init'")
    run.show({"actor": actor_json(found)}, lambda: [_line(found)])


@click.command(cls=GritCommand, name="use")
@click.argument("actor", metavar="ACTOR", shell_complete=ACTOR)
@click.pass_obj
def actor_use(run: Context, actor: str) -> None:
    """Let this actor act by default."""
    found = actors.find_here(run.workspace, actor)
    actors.use(run.workspace, found)
    run.show({"actor": actor_json(found)}, lambda: [f"now acting as {_line(found)}"])


@click.command(cls=GritCommand, name="trust")
@click.argument("actor", metavar="ACTOR", shell_complete=KNOWN)
@click.option("--remove", is_flag=True, help="Take the actor off the list.")
@click.pass_obj
def actor_trust(run: Context, actor: str, remove: bool) -> None:
    """Put an actor on the list of those whose events count.

    Without a list everybody counts. With one, under 'verify = require', only those on it and the
    actors of this clone do.
    """
    from grit.services.trust import trust

    found = trust(run.workspace, actor, remove=remove)
    name = _named(found.actor)

    def lines() -> Iterator[str]:
        if not found.changed:
            yield f"{name} is {'not' if remove else 'already'} on the list of allowed actors"
        elif not found.trusted:
            yield f"took {name} off the list, which is empty now: everybody counts"
        elif remove:
            yield f"took {name} off the list; still on it: {len(found.trusted)}"
        else:
            yield f"put {name} on the list of allowed actors; on it: {len(found.trusted)}"
        yield from _identity(found.actor)
        yield from _policy_hint(run.workspace)

    run.show(_changed_json(found), lines)


@click.command(cls=GritCommand, name="revoke")
@click.argument("actor", metavar="ACTOR", shell_complete=KNOWN)
@click.option("--remove", is_flag=True, help="Let everything that the actor signed count again.")
@click.pass_obj
def actor_revoke(run: Context, actor: str, remove: bool) -> None:
    """Let nothing more of an actor count, as when its key was stolen.

    What its chain of events holds now still counts; what comes later does not, whatever time
    it claims.
    """
    from grit.services.trust import revoke

    found = revoke(run.workspace, actor, remove=remove)
    name = _named(found.actor)

    def lines() -> Iterator[str]:
        if remove:
            yield f"{name} {'is not revoked any more' if found.changed else 'was not revoked'}"
        elif not found.changed:
            yield f"{name} was revoked before; nothing was changed"
        else:
            count = counted(found.event_count, "event")
            yield f"revoked {name}: what it wrote until now still counts ({count}), nothing later"
        yield from _identity(found.actor)
        yield from _policy_hint(run.workspace)

    run.show(_changed_json(found), lines)


def _named(actor: "Known") -> str:
    return f"'{escape(actor.label)}' ({actor.actor_id.hex()[:8]})"


def _identity(actor: "Known") -> Iterator[str]:
    """Say what nobody can claim: to be compared with what the actor's owner says."""
    yield f"  id   {actor.actor_id.hex()}"
    yield f"  key  {actor.public_key.hex() if actor.public_key else 'none: it does not sign'}"


def _changed_json(found: "Changed") -> dict[str, object]:
    return {
        "actor_id": found.actor.actor_id.hex(),
        "label": found.actor.label,
        "public_key": found.actor.public_key.hex() if found.actor.public_key else None,
        "changed": found.changed,
        "trusted": [actor_id.hex() for actor_id in found.trusted],
    }


def _policy_hint(workspace: Workspace) -> Iterator[str]:
    """Say so when nothing obeys the lists yet."""
    verify = files.load_config(workspace.repository).get("verify", "off")
    if verify != "require":
        yield (
            f"nothing is held back while verify is '{verify}'; 'grit config set verify require' "
            "changes that"
        )


_HERE: Final = "grit.cli.setup"
actor: Final = LazyGroup(
    "actor",
    commands_at={
        "init": f"{_HERE}:actor_init",
        "list": f"{_HERE}:actor_list",
        "show": f"{_HERE}:actor_show",
        "current": f"{_HERE}:actor_current",
        "use": f"{_HERE}:actor_use",
        "trust": f"{_HERE}:actor_trust",
        "revoke": f"{_HERE}:actor_revoke",
    },
    help="Who acts in this clone.",
    no_args_is_help=True,
)

SETTINGS: Final = {
    "default_actor": "the actor that acts by default (see 'grit actor use')",
    "sync.remote": "the remote that 'grit sync' exchanges events with; origin by default",
    "lock_policy": "what another's lease means to a write: off (default), warn or require",
    "snapshot.events": "new events after which 'grit sync' makes a snapshot (10,000); 0: never",
    "snapshot.days": "days after which 'grit sync' makes a snapshot (7); 0: never",
    "verify": "what becomes of events without a valid signature: off (default), warn or require",
    "sync.auto": "what the server syncs by itself: off (default), pull, push or both",
    "sync.interval_s": "seconds between two pulls of 'sync.auto' (300)",
    "daemon.autostart": "whether a command may start the server: true (default) or false",
    "daemon.idle_s": "seconds without a command after which the server leaves (300)",
    "daemon.debounce_ms": "milliseconds without a change after which the server acts (500)",
}
_NUMBERS: Final = ("snapshot.events", "snapshot.days")
_DIGITS_MAX: Final = 9


@click.command(cls=GritCommand, name="get")
@click.argument("key")
@click.pass_obj
def config_get(run: Context, key: str) -> None:
    """Print one setting."""
    settings = _flat(run.workspace)
    if key not in settings:
        if key not in SETTINGS:
            raise NotFound(f"no setting '{key}'; known: {', '.join(SETTINGS)}")
        raise NotFound(f"'{key}' is not set: {SETTINGS[key]}")
    run.show({"key": key, "value": settings[key]}, lambda: [_shown(settings[key])])


@click.command(
    cls=GritCommand,
    name="set",
    help="Change one setting of this clone.\n\n"
    + "\n\n".join(f"{key}: {meaning}" for key, meaning in SETTINGS.items()),
)
@click.argument("key")
@click.argument("value")
@click.pass_obj
def config_set(run: Context, key: str, value: str) -> None:
    """Change one setting of this clone."""
    if key not in SETTINGS:
        raise InvalidArgs(f"no setting '{key}'; known: {', '.join(SETTINGS)}")
    stored = _checked(run.workspace, key, value)
    files.set_config(run.workspace.repository, key, stored)
    run.show({"key": key, "value": stored}, lambda: [f"{key} = {_shown(stored)}"])


def _shown(value: object) -> str:
    """Return a setting as one types it."""
    return str(value).lower() if isinstance(value, bool) else escape(str(value))


def _checked(workspace: Workspace, key: str, value: str) -> str | int | bool:
    """Return the value as it is stored; raise InvalidArgs or NotFound for a wrong one."""
    if key == "default_actor":
        return actors.find_here(workspace, value).actor_id.hex()
    if key == "lock_policy" and value not in actors.LOCK_POLICIES:
        raise InvalidArgs(f"lock_policy is one of {', '.join(actors.LOCK_POLICIES)}")
    if key in _NUMBERS:
        number = parse_number(value, _DIGITS_MAX)
        if number is None:
            raise InvalidArgs(f"'{key}' needs a whole number of at most {_DIGITS_MAX} digits")
        return number
    if key == "sync.remote" and not value.strip():
        raise InvalidArgs("sync.remote is the name of a remote ('git remote'), a URL or a path")
    if key.startswith("daemon.") or key in ("sync.auto", "sync.interval_s"):
        from grit.services.background import checked

        return checked(key, value)
    if key != "verify":
        return value
    from grit.core.trust import REQUIRE, VERIFY
    from grit.services.policy import refuse_shared

    if value not in VERIFY:
        raise InvalidArgs(f"verify is {', '.join(VERIFY[:-1])} or {VERIFY[-1]}, not '{value}'")
    if value == REQUIRE:
        refuse_shared(workspace)
    return value


@click.command(cls=GritCommand, name="list")
@click.pass_obj
def config_list(run: Context) -> None:
    """Print all settings of this clone."""
    settings = _flat(run.workspace)
    run.show(
        {"settings": settings},
        lambda: [f"{escape(key)} = {_shown(value)}" for key, value in settings.items()],
    )


def _flat(workspace: Workspace) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in files.load_config(workspace.repository).items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": _jsonable(one) for name, one in value.items()})
        else:
            flat[key] = _jsonable(value)
    return flat


def _jsonable(value: object) -> object:
    """Return a value of TOML as JSON can hold it: dates, NaN and infinities as text."""
    if isinstance(value, dict):
        return {name: _jsonable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_jsonable(one) for one in value]
    plain = isinstance(value, (str, int)) or (isinstance(value, float) and isfinite(value))
    return value if plain else str(value)


config: Final = LazyGroup(
    "config",
    commands_at={
        "get": f"{_HERE}:config_get",
        "set": f"{_HERE}:config_set",
        "list": f"{_HERE}:config_list",
    },
    help="Settings of this clone.",
    no_args_is_help=True,
)
