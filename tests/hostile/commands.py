"""The table of hostile command lines, batches and imports: each is refused, and nothing changes."""

import json
from typing import NamedTuple

from grit.core import limits

ID = "ID"
"""Stands for the issue of the test."""
LONG_LABEL = "x" * (limits.LABEL_CHARS_MAX + 1)
LONG_VALUE = "x" * (limits.VALUE_CHARS_MAX + 1)
CONTROLS = {"ESC": "\x1b[31m", "newline": "a\nb", "CR": "a\rb", "C1": "a\x9bb", "DEL": "a\x7f"}


class Refused(NamedTuple):
    """A command line with its stdin, and the error code that it ends with."""

    name: str
    arguments: tuple[str | bytes, ...]
    code: str = "invalid_args"
    stdin: bytes = b""


def _ids() -> list[Refused]:
    bad = {
        "empty": "", "blank": "   ", "not hex": "xyzzy", "a path": "../../etc/passwd",
        "a ref": "refs/heads/main", "too short": "abc", "too long": "0" * 33, "a star": "*",
        "a negative number": "0x1234", "full-width digits": "１２３４", "SQL": "' OR 1=1 --",
        "a format": "%s%n", "an option behind --": "--help",
    }  # fmt: skip
    rows = [Refused(f"show: {name}", ("show", "--", text)) for name, text in bad.items()]
    rows += [
        Refused(f"close: {name}", ("close", "--", text))
        for name, text in bad.items()
        if name in ("empty", "not hex", "too short", "too long")
    ]
    rows.append(Refused("show: nobody's id", ("show", "f" * 32), "not_found"))
    rows.append(Refused("show: a surrogate", ("show", b"\xff\xfe\xff\xfe")))
    return rows


def _values() -> list[Refused]:
    rows = [
        Refused("title: empty", ("new", "--title", "")),
        Refused("title: blank", ("new", "--title", " \t ")),
        Refused("title: too long", ("new", "--title", LONG_VALUE)),
        Refused("title: not Unicode", ("new", "--title", b"a\xffb")),
        Refused("body: not Unicode", ("new", "T", "--body", b"a\xffb")),
        Refused("body: not UTF-8", ("new", "T", "--body-file", "-"), stdin=b"\xff\xfe"),
        Refused("body: an overlong slash", ("new", "T", "-F", "-"), stdin=b"\xc0\xaf"),
        Refused("body: 10 MB", ("new", "T", "-F", "-"), stdin=b"x" * 10_000_000),
        Refused("body: twice", ("new", "T", "-F", "-", "--body", "x")),
        Refused("body: no such file", ("new", "T", "-F", "/nonexistent/file"), "io_error"),
        Refused("comment: empty", ("comment", ID, "--body", "")),
        Refused("comment: blank", ("comment", ID, "--body", " \n ")),
        Refused("comment: 10 MB", ("comment", ID, "-F", "-"), stdin=b"x" * 10_000_000),
        Refused("comment: not Unicode", ("comment", ID, "--body", b"\xed\xa0\x80")),
        Refused("label: empty", ("issue", "label", "add", ID, "")),
        Refused("label: too long", ("issue", "label", "add", ID, LONG_LABEL)),
        Refused("label: not Unicode", ("issue", "label", "add", ID, b"\xff")),
        Refused("assignee: empty", ("issue", "assignee", "add", ID, " ")),
        Refused("assignee: too long", ("issue", "assignee", "add", ID, LONG_LABEL)),
        Refused("field: without =", ("issue", "update", ID, "--field", "priority")),
        Refused("field: without key", ("issue", "update", ID, "--field", "=1")),
        Refused("field: a long key", ("issue", "update", ID, "--field", f"{LONG_LABEL}=1")),
        Refused("field: a long value", ("issue", "update", ID, "--field", f"a={LONG_VALUE}")),
        Refused("url: empty", ("issue", "link", "add", ID, "")),
        Refused("url: too long", ("issue", "link", "add", ID, LONG_VALUE)),
        Refused("note: too long", ("issue", "link", "add", ID, "u", "--note", LONG_VALUE)),
        Refused("reason: too long", ("issue", "delete", ID, "--reason", LONG_VALUE)),
        Refused("dep: on itself", ("issue", "dep", "add", ID, "--target", ID)),
        Refused("dep: not hex", ("issue", "dep", "add", ID, "--target", "nobody")),
        Refused("dep: of no issue", ("issue", "dep", "add", ID, "--target", "f" * 32), "not_found"),
        Refused("dep: an unknown type", ("issue", "dep", "add", ID, "--target", ID, "--type", "x")),
        Refused(
            "edit: no such comment", ("issue", "comment-edit", ID, "9", "-b", "x"), "not_found"
        ),
        Refused("redact: not hex", ("issue", "comment-redact", ID, "zzzz")),
        Refused("update: an empty title", ("issue", "update", ID, "--title", " ")),
        Refused("an unknown command", ("frobnicate",)),
        Refused("an unknown option", ("ls", "--frobnicate")),
        Refused("a limit that is no number", ("ls", "--limit", "many")),
        Refused("a negative limit", ("ls", "--limit", "-1")),
        Refused("an unknown field", ("ls", "--json=nonsense")),
        Refused("an unknown sort", ("ls", "--sort", "nonsense")),
        Refused("an unclosed quote", ("ls", '"unclosed')),
        Refused("a filter of 10,000 characters", ("ls", "x" * 10_000)),
        Refused("a bad date", ("log", "--since", "yesterweek")),
    ]
    for name, text in CONTROLS.items():
        rows += [
            Refused(f"title: {name}", ("new", "--title", f"T{text}T")),
            Refused(f"label: {name}", ("issue", "label", "add", ID, f"l{text}l")),
            Refused(f"assignee: {name}", ("issue", "assignee", "add", ID, f"a{text}a")),
            Refused(f"field value: {name}", ("issue", "update", ID, "-f", f"k=v{text}v")),
            Refused(f"field key: {name}", ("issue", "update", ID, "-f", f"k{text}k=v")),
            Refused(f"url: {name}", ("issue", "link", "add", ID, f"u{text}u")),
        ]
    return rows


