"""Doctor: every check with its fault made for real, and what --fix may and may not do."""

import json
import os
import time
from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core import signing
from grit.core.codec import encode_chunk, encode_record
from grit.core.events import Event
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.limits import CLOCK_AHEAD_MS_MAX
from grit.services import refresh, survey
from grit.view.writer import writing
from tests.core.builders import ACTOR, ISSUE, NOW_MS, OTHER, created, event
from tests.services.clinic import Patient, check_of

IDS = [
    "repository", "ref", "ref_lock", "lost", "objects", "chunks", "records", "signatures", "kinds",
    "orphans", "cycles", "clock", "chain", "view", "snapshots",
    "growth", "remotes", "leases", "keys", "settings", "trust",
]  # fmt: skip
SEED = b"\x07" * 32
KEYED = signing.actor_id_of(signing.public_key(SEED))


@pytest.fixture
def patient(git_repository: Path) -> Patient:
    return Patient(git_repository)


def announcement(ts: int = NOW_MS) -> Event:
    issue = IssueId(bytes(KEYED))
    key = signing.public_key(SEED)
    return signing.sign(
        event(kinds.ACTOR_ANNOUNCED, "ann", "", "", key, issue=issue, actor=KEYED, ts=ts), SEED
    )


def keyed_comment(text: str, parent: EventId | None, ts: int = NOW_MS + 1) -> Event:
    return event(kinds.COMMENT_ADDED, text, actor=KEYED, parent=parent, ts=ts)


def test_every_check_is_always_there_and_outside_init_all_is_well(patient: Patient) -> None:
    """A repository without a log is healthy, and the list of checks never varies."""
    found = patient.diagnose()
    assert [check.id for check in found.checks] == IDS
    assert {check.status for check in found.checks} == {"ok"}
    assert not (patient.git_dir / "grit").exists()


def test_a_healthy_clone_has_no_trouble_by_command(patient: Patient) -> None:
    """What grit's own commands write is without any finding, thoroughly compared too."""
    patient.data("init")
    first = patient.data("new", "one")["issue_id"]
    patient.data("new", "two")
    patient.data("comment", first, "--body", "text")
    data = patient.data("doctor", "--thorough")
    assert [check["id"] for check in data["checks"]] == IDS
    assert {check["status"] for check in data["checks"]} == {"ok"}
    assert {check["plan"] for check in data["checks"]} == {None}
    assert data["applied"] == []


