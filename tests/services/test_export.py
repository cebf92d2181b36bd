"""Exports: lossless, independent of the view, harmless in what opens them (spec/exchange.md)."""

import csv
import io
import json
import os
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest

from grit.core.errors import InvalidArgs, IoFailed, NotFound
from grit.core.escape import escape
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.export import Asked, export, quoted, safe_cell, save
from grit.services.import_json import import_json
from grit.services.issues import Change
from grit.services.workspace import Ports, Workspace, open_workspace
from grit.services.write import Transaction, write

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x1b]52;c;x\x07"
A, B, C = (IssueId(bytes([n]) * 16) for n in (1, 2, 3))


def opened(folder: Path) -> Workspace:
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000, 60_000))
    return open_workspace(str(folder), Ports(os.environ, lambda: next(clock), os.urandom))


def do(workspace: Workspace, *works: object) -> None:
    for work in works:
        assert callable(work)
        write(workspace, work, lambda change: change.subject)


def filled(folder: Path) -> Workspace:
    workspace = opened(folder)

    def second(transaction: Transaction) -> Change:
        issues.create(transaction, B, "Second", body=EVIL, fields={"parent": A.hex()})
        return issues.add_dependency(transaction, A.hex(), B.hex(), "depends_on")

    do(
        workspace,
        lambda t: issues.create(t, A, "First <b>", body="# Head\n\nText", labels=["x<y"]),
        second,
        lambda t: issues.comment(t, A.hex(), "A comment"),
        lambda t: issues.link(t, A.hex(), "javascript:alert(1)", None),
        lambda t: issues.attach(t, A.hex(), "a.txt", b"content", "text/plain"),
        lambda t: issues.create(t, C, "Gone"),
        lambda t: issues.set_deleted(t, C.hex(), True, "spam"),
    )
    return workspace


def text(workspace: Workspace, **asked: object) -> str:
    return "".join(export(workspace, Asked(**asked)))  # type: ignore[arg-type]


def document(workspace: Workspace, **asked: object) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(text(workspace, **asked))
    return found


def same(one: str, other: str) -> bool:
    """Whether two JSON exports are equal but for the first line, which holds generated_ts."""
    return one.split("\n", 1)[1] == other.split("\n", 1)[1]


def test_regression_1_export_is_unchanged_after_the_view_is_deleted(git_repository: Path) -> None:
    """The view is a cache: every format says the same without it."""
    workspace = filled(git_repository)
    before = {name: text(workspace, format=name) for name in ("md", "csv", "html")}
    whole = text(workspace)
    workspace.close()
    shutil.rmtree(git_repository / ".git" / "grit" / "view")
    workspace = opened(git_repository)
    assert before == {name: text(workspace, format=name) for name in before}
    assert same(whole, text(workspace))


def test_regression_8_since_means_position_and_round_trips(
    git_repository: Path, tmp_path: Path
) -> None:
    """An event id stands for its place in the order; exports in two parts give one state."""
    workspace = filled(git_repository)
    events = document(workspace)["events"]
    order = [(one["ts_unix_ms"], one["actor"], one["event_id"]) for one in events]
    assert order == sorted(order)
    for at, event in enumerate(events):
        later = document(workspace, since=event["event_id"])["events"]
        assert later == events[at + 1 :]
    import subprocess

    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True, timeout=30)
    copy = opened(other)
    parts = (text(workspace, since=events[2]["event_id"], attachments=True), text(workspace))
    for part in parts:
        found = import_json(copy, io.BytesIO(part.encode()))
        assert found.refusals == []
    assert same(text(workspace), text(copy))
    assert all(one["sig"] for one in document(copy)["events"])
    (sha256,) = [one["sha256"] for one in document(copy, attachments=True)["attachments"]]
    assert copy.wal.attachment(str(sha256)) == b"content"


def test_since_a_time_or_a_duration(git_repository: Path) -> None:
    """A time stands before its first event; issues are those of the events."""
    workspace = filled(git_repository)
    events = document(workspace)["events"]
    ts = events[4]["ts_unix_ms"]
    found = document(workspace, since=str(ts))
    assert found["events"] == [one for one in events if int(str(one["ts_unix_ms"])) >= int(str(ts))]
    wanted = {one["issue_id"] for one in found["events"]}
    assert {one["issue_id"] for one in found["issues"]} == wanted
    assert document(workspace, since="2099-01-01")["events"] == []
    assert document(workspace, since="9y")["events"] == events
    with pytest.raises(InvalidArgs):
        text(workspace, since="last week")
    with pytest.raises(NotFound):
        text(workspace, since="ffffffffff")


def test_json_stands_one_event_a_line(git_repository: Path) -> None:
    """A reader may go line by line; deleted issues are in JSON alone."""
    workspace = filled(git_repository)
    lines = text(workspace).split("\n")
    assert [line for line in lines if line.startswith('"')] == ['"issues": [', '"events": [']
    whole = document(workspace)
    assert {one["title"]: one["deleted"] for one in whole["issues"]}["Gone"] is True
    for name in ("md", "csv", "html"):
        assert "Gone" not in text(workspace, format=name)


