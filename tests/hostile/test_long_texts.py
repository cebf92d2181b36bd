"""Long texts take little space in the view, and reach whole whoever asks for all of them.

Every event here is valid, so it counts, and is shown whole to whoever asks for all of it.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.long_text import Long
from grit.git.repository import discover
from grit.services import long_texts
from grit.services.refresh import rebuild, refresh
from grit.services.workspace import Ports, Workspace
from grit.view import keys
from grit.view.rows import scan
from tests.hostile.plumbing import (
    GRIT,
    ISSUE,
    NOW_MS,
    comment,
    event,
    fresh_repository,
    git,
    push_chunks,
    run,
)

CREATED = event(kinds.ISSUE_CREATED, "Still here", "", ())
ISSUE_WORDS = ISSUE.hex()
MANY = [comment(f"{n} " + "b" * 60_000, n + 1) for n in range(400)]
"""More than is held of one issue: the events after them come without their texts."""


@pytest.mark.parametrize("first", [True, False], ids=["created first", "created last"])
def test_what_comes_after_very_much_is_whole_too(tmp_path: Path, first: bool) -> None:
    """Titles are never cut; what stands behind 24 MB of an issue is read when it is asked for."""
    folder = fresh_repository(tmp_path / "repository")
    late = [
        event(kinds.ISSUE_UPDATED, "T" * 2_000, "late " + "x" * 3_000 + " bodyend", ts=10_000),
        event(4711, "u" * 5_000 + "unknownend", ts=10_001),
        event(kinds.LABEL_ADDED, "late", ts=10_002),
        comment("c" * 5_000 + " commentend", 10_003),
    ]
    created = [] if first else [CREATED]
    parts = [MANY[:200], MANY[200:], [*late, *created]]
    push_chunks(folder, [codec.encode_chunk([CREATED])] if first else [])
    for part in parts:
        push_chunks(folder, [codec.encode_chunk(part)])
        assert run(folder, "ls").status == 0
    assert "T" * 100 in run(folder, "ls").out
    assert "T" * 100 in run(folder, "show", ISSUE_WORDS).out
    whole = run(folder, "show", ISSUE_WORDS, "--events", "--json").out
    for end in ("bodyend", "commentend", codec.pack(late[1].payload).hex()):
        assert end in whole
    assert json.loads(whole)["data"]["issue"]["title"] == "T" * 2_000
    before = _rows(folder)
    assert run(folder, "rebuild").status == 0
    assert _rows(folder) == before
    made = run(folder, "issue", "update", ISSUE_WORDS, "--title", "T" * 2_000, "--json").out
    assert json.loads(made)["data"].get("changed", False) is False
    export = json.loads(run(folder, "export", "--format", "json").out)
    assert len(export["events"]) == len(MANY) + len(late) + 1


def test_texts_of_alternating_chunks_are_read_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the times of long events lie among chunks, a chunk is not unpacked for each."""
    folder = fresh_repository(tmp_path / "repository")
    texts = [[f"{n} {k} " + "d" * 70_000 for k in range(12)] for n in range(4)]
    push_chunks(
        folder,
        [
            codec.encode_chunk([comment(text, 4 * k + n + 1) for k, text in enumerate(row)])
            for n, row in enumerate([*texts[:3], [*texts[3]]])
        ]
        + [codec.encode_chunk([CREATED])],
    )
    monkeypatch.setattr(long_texts, "_BLOBS_BYTES", 1)
    read: list[bytes] = []
    content = long_texts.LongTexts._content

    def counted(self: long_texts.LongTexts, place: bytes) -> bytes:
        read.append(place)
        return content(self, place)

    monkeypatch.setattr(long_texts.LongTexts, "_content", counted)
    workspace = opened(folder)
    try:
        issue = refresh(workspace).issue(ISSUE)
        assert issue is not None
        found = [workspace.whole(one.body) for one in issue.comments]
    finally:
        workspace.close()
    assert found == [texts[n][k] for k in range(12) for n in range(4)]
    assert len(read) == 8


