"""The policy for signatures, as the settings of this clone state it (spec/trust.md, Settings)."""

from typing import TYPE_CHECKING, Final

from grit.core.errors import InvalidArgs
from grit.core.ids import ActorId, EventId, parse_hex
from grit.core.limits import EVENT_ID_BYTES, ID_BYTES
from grit.core.trust import OFF, REQUIRE, VERIFY, Policy
from grit.git import actors as files
from grit.git.actors import ConfigDamaged, Setting, Settings
from grit.services.workspace import Workspace

if TYPE_CHECKING:
    from grit.services.actors import Signer

TRUSTED: Final = "trusted"
"""The list of allowed actors."""
REVOKED: Final = "revoked"
"""The table of revoked actors, each with the ends of its chain."""


def load_policy(workspace: Workspace) -> Policy:
    """Return the policy in force.

    Raises ConfigDamaged or IoFailed when the settings do not say, InvalidArgs when the log cannot
    hold signatures.
    """
    settings = files.load_config(workspace.repository)
    verify = settings.get("verify", OFF)
    if verify not in VERIFY:
        raise ConfigDamaged(f"'verify' in the settings is {verify!r}, not {', '.join(VERIFY)}")
    if verify == OFF:
        return Policy()
    if verify == REQUIRE:
        refuse_shared(workspace)
    allowed = allowed_actors(settings)
    if allowed:
        allowed |= set(files.list_actor_ids(workspace.repository))
    return Policy(str(verify), tuple(sorted(allowed)), tuple(sorted(revoked_actors(settings))))


def refuse_shared(workspace: Workspace) -> None:
    """Raise InvalidArgs where the log is one that other tools write: none of it is signed."""
    if workspace.wal.dialect.shared:
        raise InvalidArgs(
            "this log is shared with a tool that does not sign, so that verify = require would "
            "hide every issue; 'grit config set verify warn' shows them all and says what is wrong"
        )


def refuse_author(policy: Policy, author: "Signer") -> None:
    """Raise InvalidArgs when what this actor writes would not count here."""
    if not policy.requires:
        return
    advice = "'grit actor list' shows who can write, 'grit actor init --use' makes a new actor"
    if author.seed is None:
        raise InvalidArgs(
            f"only signed events count here (verify = require), and the actor '{author.label}' "
            f"has no key; {advice}"
        )
    if any(author.actor_id == actor_id for actor_id, _ in policy.revoked):
        raise InvalidArgs(f"the actor '{author.label}' was revoked in this clone; {advice}")


def allowed_actors(settings: Settings) -> set[ActorId]:
    """Return the actors on the list; raise ConfigDamaged when it is none."""
    return {ActorId(value) for value in _ids(settings.get(TRUSTED, []), ID_BYTES, TRUSTED)}


def revoked_actors(settings: Settings) -> list[tuple[ActorId, tuple[EventId, ...]]]:
    """Return the revoked actors with the ends of their chains; raise ConfigDamaged."""
    table = settings.get(REVOKED, {})
    if not isinstance(table, dict):
        raise ConfigDamaged(f"'{REVOKED}' in the settings is not a table; mend it by hand")
    found = []
    for name, ends in table.items():
        (actor_id,) = _ids([name], ID_BYTES, REVOKED)
        ids = sorted(EventId(value) for value in _ids(ends, EVENT_ID_BYTES, REVOKED))
        found.append((ActorId(actor_id), tuple(ids)))
    return found


def _ids(values: Setting, size: int, what: str) -> list[bytes]:
    given = values if isinstance(values, list) else [None]
    found = [known for value in given if (known := parse_hex(value, size)) is not None]
    if len(found) != len(given):
        raise ConfigDamaged(
            f"'{what}' in the settings holds something that is no id of {size * 2} hex digits; "
            "mend it by hand"
        )
    return found