def test_exit_status_is_1_with_an_error_and_0_with_warnings(patient: Patient) -> None:
    """Warnings leave the exit status alone; errors make it 1, and the document is still ok."""
    patient.append(event(kinds.COMMENT_ADDED, "lonely"))
    assert patient.grit("doctor").returncode == 0
    patient.loose(patient.objects()[-1]).unlink()
    done = patient.grit("doctor", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is True


def test_chunks_and_records_set_aside_are_counted_by_reason(patient: Patient) -> None:
    """Unreadable chunks and invalid records are warnings with a place; the rest is valid."""
    good = created()
    bad = good._replace(event_id=EventId(b"\x09" * 32))
    patient.append(good, bad)
    patient.append_chunk(b"GRITCHNK rubbish")
    found = patient.diagnose()
    assert check_of(found, "records").status == "warn"
    assert "1 x event_id is not the hash of the event" in check_of(found, "records").message
    assert "record 1" in check_of(found, "records").message
    assert check_of(found, "chunks").status == "warn"
    assert not found.failed


def test_wrong_signatures_are_an_error_and_unknown_keys_a_warning(patient: Patient) -> None:
    """A signature by another key is named; one by an unannounced key is only a warning."""
    first = announcement()
    patient.append(created(), first, actor=KEYED)
    patient.append(signing.sign(event(kinds.LABEL_ADDED, "x"), SEED))
    assert patient.check("signatures").status == "warn"
    assert "not announced" in patient.check("signatures").message
    forged = signing.sign(keyed_comment("forged", first.event_id), b"\x08" * 32)
    patient.append(forged)
    check = patient.check("signatures")
    assert check.status == "error"
    assert forged.event_id.hex()[:8] in check.message


def test_a_valid_copy_of_an_event_outweighs_bad_ones(patient: Patient) -> None:
    """Good and bad copies in any order: the best one counts."""
    first = announcement()
    comment = keyed_comment("text", first.event_id)
    bad = signing.sign(comment, b"\x08" * 32)
    patient.append(created(), first)
    patient.append(bad)
    assert patient.check("signatures").status == "error"
    patient.append(signing.sign(comment, SEED))
    patient.append(comment)
    assert patient.check("signatures").status == "ok"
    assert patient.check("chain").status == "ok"


def test_a_key_announced_later_in_the_log_verifies_what_came_before(patient: Patient) -> None:
    """The order of arrival in the log does not change what a signature is worth."""
    first = announcement()
    patient.append(signing.sign(keyed_comment("early", first.event_id), SEED))
    assert "not announced" in patient.check("signatures").message
    patient.append(created(), first)
    assert patient.check("signatures").status == "ok"


def test_unsigned_events_of_an_actor_with_a_key_are_named(patient: Patient) -> None:
    """Taking a signature off does not go unnoticed."""
    first = announcement()
    patient.append(created(), first, keyed_comment("stripped", first.event_id))
    assert patient.check("signatures").status == "warn"
    assert "1 unsigned events" in patient.check("signatures").message


def test_orphans_are_issues_alone(patient: Patient) -> None:
    """A comment without its issue is an orphan; contexts and announcements are none."""
    digest = b"\x05" * 32
    patient.append(
        announcement(),
        event(kinds.CONTEXT_UPDATED, "a.py", "python", (), "", digest, issue=OTHER),
        event(kinds.PROJECT_CONTEXT_UPDATED, "key", "value", issue=OTHER),
    )
    assert patient.check("orphans").status == "ok"
    patient.append(event(kinds.COMMENT_ADDED, "early"))
    check = patient.check("orphans")
    assert check.status == "warn"
    assert ISSUE.hex()[:8] in check.message
    patient.append(created())
    assert patient.check("orphans").status == "ok"


def test_cycles_are_shown_until_an_edge_goes(patient: Patient) -> None:
    """A cycle over both kinds of edge is shown by short ids; the last word on an edge counts."""
    other = event(kinds.ISSUE_CREATED, "Other", "", (), issue=OTHER)
    there = event(kinds.DEPENDENCY_ADDED, OTHER, "blocks", ts=NOW_MS + 1)
    back = event(kinds.DEPENDENCY_ADDED, ISSUE, "blocks", issue=OTHER, ts=NOW_MS + 1)
    patient.append(created(), other, there, back)
    check = patient.check("cycles")
    assert check.status == "warn"
    assert f"{ISSUE.hex()[:8]} -> {OTHER.hex()[:8]} -> {ISSUE.hex()[:8]}" in check.message
    gone = event(kinds.DEPENDENCY_REMOVED, ISSUE, "blocks", issue=OTHER, ts=NOW_MS + 2)
    patient.append(gone)
    assert patient.check("cycles").status == "ok"


def test_events_of_the_future_are_named(patient: Patient) -> None:
    """A day ahead is tolerated, more is named."""
    patient.append(created(ts=NOW_MS + CLOCK_AHEAD_MS_MAX))
    assert patient.check("clock").status == "ok"
    assert patient.check("clock", now_ms=NOW_MS - 1).status == "warn"


def test_a_missing_parent_and_a_fork_are_told_apart(patient: Patient) -> None:
    """A gap in a chain and two events with one parent are both named; null parents are fine."""
    first = created()
    second = event(kinds.COMMENT_ADDED, "2", parent=first.event_id, ts=NOW_MS + 1)
    third = event(kinds.COMMENT_ADDED, "3", parent=second.event_id, ts=NOW_MS + 2)
    patient.append(first, event(kinds.COMMENT_ADDED, "imported"), third)
    check = patient.check("chain")
    assert check.status == "warn"
    assert "1 events are missing" in check.message
    assert second.event_id.hex()[:8] in check.message
    patient.append(second)
    assert patient.check("chain").status == "ok"
    patient.append(event(kinds.COMMENT_ADDED, "fork", parent=first.event_id, ts=NOW_MS + 3))
    assert "forked" in patient.check("chain").message


def test_an_absent_or_old_view_is_a_warning_and_fix_builds_it(patient: Patient) -> None:
    """The view is a cache: nothing about its absence is an error."""
    patient.append(created())
    assert patient.trouble() == {"view": "warn"}
    found = patient.diagnose(fix=True)
    assert found.applied == ["built the view again: 1 issues, 1 events"]
    assert check_of(found, "view").status == "ok"
    patient.append(event(kinds.COMMENT_ADDED, "more"))
    assert patient.trouble() == {"view": "warn"}


def test_a_view_that_lies_is_an_error_and_fix_rebuilds_it(patient: Patient) -> None:
    """An event that is in the view alone is found by count, a wrong row by comparing all."""
    patient.append(created())
    extra = event(kinds.COMMENT_ADDED, "not in the log")
    workspace = patient.workspace()
    head = refresh.refresh(workspace).head()
    with writing(workspace.database) as writer:
        writer.apply([(extra, encode_record(extra))], head)
    workspace.close()
    assert "holds 2 events, the log 1" in patient.check("view").message
    assert patient.check("view", thorough=True).status == "error"
    assert patient.trouble(fix=True) == {}


def test_thorough_compares_every_row(patient: Patient) -> None:
    """A view with the right number of events but another row is found by the comparison alone."""
    patient.append(created())
    workspace = patient.workspace()
    other = created("Another title")
    with workspace.database.replacing(force=True):
        from grit.view.writer import Writer

        Writer(workspace.database).apply([(other, encode_record(other))], workspace.wal.head())
    workspace.close()
    assert patient.check("view").status == "ok"
    check = patient.check("view", thorough=True)
    assert check.status == "error"
    assert ISSUE.hex()[:8] in check.message
    assert patient.trouble(fix=True, thorough=True) == {}


def test_a_damaged_view_is_no_obstacle(patient: Patient) -> None:
    """Garbage in the view's file is reported, never opened, and mended."""
    patient.append(created())
    patient.diagnose(fix=True)
    (patient.git_dir / "grit/view/data.mdb").write_bytes(b"garbage")
    assert patient.trouble() == {"view": "warn"}
    assert patient.trouble(fix=True) == {}


def test_missing_refspecs_are_added(patient: Patient) -> None:
    """A remote whose log a fetch would not bring is named, and set up by --fix."""
    patient.git("remote", "add", "origin", "https://example.org/x.git")
    assert patient.trouble() == {"remotes": "warn"}
    found = patient.diagnose(fix=True)
    assert found.applied == ["'git fetch origin' now brings its log"]
    assert patient.trouble() == {}


def test_keys_readable_by_others_are_tightened(patient: Patient) -> None:
    """Modes of key files are mended; contents never."""
    patient.data("init")
    (key,) = patient.git_dir.glob("grit/actors/*/keys/signing.key")
    before = key.read_bytes()
    key.chmod(0o644)
    assert patient.trouble() == {"keys": "warn"}
    assert patient.trouble(fix=True) == {}
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"xyz", b"11" * 32], ids=["gone", "0", "x", "own"])
def test_keys_that_are_missing_or_foreign_are_errors(
    patient: Patient, content: bytes | None
) -> None:
    """A key must be there, well formed, and the one of its public key; --fix leaves it alone."""
    patient.data("init")
    (key,) = patient.git_dir.glob("grit/actors/*/keys/signing.key")
    key.unlink()
    if content is not None:
        key.write_bytes(content)
        key.chmod(0o600)
    assert patient.trouble(fix=True) == {"keys": "error"}


