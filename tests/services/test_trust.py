"""Trust: forged, stripped, replayed, reordered, truncated and revoked events, on real logs."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from grit.core import signing
from grit.core.errors import InvalidArgs
from grit.core.events import Event
from grit.core.ids import EventId
from grit.core.trust import Policy
from grit.services import issues, verified, verifying
from grit.services.actors import signer
from grit.services.refresh import rebuild, refresh
from grit.services.write import store, write
from tests.core.builders import ISSUE, NOW_MS, OTHER
from tests.services.clinic import Patient
from tests.services.people import ANN, BOB, EVE, Person, ends_of, forged, stripped
from tests.services.test_trust_orders import write_policy

REQUIRE = Policy("require")
CREATED = ANN.create("The printer is on fire")
TITLE = ANN.write(2, "Renamed", None, ts=NOW_MS + 1)


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    found = Patient(git_repository)
    write_policy(found, REQUIRE)
    return found


def title(patient: Patient) -> str | None:
    """Return the title of the issue as the view has it now."""
    workspace = patient.workspace()
    try:
        row = refresh(workspace).summary(ISSUE)
        return None if row is None else row.title
    finally:
        workspace.close()


def held(patient: Patient) -> dict[EventId, str]:
    workspace = patient.workspace()
    try:
        return {event.event_id: why for event, why in refresh(workspace).held()}
    finally:
        workspace.close()


def shown_anywhere(patient: Patient, text: str) -> list[str]:
    """Return the commands that show the text."""
    commands: tuple[tuple[str, ...], ...] = (
        ("issue", "list", "--all"), ("issue", "show", ISSUE.hex()), ("ready",), ("log", "--all"),
        ("search", text), ("export", "--format", "md"), ("export", "--format", "csv"),
        ("export", "--format", "html"), ("issue", "list", "--json"),
    )  # fmt: skip
    found = []
    for words in commands:
        done = patient.grit(*words)
        assert done.returncode in (0, 3), (words, done.stderr)
        if text in done.stdout:
            found.append(" ".join(words))
    return found


FORGERIES: dict[str, tuple[Event, str]] = {
    "signed with another key": (forged(ANN.write(2, "Pwned", None, ts=NOW_MS + 5)), "invalid"),
    "signature stripped": (stripped(ANN.write(2, "Pwned", None, ts=NOW_MS + 5)), "none"),
    "signature of another event": (
        ANN.write(2, "Pwned", None, ts=NOW_MS + 5)._replace(sig=TITLE.sig),
        "invalid",
    ),
    "key never announced": (EVE.write(2, "Pwned", None, ts=NOW_MS + 5), "unknown_key"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_fault_15_a_forged_change_is_shown_nowhere(patient: Patient, name: str) -> None:
    """No list, page, search, log or export shows it; history and doctor do, and say why."""
    event, reason = FORGERIES[name]
    patient.append(ANN.announce(), CREATED, TITLE)
    patient.append(event)
    assert title(patient) == "Renamed"
    assert held(patient) == {event.event_id: reason}
    assert shown_anywhere(patient, "Pwned") == []
    assert shown_anywhere(patient, "Renamed")
    assert "(held back) set the title" in patient.grit("issue", "history", ISSUE.hex()).stdout
    check = patient.check("trust")
    assert check.status == "warn" and event.event_id.hex()[:8] in check.message
    exported = json.loads(patient.grit("export", "--format", "json").stdout)
    assert event.event_id.hex() in {one["event_id"] for one in exported["events"]}
    assert exported["issues"][0]["title"] == "Renamed"


def test_a_forged_creation_makes_no_issue(patient: Patient) -> None:
    """Everything about an issue that only forgers created stays out of sight, until it is real."""
    patient.append(stripped(CREATED), ANN.announce(), TITLE)
    assert title(patient) is None
    patient.refused("show", ISSUE.hex())
    patient.append(CREATED)
    assert title(patient) == "Renamed"
    assert held(patient) == {}


def test_fault_15_a_key_announced_later(patient: Patient) -> None:
    """Events wait for their key, also in one that arrives unsigned; then they count."""
    patient.append(CREATED, TITLE)
    assert title(patient) is None
    assert set(held(patient).values()) == {"unknown_key"}
    patient.append(stripped(ANN.announce()))
    assert title(patient) == "Renamed"
    assert list(held(patient).values()) == ["none"]


def test_a_false_key_announced_in_an_actors_name(patient: Patient) -> None:
    """A key that does not hash to the actor's id neither lends nor takes validity."""
    false = ANN.write(100, "ann", "", "", EVE.key, issue=ISSUE.__class__(bytes(ANN.actor_id)))
    patient.append(CREATED, forged(false))
    assert title(patient) is None
    patient.append(ANN.announce(), forged(false._replace(sig=None)))
    assert title(patient) == "The printer is on fire"