@pytest.mark.parametrize("room", [True, False], ids=["room", "no room"])
def test_no_false_copy_hides_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    """A record that claims an id stands for nothing, before or behind the event that has it."""
    folder = fresh_repository(tmp_path / "repository")
    true = [comment(f"{n} " + "d" * 70_000, n + 1) for n in range(6)]
    false = [one._replace(payload=("f" * 70_000,)) for one in true]
    chunks = [[CREATED], [*true[:3], *false], [*false, *true[3:]]]
    push_chunks(folder, [codec.encode_chunk(chunk) for chunk in chunks])
    monkeypatch.setattr(long_texts, "_BLOBS_BYTES", 1)
    if not room:
        full = io.FileIO("/dev/full", "r+")
        monkeypatch.setattr("tempfile.TemporaryFile", lambda: io.BufferedRandom(full))
    workspace = opened(folder)
    try:
        issue = refresh(workspace).issue(ISSUE)
        assert issue is not None
        for _ in range(3):
            found = [workspace.whole(issue.comments[n].body) for n in (0, 3, 1, 4, 2, 5)]
            assert found == [true[n].payload[0] for n in (0, 3, 1, 4, 2, 5)]
    finally:
        workspace.close()


def test_a_text_is_found_by_its_event_after_a_rebuild(tmp_path: Path) -> None:
    """A text that was left in a row of the view is read though the rows were written anew."""
    folder = fresh_repository(tmp_path / "repository")
    chunks = [[CREATED], MANY[:200], MANY[200:], [comment("e" * 5_000 + "end", 10_000)]]
    push_chunks(folder, [codec.encode_chunk(chunk) for chunk in chunks])
    workspace = opened(folder)
    try:
        issue = refresh(workspace).issue(ISSUE)
        assert issue is not None
        push_chunks(folder, [codec.encode_chunk([comment("older", 0)])])
        rebuild(workspace)
        last = issue.comments[-1].body
        assert isinstance(last, Long)
        assert workspace.whole(last) == "e" * 5_000 + "end"
        assert workspace.long_texts.start(last) == "e" * 5_000 + "end"
    finally:
        workspace.close()


def _long(name: str, *, last: str = "") -> str:
    """Return a text that is too long for the view, with a word of its own at its end."""
    return f"{name}first " + "é" * limits.TEXT_KEPT_BYTES + f" {last or name + 'last'}\n"


EDITED = comment("short", 2)
TEXTS = {
    "Body": event(kinds.ISSUE_CREATED, "Long", _long("body"), ("bug",)),
    "Comment": comment(_long("comment"), 3),
    "Edit": event(kinds.COMMENT_EDITED, EDITED.event_id, _long("edit"), ts=4),
    "Context": event(
        kinds.CONTEXT_UPDATED, "src/a.py", "python", (), _long("context"), bytes(32), ts=5
    ),
    "Project": event(kinds.PROJECT_CONTEXT_UPDATED, "key", _long("project"), ts=5),
    "Unknown": event(4711, _long("unknown"), ("deep",), ts=6),
}
WORDS = {name: name.lower() + "last" for name in TEXTS}
SHOWN = ("Body", "Comment", "Edit")
ALL = tuple(TEXTS)


def long_repository(folder: Path) -> Path:
    """Return a repository with every kind of event that can be long."""
    fresh_repository(folder)
    push_chunks(folder, [codec.encode_chunk([*TEXTS.values(), EDITED])])
    return folder