UNSAFE_NAMES = {
    "climbing": "../x", "absolute": "/etc/x", "a backslash": "..\\x", "only dots": "..",
    "a device": "CON", "a device with a suffix": "nul.txt", "a port": "COM1", "a colon": "a:b",
    "a newline": "a\nb", "ESC": "a\x1bb", "300 bytes": "x" * 300, "a pipe": "a|b", "a quote": 'a"b',
    "300 bytes in few characters": "\N{CRAB}" * 75,
}  # fmt: skip


def _attachments() -> list[Refused]:
    add = ("issue", "attachment", "add", ID, "content.bin", "--name")
    rows = [Refused(f"attachment: {name}", (*add, text)) for name, text in UNSAFE_NAMES.items()]
    gone = ("issue", "attachment", "add", ID, "/nonexistent")
    rows.append(Refused("attachment: no such file", gone, "io_error"))
    get = ("issue", "attachment", "get", ID, "nothing")
    rows.append(Refused("attachment: no such name", get, "not_found"))
    return rows


def _line(**shape: object) -> bytes:
    return json.dumps(shape).encode() + b"\n"


GOOD_LINE = _line(op="create", title="must not stay")
BATCHES: dict[str, bytes] = {
    "not JSON": b"{nonsense}\n",
    "not UTF-8": b'{"op":"create","title":"\xff"}\n',
    "not an object": b"[1, 2]\n",
    "only a number": b"7\n",
    "nested 100,000 deep": b"[" * 100_000 + b"\n",
    "a huge number": b"9" * 10_000 + b"\n",
    "NaN": b'{"op":"create","title":NaN}\n',
    "no op": _line(title="x"),
    "an unknown op": _line(op="destroy", issue=ID),
    "an op that is a list": _line(op=["create"], title="x"),
    "no title": _line(op="create"),
    "an empty title": _line(op="create", title=""),
    "a title of 10^7 characters": _line(op="create", title="x" * 10**7),
    "a title that is a number": _line(op="create", title=7),
    "a title with ESC": _line(op="create", title="\x1b[31m"),
    "a title with a surrogate": b'{"op":"create","title":"\\ud800"}\n',
    "a body of 10 MB": _line(op="create", title="x", body="x" * 10**7),
    "a body with a surrogate": b'{"op":"create","title":"x","body":"\\udc00"}\n',
    "100,000 labels": _line(op="create", title="x", labels=[f"{n}" for n in range(100_000)]),
    "257 labels": _line(op="create", title="x", labels=[f"{n}" for n in range(257)]),
    "labels that are text": _line(op="create", title="x", labels="bug"),
    "labels that are numbers": _line(op="create", title="x", labels=[1]),
    "an empty label": _line(op="create", title="x", labels=[""]),
    "fields that are a list": _line(op="create", title="x", fields=["a"]),
    "a field that is a number": _line(op="create", title="x", fields={"priority": 1}),
    "an unknown key": _line(op="create", title="x", colour="red"),
    "an id that is not hex": _line(op="close", issue="zzzz"),
    "an id that is a list": _line(op="close", issue=[]),
    "a name that nobody gave": _line(op="close", issue="$nobody"),
    "an empty comment": _line(op="comment", issue=ID, body=" "),
    "an unknown edge": _line(op="dep", issue=ID, target=ID, type="eats"),
    "an edge to itself": _line(op="dep", issue=ID, target=ID, type="blocks"),
}

IMPORTS: dict[str, bytes] = {
    "not JSON": b"nonsense",
    "nothing": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "no events": b'{"issues": []}',
    "events that are a map": b'{"events": {}}',
    "nested 100,000 deep": b"[" * 100_000,
    "a binary": bytes(range(256)) * 100,
}


def refused_commands() -> list[Refused]:
    """Return the whole table; names are unique."""
    rows = [*_ids(), *_values(), *_attachments()]
    rows += [
        Refused(f"batch: {name}", ("batch",), stdin=GOOD_LINE + text)
        for name, text in BATCHES.items()
    ]
    rows.append(Refused("batch: nothing", ("batch",)))
    gone = _line(op="close", issue="f" * 32)
    rows.append(Refused("batch: no such issue", ("batch",), "not_found", GOOD_LINE + gone))
    rows += [
        Refused(f"import: {name}", ("import", "json", "-"), stdin=text)
        for name, text in IMPORTS.items()
    ]
    return rows