def test_replayed_events_change_nothing(patient: Patient) -> None:
    """The same events again, and those of another repository, leave the issues as they are."""
    patient.append(ANN.announce(), CREATED, TITLE)
    before = patient.grit("export", "--format", "json").stdout.partition("issues")[2]
    patient.append(TITLE, CREATED)
    patient.append(CREATED)
    assert patient.grit("export", "--format", "json").stdout.partition("issues")[2] == before
    stranger = Person("stranger")
    write_policy(patient, Policy("require", (ANN.actor_id,)))
    patient.append(stranger.announce(), stranger.create("Elsewhere", issue=OTHER))
    assert shown_anywhere(patient, "Elsewhere") == []
    assert set(held(patient).values()) == {"untrusted"}


def test_an_event_left_out_of_the_middle_is_noticed(patient: Patient) -> None:
    """A truncated chain is complete for nobody: doctor names the parent that is missing."""
    cut = Person("cut")
    first, _, last = cut.announce(), cut.create("Hidden"), cut.write(3, "After")
    patient.append(first, last)
    assert "missing from the middle" in patient.check("chain").message


def test_fault_16_a_forked_chain_is_kept_and_told(patient: Patient) -> None:
    """Two events with one parent both count; doctor says that the actor forked."""
    twin = Person("twin")
    first, root = twin.announce(), twin.create("Root")
    left = twin.write(3, "left", parent=root.event_id)
    right = twin.write(3, "right", parent=root.event_id)
    patient.append(first, root, left, right)
    assert held(patient) == {}
    assert len(shown_anywhere(patient, "left")) and len(shown_anywhere(patient, "right"))
    assert "forked its chain" in patient.check("chain").message


def test_revoking_stops_a_stolen_key_whatever_the_time(patient: Patient) -> None:
    """What the chain held before counts; a backdated event of the stolen key does not."""
    mallory = Person("mallory")
    old = [mallory.announce(), mallory.create("Honest"), mallory.write(3, "earlier", ts=NOW_MS + 9)]
    patient.append(*old)
    out = patient.data("actor", "revoke", "mallory")
    assert out["changed"] and out["actor_id"] == mallory.actor_id.hex()
    assert title(patient) == "Honest" and held(patient) == {}
    backdated = mallory.write(2, "Stolen", None, ts=NOW_MS + 1, parent=old[1].event_id)
    rooted = Person("mallory").write(3, "no parent at all", ts=1)
    behind = mallory.write(2, "Stolen too", None, ts=NOW_MS + 2)
    patient.append(backdated, rooted, behind)
    assert title(patient) == "Honest"
    assert set(held(patient).values()) == {"revoked"} and len(held(patient)) == 3
    assert not patient.data("actor", "revoke", "mallory")["changed"]
    assert len(held(patient)) == 3, "the ends must not have moved"
    assert patient.data("actor", "revoke", "mallory", "--remove")["changed"]
    assert title(patient) == "Stolen too" and held(patient) == {}


def test_a_gap_before_the_end_of_a_revoked_chain_may_still_fill(patient: Patient) -> None:
    """An event that a recorded chain names counts whenever it arrives, with all before it."""
    old = Person("old")
    chain = [old.announce(), old.create("First"), old.write(2, "Second", None, ts=NOW_MS + 1)]
    end = old.write(3, "last", ts=NOW_MS + 2)
    write_policy(patient, Policy("require", (), ((old.actor_id, (end.event_id,)),)))
    patient.append(chain[0], chain[1], end)
    assert set(held(patient).values()) == {"revoked"} and len(held(patient)) == 2
    patient.append(chain[2])
    assert title(patient) == "Second" and held(patient) == {}
    assert ends_of([*chain, end]) == (end.event_id,)


def test_the_list_of_allowed_actors(patient: Patient) -> None:
    """Only those on it and the actors of this clone count; an empty one lets everybody."""
    patient.data("init")
    mine = patient.data("new", "Mine")["issue_id"]
    patient.append(
        ANN.announce(), CREATED, BOB.announce(), BOB.write(2, "Bob's", None, ts=NOW_MS + 9)
    )
    assert title(patient) == "Bob's"
    assert patient.data("actor", "trust", "ann")["trusted"] == [ANN.actor_id.hex()]
    assert title(patient) == "The printer is on fire"
    assert patient.data("show", mine)["issue"]["title"] == "Mine"
    listed = {one["label"]: one for one in patient.data("actor", "list")["actors"]}
    assert (listed["ann"]["trusted"], listed["bob"]["trusted"]) == (True, False)
    patient.data("actor", "trust", BOB.actor_id.hex()[:10])
    assert title(patient) == "Bob's"
    patient.data("actor", "trust", "bob", "--remove")
    patient.data("actor", "trust", "ann", "--remove")
    assert title(patient) == "Bob's" and held(patient) == {}
    assert "nobody called" in patient.refused("actor", "trust", "zoe")