def _unknown_hex() -> str:
    return codec.pack(TEXTS["Unknown"].payload).hex()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("show", ISSUE_WORDS, "--json"), SHOWN),
        (("issue", "history", ISSUE_WORDS, "--json"), ALL),
        (("issue", "history", ISSUE_WORDS, "--jsonl"), ALL),
        (("show", ISSUE_WORDS, "--events", "--json"), ALL),
        (("log", "--all", "--json"), SHOWN),
        (("log", "--all", "--jsonl"), SHOWN),
        (("export", "--format", "json"), ALL),
        (("export", "--format", "md"), SHOWN),
        (("export", "--format", "html"), SHOWN),
        (("export", "--format", "csv"), ("Body",)),
    ],
)
def test_whoever_asks_for_all_gets_all(
    tmp_path: Path, words: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """JSON and exports have every long text to its end; a document stays one."""
    folder = long_repository(tmp_path / "repository")
    done = run(folder, *words)
    assert done.status == 0, done.err
    for name in names:
        wanted = _unknown_hex() if name == "Unknown" else WORDS[name]
        assert wanted in done.out, name
    if "--json" in words:
        assert json.loads(done.out)["ok"] is True


def test_an_export_goes_in_again_event_by_event(tmp_path: Path) -> None:
    """The events of an export are those of the log, bit for bit, long or not."""
    folder, other = long_repository(tmp_path / "one"), fresh_repository(tmp_path / "other")
    exported = run(folder, "export", "--format", "json").out
    (other / "export.json").write_text(exported)
    assert run(other, "import", "json", "export.json").status == 0
    again = run(other, "export", "--format", "json").out
    assert json.loads(again)["events"][-7:] == json.loads(exported)["events"]


def opened(folder: Path) -> Workspace:
    """Return a repository opened for use."""
    ports = Ports({}, lambda: NOW_MS, lambda count: b"\x07" * count)
    return Workspace(discover(str(folder), {}), ports)


def _rows(folder: Path) -> dict[bytes, bytes]:
    """Return the rows of a view, with those of events in place of their sequence numbers."""
    workspace = opened(folder)
    try:
        refresh(workspace)
        with workspace.database.reading() as txn:
            rows = dict(scan(txn, b""))
    finally:
        workspace.close()
    events = {key[1:]: rows.pop(key) for key in list(rows) if key.startswith(keys.EVENT)}
    del rows[keys.META]
    return {
        key: events[value] if key.startswith(keys.ORDER) else value for key, value in rows.items()
    }


def test_in_parts_or_at_once_the_view_is_the_same(tmp_path: Path) -> None:
    """A view that took long events one by one is what a rebuild makes, byte by byte."""
    folder = fresh_repository(tmp_path / "repository")
    for one in (*TEXTS.values(), EDITED):
        push_chunks(folder, [codec.encode_chunk([one])])
        assert run(folder, "ls").status == 0
    grown = _rows(folder)
    assert run(folder, "rebuild").status == 0
    assert _rows(folder) == grown
    assert max(map(len, grown.values())) < limits.TEXT_KEPT_BYTES + 1_000


def test_own_writes_keep_the_view_small_and_are_shown(tmp_path: Path) -> None:
    """A long body of one's own is in the log, shown whole, and not copied into the view."""
    folder = fresh_repository(tmp_path / "repository")
    (folder / "body.txt").write_text(_long("own"))
    made = run(folder, "new", "Mine", "--body-file", "body.txt", "--json")
    issue = json.loads(made.out)["data"]["issue_id"]
    shown = json.loads(run(folder, "show", issue, "--json").out)["data"]["issue"]
    assert shown["body"].strip() == _long("own").strip()
    assert max(map(len, _rows(folder).values())) < limits.TEXT_KEPT_BYTES + 1_000


@pytest.mark.parametrize("words", [("issue", "update"), ("issue", "comment-edit")])
def test_a_change_is_decided_on_the_whole_text(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The same text changes nothing; one that differs after the beginning is a change."""
    folder = long_repository(tmp_path / "repository")
    named = () if words[-1] == "update" else ("2",)
    old = _long("body" if words[-1] == "update" else "comment")
    for text, count in ((old, 0), (old[:-2] + "X\n", 1)):
        (folder / "text").write_text(text)
        before = run(folder, "db", "stats", "--json").out
        done = run(folder, *words, ISSUE_WORDS, *named, "--body-file", "text")
        assert done.status == 0, done.err
        counts = [
            json.loads(one)["data"]["event_count"]
            for one in (before, run(folder, "db", "stats", "--json").out)
        ]
        # The first write announces its actor, too.
        assert (counts[1] > counts[0]) is bool(count)


def test_the_editor_gets_the_whole_text(tmp_path: Path) -> None:
    """What opens in the editor is all of the text: else saving it would cut it."""
    folder = long_repository(tmp_path / "repository")
    script = tmp_path / "editor"
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/seen\n')
    script.chmod(0o755)
    terminal = "import pty, sys; pty.spawn(sys.argv[1:])"
    for words, last in (
        (("update", ISSUE_WORDS), "bodylast"),
        (("comment-edit", ISSUE_WORDS, "2"), "commentlast"),
    ):
        subprocess.run(
            [sys.executable, "-c", terminal, *GRIT, "issue", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env={**os.environ, "GIT_EDITOR": str(script)},
        )
        assert last in (tmp_path / "seen").read_text()


def test_a_page_shows_the_beginning_and_says_so(tmp_path: Path) -> None:
    """A page for people has the first 64 KiB of a text, and says how much there is."""
    folder = long_repository(tmp_path / "repository")
    done = run(folder, "show", ISSUE_WORDS)
    assert done.status == 0, done.err
    assert run(folder, "issue", "history", ISSUE_WORDS).status == 0
    for name in SHOWN:
        assert name.lower() + "first" in done.out
        assert WORDS[name] not in done.out
    size = len(_long("body").encode())
    assert f"[the first 65,536 of {size:,} bytes; --json has all]" in done.out


def test_a_page_has_bounds_in_count(tmp_path: Path) -> None:
    """Of very many labels, fields, links and comments some are shown, and all are counted."""
    folder = fresh_repository(tmp_path / "repository")
    many = [CREATED]
    for n in range(1_100):
        at = 10 * n + 1
        many += [
            event(kinds.LABEL_ADDED, f"label{n:05}", ts=at),
            event(kinds.ASSIGNEE_ADDED, f"user{n:05}", ts=at + 1),
            event(kinds.FIELD_SET, f"key{n:05}", "v", ts=at + 2),
            event(kinds.LINK_ADDED, f"https://example.org/{n}", None, ts=at + 3),
            comment(f"comment{n:05}", at + 4),
        ]
    push_chunks(folder, [codec.encode_chunk(many)])
    page = run(folder, "show", ISSUE_WORDS).out
    for there, gone in (
        *(("label00099", "label00100"), ("user00099", "user00100"), ("key00099", "key00100")),
        *(("org/999", "org/1000"), ("comment00100", "comment00099")),
    ):
        assert there in page, there
        assert gone not in page, gone
    assert page.count("+1000") == 2
    assert "and 1,000 more fields" in page
    assert "not shown, but in --json: 100 older comments, 100 links" in page
    assert "1,100 comments" in page
    assert "#101\n" in page, "comments keep their numbers"
    listed = run(folder, "ls").out
    assert listed.count("+1000") == 2
    assert len(listed) < 5_000
    whole = json.loads(run(folder, "show", ISSUE_WORDS, "--json").out)["data"]["issue"]
    assert [len(whole[name]) for name in ("labels", "fields", "links", "comments")] == [1_100] * 4


def test_the_search_knows_beginnings(tmp_path: Path) -> None:
    """A word is found in the first 64 KiB of each text, filed or not, and forgotten with it."""
    folder = long_repository(tmp_path / "repository")
    for _ in ("files the words", "finds them filed"):
        for name in SHOWN:
            assert "Long" in run(folder, "search", name.lower() + "first").out
            assert "Long" not in run(folder, "search", WORDS[name]).out
    push_chunks(folder, [codec.encode_chunk([event(kinds.ISSUE_UPDATED, None, "other", ts=9)])])
    assert "Long" not in run(folder, "search", "bodyfirst").out
    assert "Long" in run(folder, "search", "commentfirst").out


def test_the_search_forgets_half_a_word(tmp_path: Path) -> None:
    """A word that a beginning cuts is filed as far as it was read, and goes with its text."""
    folder = fresh_repository(tmp_path / "repository")
    late = comment("z" * 1_020 + " halfword", 10_000)
    edit = event(kinds.COMMENT_EDITED, late.event_id, "other", ts=10_001)
    # 4 MiB are searched: of an issue of 16 MiB in small texts none would be left for the last.
    wide = [event(4711, "u" * 60_000, ts=n + 1) for n in range(400)]
    chunks = [[CREATED, *wide[:200]], [*wide[200:], late]]
    push_chunks(folder, [codec.encode_chunk(chunk) for chunk in chunks])
    assert "Still here" in run(folder, "search", "hal").out
    push_chunks(folder, [codec.encode_chunk([edit])])
    assert "Still here" not in run(folder, "search", "hal").out
    assert "Still here" in run(folder, "search", "other").out


def test_a_text_moves_with_its_log(tmp_path: Path) -> None:
    """Places of texts outlive a repack, and a snapshot that they were read from and is gone."""
    folder = long_repository(tmp_path / "repository")
    whole = run(folder, "show", ISSUE_WORDS, "--json").out
    git(folder, "repack", "-adq")
    assert run(folder, "show", ISSUE_WORDS, "--json").out == whole
    assert run(folder, "snapshot", "create").status == 0
    assert run(folder, "rebuild", "--from-snapshot").status == 0
    assert run(folder, "show", ISSUE_WORDS, "--json").out == whole
    for ref in git(folder, "for-each-ref", "--format=%(refname)", "refs/grit/snapshots").split():
        git(folder, "update-ref", "-d", ref)
    git(folder, "-c", "gc.pruneExpire=now", "gc", "-q")
    assert run(folder, "show", ISSUE_WORDS, "--json").out == whole


def test_a_text_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    """Without the object the command fails with the event's id; lists still work."""
    folder = long_repository(tmp_path / "repository")
    assert run(folder, "ls").status == 0
    oid = git(folder, "rev-parse", "refs/grit/wal^{tree}")
    blobs = [line.split() for line in git(folder, "ls-tree", "-r", oid).split("\n") if line]
    for _, kind, blob, _ in blobs:
        assert kind == "blob"
        (folder / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert "Long" in run(folder, "ls").out
    done = run(folder, "show", ISSUE_WORDS, "--json")
    assert done.status != 0
    assert "bug in grit" not in done.err
    assert "not in the log" in done.err + done.out or "missing" in done.err + done.out
