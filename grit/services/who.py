"""Which actors a typed text means: ids before names, one place for all (spec/trust.md, Names)."""

from collections.abc import Iterable
from typing import NamedTuple

from grit.core.errors import InvalidArgs, NotFound
from grit.core.ids import ActorId, id_digits, is_name, parse_prefix, plain, user_name
from grit.core.query import ME
from grit.git.actors import ActorFile
from grit.view.reader import ViewReader


class Known(NamedTuple):
    """An actor that this clone or its log knows; all but id and key is what it claims."""

    actor_id: ActorId
    label: str
    name: str = ""
    email: str = ""
    public_key: bytes | None = None
    here: bool = False
    """It is of this clone, and so its label is no claim of somebody else."""

    @property
    def names(self) -> tuple[str, str, str]:
        """Everything that it calls itself."""
        return self.label, self.name, self.email


def of_log(reader: ViewReader) -> list[Known]:
    """Return everybody who wrote something, by id."""
    return [
        Known(one.actor_id, one.label or one.name, one.name, one.email, one.public_key)
        for one in reader.actors()
    ]


def of_file(actor: ActorFile) -> Known:
    """Return an actor of this clone."""
    return Known(actor.actor_id, actor.label, public_key=actor.public_key, here=True)


def everybody(reader: ViewReader, here: Iterable[ActorFile]) -> list[Known]:
    """Return the actors of the log and those of this clone, which are called as it says."""
    known = {one.actor_id: one for one in of_log(reader)}
    for actor in here:
        _, _, name, email, *_ = known.get(actor.actor_id, Known(actor.actor_id, ""))
        known[actor.actor_id] = of_file(actor)._replace(name=name, email=email)
    return list(known.values())


def told_apart(known: Iterable[Known]) -> list[Known]:
    """Return the actors with what tells them apart: own ones share a name and an e-mail address."""
    return [one._replace(name="", email="") if one.here else one for one in known]


def is_me(text: str) -> bool:
    """Return whether the text means whoever acts."""
    return plain(text) == ME


def by_id(text: str, known: Iterable[Known]) -> list[Known]:
    """Return those whose ids begin with the text, if it may be the beginning of one."""
    digits = id_digits(text)
    return [one for one in known if one.actor_id.hex().startswith(digits)] if digits else []


def meant(text: str, known: Iterable[Known], me: ActorId | None) -> list[Known]:
    """Return whom the text means: "@me", an id or its beginning, else everybody of that name.

    Where it looks like an id, no name counts; a few letters count as a name where no id begins so.
    """
    known = list(known)
    if is_me(text):
        return [one for one in known if one.actor_id == me]
    found = by_id(text, known)
    if found or not is_name(text):
        return found
    return [one for one in known if text in one.names]


def the_one(text: str, known: Iterable[Known], me: ActorId | None, nobody: str) -> Known:
    """Return the one actor that the text means; `nobody` is said where there is none.

    Raises NotFound, or InvalidArgs with the full ids where there are several, or others whose
    names look alike: whatever an actor calls itself is a claim.
    """
    known = told_apart(known)
    found = meant(text, known, me)
    if not found:
        if is_me(text):
            raise NotFound("'@me' is nobody yet: run 'grit init', or name the actor")
        _refuse_digits(text)
        raise NotFound(nobody)
    if found != by_id(text, known) and not is_me(text):
        seen = plain(text)
        found = [one for one in known if one in found or seen in map(plain, one.names)]
    if len(found) > 1:
        raise several(text, found)
    return found[0]


def several(text: str, found: Iterable[Known]) -> InvalidArgs:
    """Return the refusal of a text that means, or looks like a name of, several actors."""
    ids = sorted(one.actor_id.hex() for one in found)
    return InvalidArgs(
        f"'{text}' names {len(ids)} actors; give the id: {', '.join(ids)}", candidates=ids
    )


def _refuse_digits(text: str) -> None:
    """Raise InvalidArgs for what may be meant as an id and can be none."""
    digits = plain(text).removeprefix("#")
    if digits and set("0123456789abcdef").issuperset(digits):
        parse_prefix(digits, what="actor id")


def assigned_to(actor: Known) -> tuple[str, str]:
    """Return the user names that mean the actor: what issues are assigned to, and its full id."""
    return user_name(actor.label, actor.actor_id), actor.actor_id.hex()


def user_meant(text: str, known: Iterable[Known]) -> str:
    """Return the user name to assign to: of the actor whose id the text begins, else the text.

    Raises InvalidArgs where the ids of several begin so.
    """
    found = by_id(text, known)
    if len(found) > 1:
        raise several(text, found)
    return assigned_to(found[0])[0] if found else text