def test_an_actor_made_later_is_one_of_this_clone(patient: Patient) -> None:
    """Own actors always count, also one that is made while the list is in force."""
    patient.data("init")
    patient.data("new", "First")
    patient.append(ANN.announce())
    patient.data("actor", "trust", "ann")
    patient.data("actor", "init", "--label", "second", "--use")
    issue_id = patient.data("new", "By the second")["issue_id"]
    assert patient.data("show", issue_id)["issue"]["title"] == "By the second"
    assert held(patient) == {}


def test_two_actors_with_one_label_are_told_apart(patient: Patient) -> None:
    """A label is a claim: where two have it, only an id names one."""
    patient.append(ANN.announce(), EVE.announce("ann"))
    said = patient.refused("actor", "trust", "ann")
    assert ANN.actor_id.hex()[:12] in said and EVE.actor_id.hex()[:12] in said


def test_a_keyless_actor_cannot_write_under_require(patient: Patient) -> None:
    """Success must not mean an event that nobody sees: refused, with the way out."""
    patient.data("init", "--no-key")
    said = patient.refused("new", "Unseen")
    assert "has no key" in said and "grit actor init --use" in said
    assert patient.data("issue", "list")["total"] == 0
    patient.data("actor", "init", "--label", "keyed", "--use")
    patient.data("new", "Seen")
    patient.data("actor", "revoke", "keyed")
    assert "was revoked" in patient.refused("new", "Unseen")


def test_warn_shows_everything_and_says_what_is_wrong(patient: Patient) -> None:
    """Under warn all events count; the catch-up tells once, doctor lists."""
    write_policy(patient, Policy("warn"))
    patient.append(ANN.announce(), CREATED)
    assert title(patient) == "The printer is on fire"
    patient.append(stripped(TITLE), forged(BOB.write(3, "x"), EVE))
    done = patient.grit("issue", "list")
    assert "Renamed" in done.stdout and "events that are not in order" in done.stderr
    assert patient.grit("issue", "list").stderr == ""
    check = patient.check("trust")
    assert check.status == "warn" and "would hold back 2 events" in check.message


@pytest.mark.parametrize(
    "broken",
    [
        'verify = "sometimes"',
        'verify = "warn"\ntrusted = [1]',
        'verify = "warn"\nrevoked = "x"',
        'verify = "warn"\n[revoked]\nann = ["00"]',
    ],
)
def test_settings_that_do_not_say_who_counts(patient: Patient, broken: str) -> None:
    """The policy stays as it was, with a notice; without one the command is refused."""
    patient.append(ANN.announce(), CREATED, stripped(TITLE))
    assert title(patient) == "The printer is on fire"
    config = patient.git_dir / "grit/config.toml"
    good = config.read_text()
    config.write_text(broken)
    done = patient.grit("issue", "list")
    assert done.returncode == 0 and "stays as it was" in done.stderr
    assert "The printer is on fire" in done.stdout
    assert patient.check("settings").status == "error"
    shutil.rmtree(patient.git_dir / "grit/view")
    patient.refused("issue", "list")
    config.write_text(good)
    assert title(patient) == "The printer is on fire"


def test_require_is_refused_in_a_log_without_signatures(patient: Patient) -> None:
    """A log that other tools write is unsigned: require would hide all of it."""
    (patient.git_dir / "grit/config.toml").unlink()
    patient.append(ANN.announce(), CREATED)
    patient.git("update-ref", "refs/grite/wal", "refs/grit/wal")
    patient.git("update-ref", "-d", "refs/grit/wal")
    said = patient.refused("config", "set", "verify", "require")
    assert "does not sign" in said and "verify warn" in said
    write_policy(patient, REQUIRE)
    with pytest.raises(InvalidArgs, match="does not sign"):
        title(patient)


# What was verified before