def test_a_public_key_of_another_actor_is_an_error(patient: Patient) -> None:
    """An actor whose id its key does not certify could sign nothing that others believe."""
    patient.data("init")
    (config,) = patient.git_dir.glob("grit/actors/*/config.toml")
    folder = config.parent.parent / ("ab" * 16)
    config.parent.rename(folder)
    moved = folder / "config.toml"
    moved.write_text(moved.read_text().replace(config.parent.name, folder.name))
    assert "does not belong to its id" in patient.check("keys").message


def test_damaged_settings_stop_no_other_check(patient: Patient) -> None:
    """A settings file that is not TOML is one error; all other checks still run."""
    patient.data("init")
    patient.append(created())
    (patient.git_dir / "grit/config.toml").write_text("= broken")
    assert patient.trouble() == {"view": "warn", "settings": "error", "trust": "warn"}
    (patient.git_dir / "grit/config.toml").write_text(f'default_actor = "{"0" * 32}"\n')
    assert "no actor" in patient.check("settings").message


def test_loose_objects_are_counted_as_git_does(patient: Patient) -> None:
    """Growth is named beyond git's own bound, and never with gc.auto=0."""
    folder = patient.git_dir / "objects/17"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:038x}").write_bytes(b"")
    assert patient.check("growth").status == "ok"  # the test's home says gc.auto=0
    patient.git("config", "gc.auto", "6700")
    assert patient.check("growth").status == "warn"


