"""Hostile records in a real log: what is bad is set aside, all the rest is shown."""

import json
from pathlib import Path

import pytest

from grit.core import codec
from grit.core import events as kinds
from tests.hostile.plumbing import (
    ISSUE,
    Done,
    array,
    comment,
    event,
    fresh_repository,
    log_head,
    push_chunks,
    run,
)
from tests.hostile.records import Hostile, hostile_chunks

TABLE = hostile_chunks()
ID = ISSUE.hex()
COMMANDS = {
    "ls": ("ls",),
    "show": ("show", ID, "--events", "--json"),
    "history": ("issue", "history", ID),
    "log": ("log",),
    "export": ("export",),
    "ready": ("ready",),
    "search": ("search", "beside"),
    "doctor": ("doctor", "--json"),
    "db check": ("db", "check", "--json"),
}


def test_the_table_is_large() -> None:
    """At least 130 records and chunks stand here; with texts and commands there are over 200."""
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert len(TABLE) >= 130


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of one good issue and all hostile chunks, pushed by somebody else's program."""
    repository = fresh_repository(tmp_path_factory.mktemp("hostile") / "repository")
    good = [event(kinds.ISSUE_CREATED, "Still here", "Body", ("bug",)), comment("first", 0)]
    push_chunks(repository, [codec.encode_chunk(good), *(row.chunk for row in TABLE)])
    return repository


@pytest.fixture(scope="module")
def outputs(folder: Path) -> dict[str, Done]:
    """What every command says about that log."""
    before = log_head(folder)
    done = {name: run(folder, *arguments) for name, arguments in COMMANDS.items()}
    assert log_head(folder) == before
    return done


@pytest.fixture(scope="module")
def shown(outputs: dict[str, Done]) -> set[str]:
    """The comments of the issue, as `show` gives them."""
    issue = json.loads(outputs["show"].out)["data"]["issue"]
    return {one["body"] for one in issue["comments"]}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_fault_14_hostile_records_cost_only_themselves(row: Hostile, shown: set[str]) -> None:
    """ASIDE: the good comment in the same chunk is shown, and nothing of the bad record is."""
    assert (row.name in shown) == row.kept


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("doctor", "db check")]
)
def test_reading_goes_on(command: str, outputs: dict[str, Done]) -> None:
    """Every command that reads succeeds and shows the good issue."""
    done = outputs[command]
    assert done.status == 0, done.err
    assert "Still here" in done.out


def test_only_good_events_are_there(outputs: dict[str, Done], shown: set[str]) -> None:
    """Nothing is shown or exported beyond the good issue and the good comments."""
    expected = {"first", *(row.name for row in TABLE if row.kept)}
    assert shown == expected
    document = json.loads(outputs["export"].out)
    assert [issue["issue_id"] for issue in document["issues"]] == [ID]
    ours = [one for one in document["events"] if one["issue_id"] == ID]
    assert len(ours) == len(expected) + 1
    assert "never shown" not in outputs["export"].out


def test_the_damage_is_named(outputs: dict[str, Done]) -> None:
    """`doctor` warns of what was set aside, with reasons; `db check` counts it and fails."""
    assert _warnings(outputs["doctor"]) >= {"chunks", "records"}
    assert "not the hash of the event" in outputs["doctor"].out
    done = outputs["db check"]
    assert done.status == 1
    data = json.loads(done.out)["data"]
    assert data["events_valid"] < data["events_checked"]
    assert sum(error["count"] for error in data["errors"]) >= len(TABLE)


def _warnings(done: Done) -> set[str]:
    checks = json.loads(done.out)["data"]["checks"]
    return {check["id"] for check in checks if check["status"] != "ok"}


def test_the_view_says_the_same_when_built_again(folder: Path, outputs: dict[str, Done]) -> None:
    """Deleting the view changes no answer: what was set aside once is set aside again."""
    assert run(folder, "rebuild").status == 0
    assert run(folder, *COMMANDS["show"]).out == outputs["show"].out


def test_writing_goes_on(tmp_path: Path) -> None:
    """A hostile log can still be written to, and what is written is read."""
    repository = fresh_repository(tmp_path / "repository")
    good = event(kinds.ISSUE_CREATED, "Still here", "", ())
    bad = [row.chunk for row in TABLE if len(row.chunk) < 10_000]
    push_chunks(repository, [codec.encode_chunk([good]), *bad])
    assert run(repository, "comment", ID, "--body", "new words").status == 0
    assert "new words" in run(repository, "show", ID).out


def test_regression_6_one_bad_of_each_sort_among_1000(tmp_path: Path) -> None:
    """A bad chunk, an unknown kind, a wrong hash among 1,000 events: the others are there."""
    repository = fresh_repository(tmp_path / "repository")
    good = [event(kinds.ISSUE_CREATED, "Still here", "", ())]
    good += [comment(f"number {n}", ts=n) for n in range(1, 1000)]
    parts = [codec.encode_record(one) for one in good]
    wrong = codec.encode_record(comment("wrong hash")).replace(b"wrong hash", b"wrong hush")
    parts[500:500] = [wrong, codec.encode_record(event(4242, "later"))]
    push_chunks(repository, [array(*parts), b"GRITCHNK garbage"])
    found = json.loads(run(repository, "show", ID, "--json").out)["data"]["issue"]
    assert [one["body"] for one in found["comments"]] == [f"number {n}" for n in range(1, 1000)]
    doctor = run(repository, "doctor", "--json")
    assert _warnings(doctor) >= {"chunks", "records", "kinds"}
    assert "1 records set aside" in doctor.out
    assert "not the hash" in doctor.out


def test_fault_18_unknown_kinds_are_passed_on(tmp_path: Path) -> None:
    """An unknown kind stays byte for byte: through reading, writing and export and import."""
    repository = fresh_repository(tmp_path / "repository")
    unknown = event(4242, "later", 7, (None, b"\x00"), ts=3)
    good = event(kinds.ISSUE_CREATED, "Still here", "", ())
    push_chunks(repository, [codec.encode_chunk([good, unknown])])
    assert run(repository, "show", ID).status == 0
    assert run(repository, "comment", ID, "--body", "after").status == 0
    export = run(repository, "export").out
    other = fresh_repository(tmp_path / "other")
    assert run(other, "import", "json", "-", stdin=export.encode()).status == 0
    again = json.loads(run(other, "export").out)["events"]
    first = json.loads(export)["events"]
    assert [one for one in again if one["issue_id"] == ID] == [
        one for one in first if one["issue_id"] == ID
    ]
    assert unknown.event_id.hex() in {one["event_id"] for one in again}
