"""Names that deceive: an id always means the id, wherever a person is typed (spec/trust.md)."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core.errors import GritError, InvalidArgs, NotFound
from grit.core.ids import ActorId, IssueId, is_name
from grit.git import actors as files
from grit.git import snapshots
from grit.services import actors, issues, leases, listing, trust, who
from grit.services.batch import run_batch
from grit.services.issues import Change
from grit.services.listing import Asked
from grit.services.refresh import refresh
from grit.services.snapshots import find
from grit.services.who import Known
from grit.services.workspace import Ports, Workspace, open_workspace
from grit.services.write import Transaction, write
from tests.core.builders import ISSUE, NOW_MS, OTHER
from tests.services.clinic import Patient
from tests.services.people import ANN, BOB, Person

TOP = Path(__file__).resolve().parents[2]
ID = ANN.actor_id.hex()
SPELLINGS = {
    "the whole id": ID,
    "8 digits": ID[:8],
    "12 digits": ID[:12],
    "7 digits": ID[:7],
    "capitals": ID[:8].upper(),
    "a number sign": f"#{ID[:8]}",
    "a blank before": f" {ID[:12]}",
    "a no-break space within": f"{ID[:6]}\u00a0{ID[6:12]}",
    "an ideographic space": f"{ID[:12]}\u3000",
    "what is not seen": f"{ID[:4]}\u200b{ID[4:12]}\ufeff",
    "a direction mark": f"\u202a{ID[:12]}",
    "marks and fillers": f"{ID[:8]}\U00013430\U0001d159\u2d7f\U0001107f\ufffc",
    "full width": "".join(chr(ord(char) + 0xFEE0) for char in ID[:12]),
}
UNKNOWN = ("f0" * 16, "f0f0f0f0", "F0F0F0F0", "f0f0\u200bf0f0", ID + "0", ID * 2)
"""Ids that nobody has here, and what is too long to be one."""
ME = "@me"


@pytest.fixture
def workspace(git_repository: Path) -> Iterator[Workspace]:
    """Ann wrote an issue; of each spelling of her id somebody is called, who wrote one too."""
    patient = Patient(git_repository)
    found = [ANN.announce(), ANN.create("of Ann")]
    for number, label in enumerate([*SPELLINGS.values(), *UNKNOWN, ME, "@me\u200b", ""]):
        eve = Person(f"eve {number}")
        about = IssueId(bytes([number + 1]) + b"\x77" * 15)
        found += [eve.announce(label), eve.create(f"of {label}", issue=about)]
        if label not in ("", ID):  # assigned to the whole id is assigned to Ann
            found.append(eve.write(kinds.ASSIGNEE_ADDED, label, issue=about))
    patient.append(*found)
    opened = patient.workspace()
    yield opened
    opened.close()


def authors(workspace: Workspace, asked: Asked) -> set[ActorId]:
    return {row.author for row in listing.page(workspace, asked, default_state="").rows}


def assignees(workspace: Workspace, *names: str) -> set[str]:
    """Assign, and return who stands on the issue then."""

    def work(transaction: Transaction) -> Change:
        return issues.assign(transaction, ISSUE.hex(), add=names)

    write(workspace, work, lambda one: one.subject)
    return set(listing.whole_issue(workspace, ISSUE.hex()).summary.assignees)


def created(workspace: Workspace, name: str) -> set[str]:
    def work(transaction: Transaction) -> Change:
        return issues.create(transaction, OTHER, "new", assignees=[name])

    write(workspace, work, lambda one: one.subject)
    return set(listing.whole_issue(workspace, OTHER.hex()).summary.assignees)


def batched(workspace: Workspace, name: str) -> set[str]:
    line = {"op": "assign", "issue": ISSUE.hex(), "add": [name]}
    run_batch(workspace, [json.dumps(line).encode()])
    return set(listing.whole_issue(workspace, ISSUE.hex()).summary.assignees)


def quoted(key: str, text: str) -> Asked:
    return Asked(f'{key}:"{text}"')


MEANS: dict[str, Callable[[Workspace, str], set[ActorId]]] = {
    "trust and revoke": lambda w, text: {trust.find_actor(w, refresh(w), text).actor_id},
    "--author": lambda w, text: authors(w, Asked(author=text)),
    "author:": lambda w, text: authors(w, quoted("author", text)),
    "log --actor": lambda w, text: set(listing.people_called(w, refresh(w), text)),
}
"""Where a typed text means actors."""
ASSIGNS = {"assign": assignees, "create": created, "batch": batched}


@pytest.mark.parametrize("place", MEANS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_means_the_id(spelling: str, place: str, workspace: Workspace) -> None:
    """However an id is spelt, it means its actor and no other, whatever others are called."""
    assert MEANS[place](workspace, SPELLINGS[spelling]) == {ANN.actor_id}


@pytest.mark.parametrize("place", MEANS)
@pytest.mark.parametrize("text", [*UNKNOWN, ME, "@ME", "@me\u200b", ""], ids=ascii)
def test_what_looks_like_an_id_means_no_name(text: str, place: str, workspace: Workspace) -> None:
    """An id that nobody has here, "@me" before there is one, and nothing at all mean nobody."""
    try:
        assert MEANS[place](workspace, text) == set()
    except (NotFound, InvalidArgs) as refused:
        assert refused.message


@pytest.mark.parametrize("place", ASSIGNS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_assigns_its_actor(spelling: str, place: str, workspace: Workspace) -> None:
    """Who is assigned by id is assigned under its own name, and found by name, id and spelling."""
    text = SPELLINGS[spelling]
    assert ASSIGNS[place](workspace, text) == {"ann"}
    for asked in (Asked(assignee=text), quoted("assignee", text), Asked(assignee="ann")):
        found = listing.page(workspace, asked)
        assert [row.assignees for row in found.rows] == [("ann",)]


def test_an_assignee_by_id_is_taken_off_by_id(workspace: Workspace) -> None:
    """Off goes the actor's user name, and also what stands there as it was typed."""
    assert assignees(workspace, ID[:8], "carl") == {"ann", "carl"}

    def work(transaction: Transaction) -> Change:
        return issues.assign(transaction, ISSUE.hex(), remove=[ID, "carl"])

    change, _ = write(workspace, work, lambda one: one.subject)
    assert listing.whole_issue(workspace, ISSUE.hex()).summary.assignees == ()
    assert change.data["assignee"] == ["ann", "carl", ID]