class Counted:
    """Counts the signatures that are verified."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        whole = verifying.Verifier.verify

        def verify(one: verifying.Verifier, signed: Any) -> bytes:
            self.count += len(signed)
            return whole(one, signed)

        patch.setattr(verifying.Verifier, "verify", verify)

    def of(self, patient: Patient, *, again: bool = False) -> int:
        self.count = 0
        workspace = patient.workspace()
        rebuild(workspace) if again else refresh(workspace)
        workspace.close()
        return self.count


def test_verification_is_paid_once(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catching up verifies what is new, a rebuild what lies after the record, a switch nothing."""
    counted = Counted(monkeypatch)
    patient.append(ANN.announce(), CREATED, forged(TITLE))
    assert counted.of(patient) == 3
    assert counted.of(patient) == 0
    assert counted.of(patient, again=True) == 0
    assert held(patient) == {TITLE.event_id: "invalid"}
    patient.append(TITLE)
    assert counted.of(patient) == 1
    assert counted.of(patient, again=True) == 0
    assert title(patient) == "Renamed" and held(patient) == {}
    for policy in (Policy("warn"), Policy(), Policy("require", (ANN.actor_id,))):
        write_policy(patient, policy)
        assert counted.of(patient) == 0
    patient.append(ANN.write(3, "more"))
    shutil.rmtree(patient.git_dir / "grit/view")
    assert counted.of(patient) == 1


def test_an_own_append_is_not_verified(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has just signed it; an import is verified, since others made it."""
    counted = Counted(monkeypatch)
    patient.data("init")
    workspace = patient.workspace()
    write(workspace, lambda t: issues.create(t, OTHER, "Own"), lambda change: change.subject)
    assert counted.count == 0
    assert list(refresh(workspace).held()) == [] and counted.count == 0
    author = signer(workspace)
    store(workspace, [ANN.announce(), CREATED, forged(TITLE)], "import", author)
    assert counted.count == 3
    assert "held back: 1 with a wrong signature" in patient.notices[-1]
    workspace.close()
    assert title(patient) == "The printer is on fire"
    assert held(patient) == {TITLE.event_id: "invalid"}


def test_a_shipped_or_stale_record_is_not_believed(patient: Patient) -> None:
    """A record that says that all was verified, made elsewhere, costs time and changes nothing."""
    patient.append(ANN.announce(), CREATED, forged(TITLE))
    workspace = patient.workspace()
    head = workspace.wal.head()
    assert head is not None
    verified.save(workspace, head, [])
    folder = patient.git_dir / "grit"
    assert verified.load(workspace) is not None
    for name in ("verified", "verified-mark"):
        shutil.copy2(folder / name, folder / f"{name}.copy")
        os.replace(folder / f"{name}.copy", folder / name)
    assert verified.load(workspace) is None
    assert title(patient) == "The printer is on fire"
    assert held(patient) == {TITLE.event_id: "invalid"}
    for junk in (b"", b"\xff", b"\x83\x01\x61x\x80"):
        (folder / "verified").write_bytes(junk)
        shutil.rmtree(folder / "view")
        assert held(patient) == {TITLE.event_id: "invalid"}
    workspace.close()


def test_a_record_of_another_log_is_not_used(patient: Patient) -> None:
    """It holds for logs that contain its head: a log that was replaced is verified anew."""
    first = patient.append(ANN.announce(), CREATED)
    assert title(patient) == "The printer is on fire"
    patient.git("update-ref", "-d", "refs/grit/wal", first.head)
    patient.append(ANN.announce(), CREATED, forged(TITLE))
    assert title(patient) == "The printer is on fire"
    assert held(patient) == {TITLE.event_id: "invalid"}


def test_what_could_not_be_read_was_not_verified(patient: Patient) -> None:
    """A chunk that was missing and comes back is verified then: nothing slips in by a repair."""
    appended = patient.append(ANN.announce(), CREATED)
    bad = patient.append(forged(TITLE))
    assert appended.head != bad.head
    (blob,) = (
        line.split()[0]
        for line in patient.git(
            "rev-list", "--objects", f"{appended.head}..{bad.head}"
        ).splitlines()
        if line.endswith(".bin")
    )
    path = patient.loose(blob)
    kept = path.read_bytes()
    path.unlink()
    assert title(patient) == "The printer is on fire"
    workspace = patient.workspace()
    record = verified.load(workspace)
    assert record is None or record.head != bad.head
    patient.append(ANN.write(3, "more", ts=NOW_MS + 2))
    assert title(patient) == "The printer is on fire"
    path.write_bytes(kept)
    rebuild(workspace)
    workspace.close()
    assert held(patient) == {TITLE.event_id: "invalid"}


def test_many_are_verified_by_helpers_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions, helpers that die, and none at all give the same answers in the same order."""
    from grit.services import forked

    event = ANN.write(3, "x")
    good = ANN.key + (event.sig or b"") + event.event_id
    rows = [good if n % 3 else good[:-1] + b"\0" for n in range(600)]
    wanted = signing.are_valid(b"".join(rows))
    monkeypatch.setattr(verifying, "PORTION", 70)
    for can in (True, False):
        monkeypatch.setattr(forked, "can_fork", lambda can=can: can)
        verifier = verifying.Verifier()
        try:
            assert verifier.verify(rows) == wanted
            assert verifier.verify(rows[:5]) == wanted[:5]
        finally:
            verifier.close()