def test_a_stale_ref_lock_is_removed_a_fresh_one_not(patient: Patient) -> None:
    """Only a lock that nobody can be holding goes."""
    patient.append(created())
    lock = patient.ref.with_name("wal.lock")
    lock.write_bytes(b"")
    assert patient.check("ref_lock").status == "ok"
    old = time.time() - 60
    os.utime(lock, (old, old))
    assert patient.check("ref_lock").status == "warn"
    assert patient.check("ref_lock", fix=True).status == "ok"
    assert not lock.exists()


def test_a_lock_in_the_way_is_reported_not_raised(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only mount doctor diagnoses; what --fix cannot do is a notice."""
    patient.append(created())
    patient.diagnose(fix=True)
    lock = patient.ref.with_name("wal.lock")
    lock.write_bytes(b"")
    os.utime(lock, (1, 1))

    def refuse(path: str, **_: object) -> None:
        raise OSError(30, "Read-only file system", path)

    with monkeypatch.context() as patch:
        patch.setattr("grit.files.private.os.unlink", refuse)
        found = patient.diagnose(fix=True)
    assert check_of(found, "ref_lock").status == "warn"
    assert any("Read-only" in notice for notice in patient.notices)


def test_everything_shown_to_people_is_escaped(patient: Patient) -> None:
    """A remote's name with an escape sequence is shown written out."""
    with (patient.git_dir / "config").open("a") as file:
        file.write('[remote "evil\x1b]52;c;x\x07"]\n\turl = https://example.org/x\n')
    shown = patient.grit("doctor").stdout
    assert "\\x1b]52" in shown
    assert "\x1b" not in shown


def test_the_survey_keeps_little_and_counts_right(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts stay right when there are more suspects than are looked at again."""
    monkeypatch.setattr(survey, "SUSPECTS_MAX", 2)
    lonely = [
        event(kinds.COMMENT_ADDED, str(number), parent=EventId(bytes([number]) * 32))
        for number in range(5)
    ]
    signed = [
        signing.sign(event(kinds.LABEL_ADDED, str(number), actor=ActorId(ACTOR)), SEED)
        for number in range(5)
    ]
    patient.append_chunk(encode_chunk([created(), *lonely, *signed]))
    facts = survey.survey(patient.workspace(), patient.workspace().wal.head())
    assert facts.event_count == 11
    assert facts.missing_parents.count == 2
    assert facts.signatures["unknown_key"].count == 5


def test_db_commands_report_the_log(patient: Patient) -> None:
    """check reads records, verify signatures, stats the view, rebuild builds it."""
    first = announcement()
    patient.append(created(), first, keyed_comment("x", first.event_id))
    assert patient.data("db", "check") == {"events_checked": 3, "events_valid": 3, "errors": []}
    done = patient.grit("db", "verify", "--json")
    data = json.loads(done.stdout)["data"]
    assert done.returncode == 1
    assert (data["signatures_checked"], data["signatures_valid"]) == (1, 1)
    assert data["errors"][0]["count"] == 1
    rebuilt = patient.data("rebuild")
    assert (rebuilt["issue_count"], rebuilt["event_count"]) == (1, 3)
    assert rebuilt["wal_head"] == patient.ref.read_text().strip()
    totals = patient.data("db", "stats")
    assert (totals["event_count"], totals["open_count"]) == (3, 1)
    assert totals["size_bytes"] > 0