def test_a_label_like_an_id_is_never_shown_or_stored(workspace: Workspace) -> None:
    """Whoever is called like an id appears under its own id, in lists, exports and assignments."""
    from grit.cli.names import name_of
    from grit.core.lease import Lease, parse_resource
    from grit.services.export import people

    reader = refresh(workspace)
    for one in who.of_log(reader):
        shown = {name_of(reader, one.actor_id), people(reader)(one.actor_id)}
        lease = Lease(parse_resource("repo:x"), one.actor_id, "n", NOW_MS, 1)
        shown.add(leases.name_of(reader, lease).partition(" (")[0])
        if is_name(one.label):
            assert shown == {one.label}
        else:
            assert all(one.actor_id.hex().startswith(text) for text in shown), (one.label, shown)
            assert who.assigned_to(one)[0] == one.actor_id.hex()


def known(*claims: tuple[str, str, str]) -> list[Known]:
    return [Known(ActorId(bytes([n + 1]) * 16), *names) for n, names in enumerate(claims)]


AMBIGUOUS = {
    "one label twice": [("ann", "", ""), ("ann", "", "")],
    "a label that is another's name": [("ann", "", ""), ("ae", "ann", "")],
    "a label that is another's address": [("ann", "", ""), ("ae", "", "ann")],
    "another case": [("ann", "", ""), ("Ann", "", "")],
    "what is not seen": [("ann", "", ""), ("a\u200bnn", "", "")],
    "a blank": [("ann", "", ""), ("ann\u00a0", "", "")],
    "another width": [("ann", "", ""), ("ａｎｎ", "", "")],
}


