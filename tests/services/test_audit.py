"""Rules across rooms: signatures that others tamper with, shared logs, parents."""

import json
import subprocess
from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core.events import Event
from grit.core.ids import IssueId
from grit.services.refresh import refresh
from tests.core.builders import event
from tests.services.clinic import Patient

COMPAT = Path(__file__).parents[1] / "compat"


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    return Patient(git_repository)


def _creation(patient: Patient) -> Event:
    workspace = patient.workspace()
    try:
        events = list(refresh(workspace).all_events())
    finally:
        workspace.close()
    return next(one for one in events if one.tag == kinds.ISSUE_CREATED)


def _status(patient: Patient, issue: str) -> str:
    return str(patient.data("issue", "history", issue)["events"][0]["signature"])


@pytest.mark.parametrize("sig", [bytes(64), b"\xff" * 64, None])
def test_fault_15_a_bad_copy_does_not_displace_a_good_signature(
    patient: Patient, sig: bytes | None
) -> None:
    """Of copies the valid one stays in the view, whether caught up with or rebuilt."""
    issue = patient.data("new", "one")["issue_id"]
    good = _creation(patient)
    patient.append(good._replace(sig=sig))
    assert _status(patient, issue) == "valid"
    exported = json.loads(patient.grit("export").stdout)["events"]
    assert good.sig is not None and good.sig.hex() in [one["sig"] for one in exported]
    patient.data("rebuild")
    assert _status(patient, issue) == "valid"


def test_fault_15_a_false_announcement_does_not_take_the_key_away(patient: Patient) -> None:
    """The key that certifies an actor counts, whatever is announced in the actor's name later."""
    issue = patient.data("new", "one")["issue_id"]
    good = _creation(patient)
    actor = good.actor_id
    for number, key in enumerate((None, bytes(32)), 1):
        forged = event(
            kinds.ACTOR_ANNOUNCED, "x", "", "", key,
            issue=IssueId(bytes(actor)), actor=actor, ts=good.ts_unix_ms + number,
        )  # fmt: skip
        patient.append(forged)
        assert _status(patient, issue) == "valid"
        assert "opened by Ann Example" in patient.grit("show", issue).stdout


def test_a_shared_log_has_no_gap_where_an_announcement_was_left_out(patient: Patient) -> None:
    """In the dialect "grite" an actor is not announced, and nothing names such an event."""
    bundle = COMPAT / "rust-grite-gritecnk.bundle"
    subprocess.run(
        ["git", "-C", str(patient.folder), "fetch", "-q", str(bundle), "refs/grite/*:refs/grite/*"],
        check=True, timeout=30,
    )  # fmt: skip
    issue = patient.data("new", "one")["issue_id"]
    patient.data("comment", issue, "-b", "text")
    first, second = patient.data("issue", "history", issue)["events"]
    assert (first["parent"], second["parent"]) == (None, first["event_id"])
    assert patient.trouble().get("chain") is None


def test_an_issue_is_not_made_a_part_of_itself(patient: Patient) -> None:
    """A parent that would close a circle is refused with the circle, in one command or over two."""
    one = patient.data("new", "one")["issue_id"]
    two = patient.data("new", "two", "--parent", one)["issue_id"]
    assert "part of itself" in patient.refused("issue", "update", one, "--parent", one)
    assert "part of itself" in patient.refused("issue", "update", one, "--parent", two)
    patient.data("issue", "update", two, "--parent", "")
    patient.data("issue", "update", one, "--parent", two)


def test_candidates_of_an_ambiguous_prefix_are_told_apart(patient: Patient) -> None:
    """What a refusal shows is enough to type, however much the ids share."""
    ids = [bytes.fromhex("abcdef1234567890") + bytes(7) + bytes((last,)) for last in (1, 2)]
    patient.append(*(event(kinds.ISSUE_CREATED, "T", "", (), issue=IssueId(one)) for one in ids))
    said = patient.refused("show", "abcdef")
    assert all(f"{one.hex()} T" in said for one in ids)


def test_fault_19_a_parent_that_is_no_id_is_shown_escaped(patient: Patient) -> None:
    """A field `parent` is text that anybody may have written: no terminal obeys it."""
    issue = IssueId(b"\x01" * 16)
    patient.append(
        event(kinds.ISSUE_CREATED, "T", "", (), issue=issue),
        event(kinds.FIELD_SET, "parent", "\x1bc\u202e", issue=issue),
    )
    shown = patient.grit("show", issue.hex()).stdout
    assert "has not arrived" in shown
    assert "\x1b" not in shown and "\u202e" not in shown


def test_a_refused_write_makes_no_actor(patient: Patient) -> None:
    """REFUSE means that nothing changed: a command that finds no issue makes no key either."""
    assert patient.grit("close", "abcd").returncode == 3
    assert not (patient.git_dir / "grit" / "actors").exists()