def test_csv_is_read_back_and_holds_no_formula(git_repository: Path) -> None:
    """One row an issue; a cell that a spreadsheet would run is neutralised."""
    workspace = filled(git_repository)
    do(workspace, lambda t: issues.update(t, A.hex(), title='=HYPERLINK("http://x";"y")'))
    rows = list(csv.DictReader(io.StringIO(text(workspace, format="csv"), newline="")))
    assert [row["issue_id"] for row in rows] == [A.hex(), B.hex()]
    assert rows[0]["title"].startswith("'=")
    assert rows[1]["body"] == escape(EVIL, multiline=True)


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\tx", "  =1"])
def test_formula_cells(cell: str) -> None:
    """What begins a formula gets an apostrophe."""
    assert safe_cell(cell) == "'" + cell
    assert safe_cell("a" + cell) == "a" + cell
    assert safe_cell("\rx") == "'\\rx"


EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
VISIBLE = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Signs that are drawn around the digits behind them: only their category says `format`."""
HIDDEN = ("Zs", "Zl", "Zp", "Cc", "Cf")
BLANKS = [c for c in EVERY if unicodedata.category(c) in HIDDEN and c not in VISIBLE]
SIGNS = [char for char in EVERY if unicodedata.normalize("NFKC", char) in tuple("=+-@\u2212")]


def test_formula_cells_of_every_sign_behind_every_blank() -> None:
    """Signs of any width count, and so do they behind whatever is a blank or invisible."""
    assert {"\uff1d", "\uff0b", "\uff0d", "\uff20", "\u207b"} <= set(SIGNS)
    assert {"\xa0", "\u200b", "\ufeff", "\u3000", "\x1f", "\u2028", "\u202e"} <= set(BLANKS)
    for sign in SIGNS:
        for blank in ("", " ", "\n", "\xa0", "\u3000 \u200b"):
            assert safe_cell(f"{blank}{sign}1")[0] == "'", (blank, sign)
    for blank in BLANKS:
        assert safe_cell(f"{blank}=1")[0] == "'", hex(ord(blank))
        assert safe_cell(f" {blank}\uff1d1")[0] == "'", hex(ord(blank))
    for text in ("a=1", "1+1", "\U0001f389 +1", "", " ", "a\n=1", "caf\xe9"):
        assert safe_cell(text) == text


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_runs_and_loads_nothing_but_itself(git_repository: Path) -> None:
    """Hostile texts are shown, not run; the policy names one style and one script by hash."""
    workspace = filled(git_repository)
    page = text(workspace, format="html")
    parser = _Page()
    parser.feed(page)
    assert [tag for tag, _ in parser.tags].count("script") == 1
    assert not {"img", "link", "iframe", "object", "base"} & {tag for tag, _ in parser.tags}
    for _, attributes in parser.tags:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "https://", "http://"))
    (policy,) = [a["content"] for t, a in parser.tags if a.get("http-equiv")]
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    assert "\x1b" not in page and "\u202e" not in page and "&lt;script&gt;" in page
    from base64 import b64encode
    from hashlib import sha256

    for tag in ("style", "script"):
        inline = page.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        assert b64encode(sha256(inline.encode()).digest()).decode() in policy


def test_html_sets_code_apart_whether_its_fence_ends_or_not(git_repository: Path) -> None:
    """Fenced code is preformatted; its text is escaped like any other."""
    workspace = opened(git_repository)
    body = "a\n```sh\n<x>\n```\nb\n```\nopen"
    do(workspace, lambda t: issues.create(t, A, "T", body=body))
    page = text(workspace, format="html")
    assert '<div class="text">a</div><pre>&lt;x&gt;\n</pre><div class="text">b</div>' in page
    assert "<pre>open</pre>" in page


def test_markdown_keeps_its_structure(git_repository: Path) -> None:
    """A heading in a body is no section, and no text brings a tag or an escape."""
    page = text(filled(git_repository), format="md")
    sections = [line for line in page.split("\n") if line.startswith("## ")]
    assert sections == ["## First \\<b\\>", "## Second"]
    assert "<script" not in page and "\x1b" not in page
    assert quoted("a\n```\n<b>\n```\n<b>") == "> a\n> ```\n> <b>\n> ```\n> &lt;b>\n"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure in the middle leaves the old file and no part of a new one."""
    path = tmp_path / "out.json"
    path.write_text("old")

    def broken() -> object:
        yield "new"
        raise NotFound("in the middle")

    with pytest.raises(NotFound):
        save(str(path), broken())  # type: ignore[arg-type]
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out.json"]
    assert save(str(path), ["é"]) == 2
    with pytest.raises(IoFailed):
        save(str(tmp_path / "no" / "folder"), ["x"])