@pytest.mark.parametrize("claims", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_changes_trust_refuses_names_that_look_alike(
    claims: list[tuple[str, str, str]],
) -> None:
    """A name that fits another actor too, to the eye, names nobody: the full ids are told."""
    people = known(*claims)
    with pytest.raises(InvalidArgs) as refused:
        who.the_one("ann", people, None, "nobody")
    for one in people:
        assert one.actor_id.hex() in refused.value.message
    assert who.the_one("01010101", people, None, "nobody") == people[0]


def test_a_beginning_of_two_ids_names_nobody() -> None:
    """Keys are made until their ids begin alike: then all digits are told."""
    ids = (ActorId(b"\xab" * 15 + b"\x01"), ActorId(b"\xab" * 15 + b"\x02"))
    people = [Known(one, "ann") for one in ids]
    for ask in (
        lambda: who.the_one("ab" * 15, people, None, ""),
        lambda: who.user_meant("abab", people),
    ):
        with pytest.raises(InvalidArgs, match="ab01, .*ab02"):
            ask()


def test_an_actor_of_this_clone_is_assigned_by_its_id_before_it_wrote(
    git_repository: Path,
) -> None:
    """Its user name is stored, and finds the issue; a damaged actor beside it hinders nobody."""
    workspace = Patient(git_repository).workspace()
    create, repository = files.create_actor, workspace.repository
    create(repository, ANN.actor_id, "ann", NOW_MS, ANN.key, ANN.seed)
    create(repository, BOB.actor_id, "robot", NOW_MS, BOB.key, BOB.seed)
    files.set_config(repository, "default_actor", ANN.actor_id.hex())
    broken = Path(files.actor_folder(repository, BOB.actor_id).path).parent / ("0f" * 16)
    broken.mkdir()
    (broken / "config.toml").write_text("junk [")
    digits = BOB.actor_id.hex()[:8]

    def work(transaction: Transaction) -> Change:
        return issues.create(transaction, ISSUE, "for robot", assignees=[digits, "@ME"])

    try:
        write(workspace, work, lambda one: one.subject)
        (row,) = listing.page(workspace, Asked(assignee=digits)).rows
        assert row.assignees == ("ann", "robot")
    finally:
        workspace.close()


def test_a_few_letters_are_a_name_where_no_id_begins_so() -> None:
    """Ebba is called so, unless an id begins with ebba: then the id is meant."""
    ebba = Known(ActorId(b"\x11" * 16), "Ebba")
    other = Known(ActorId(b"\xeb\xba" * 8), "eve")
    assert who.the_one("Ebba", [ebba], None, "") == ebba
    assert who.the_one("Ebba", [ebba, other], None, "") == other
    assert who.user_meant("Ebba", [ebba]) == "Ebba"
    assert who.user_meant("Ebba", [ebba, other]) == "eve"


def test_own_actors_are_told_apart_by_their_labels() -> None:
    """The actors of one clone share its user's name and address; that makes none ambiguous."""
    mine = [
        Known(ActorId(bytes([n]) * 16), label, "Ann Example", "ann@example.org", None, True)
        for n, label in enumerate(("Ann Example", "bot"), 1)
    ]
    assert who.the_one("Ann Example", mine, None, "").label == "Ann Example"
    with pytest.raises(InvalidArgs):
        who.the_one("Ann Example", [*mine, *known(("eve", "ann example", ""))], None, "")


@pytest.mark.parametrize("way", ["use", "GRIT_ACTOR"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_own_actors_by_id(spelling: str, way: str, git_repository: Path) -> None:
    """`use`, `show`, default_actor and GRIT_ACTOR find the actor of an id, not one called so."""
    text = SPELLINGS[spelling]
    patient = Patient(git_repository)
    workspace = patient.workspace()
    create = files.create_actor
    create(workspace.repository, ANN.actor_id, "ann", NOW_MS, ANN.key, ANN.seed)
    create(workspace.repository, BOB.actor_id, text, NOW_MS, BOB.key, BOB.seed)
    if way == "use":
        assert actors.find_here(workspace, text).actor_id == ANN.actor_id
        actors.use(workspace, actors.find_here(workspace, "ann"))
        assert actors.find_here(workspace, ME).actor_id == ANN.actor_id
    else:
        ports = Ports({**os.environ, "GRIT_ACTOR": text}, lambda: NOW_MS, os.urandom)
        acting = actors.current(open_workspace(str(git_repository), ports))
        assert acting is not None
        assert acting.actor_id == ANN.actor_id
        with pytest.raises(NotFound):
            actors.find(workspace, ME)


@pytest.mark.parametrize(
    "label",
    [*SPELLINGS.values(), ME, "@Me", "-x", "--help", "a\u200bb", "\x1b[31m", " ", "a\u202eb"],
    ids=ascii,
)
def test_no_actor_is_made_with_such_a_label(label: str, git_repository: Path) -> None:
    """Who is called like an id, an option, "@me" or with what is not seen would deceive others."""
    workspace = Patient(git_repository).workspace()
    with pytest.raises(GritError):
        actors.create(workspace, label=label)
    assert files.list_actors(workspace.repository) == []


def test_a_snapshot_by_id_comes_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote that calls a snapshot like another's commit takes nothing over; two mean none."""
    told = "refs/grit-remotes/evil/snapshots/"
    shots = [
        snapshots.Snapshot("b" * 40, (f"{told}{'a' * 12}", f"{told}1700"), 0, None),
        snapshots.Snapshot(
            "a" * 40, ("refs/grit/snapshots/1700", "refs/grit/snapshots/9"), 0, None
        ),
    ]
    monkeypatch.setattr(snapshots, "list_snapshots", lambda _repository: shots)
    for text in ("a" * 12, "a" * 40, "9", "refs/grit/snapshots/1700"):
        assert find(workspace, text) == "a" * 40
    assert find(workspace, f"{told}1700") == "b" * 40
    with pytest.raises(InvalidArgs, match="names 2 snapshots"):
        find(workspace, "1700")
    with pytest.raises(NotFound):
        find(workspace, "a" * 6)


def test_nobody_else_compares_names() -> None:
    """Only `grit/services/who.py` looks up actors by what they are called, or by digits."""
    compares = re.compile(r"\.label\b (==|in)|(==|in \(?)\s?\w+\.label\b|actor_id\.hex\(\)\.starts")
    found = {
        path.name
        for path in (TOP / "grit").rglob("*.py")
        for line in path.read_text().splitlines()
        if compares.search(line)
    }
    assert found == {"who.py"}
