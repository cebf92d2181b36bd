"""Every place of the command line where something is named, taken from the commands themselves."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from grit.cli import context
from grit.cli.completion import KINDS
from grit.cli.main import PROGRAM
from grit.cli.read import list_, ready
from grit.core.filter_terms import BUILDERS
from grit.core.filter_text import parse
from tests.core.builders import NOW_MS

COMPLETERS = {
    "issue": context.ISSUE, "label": context.LABEL, "person": context.PERSON,
    "known": context.KNOWN, "actor": context.ACTOR, "milestone": context.MILESTONE,
    "remote": context.REMOTE, "snapshot": context.SNAPSHOT,
}  # fmt: skip
NAMED = {
    "issue": "issue", "ids": "issue", "target": "issue", "parent": "issue",
    "assignee": "person", "assignees": "person", "author": "person",
    "labels": "label", "milestone": "milestone", "remote": "remote", "snapshot": "snapshot",
    "actor show actor": "actor", "actor use actor": "actor",
    "actor trust actor": "known", "actor revoke actor": "known", "log actor": "person",
    "issue label add values": "label", "issue label remove values": "label",
    "issue assignee add values": "person", "issue assignee remove values": "person",
}  # fmt: skip
"""Parameter, or command and parameter, to what it names. Persons: tests/services/test_who.py."""
BY_NUMBER = {"comment_id", "resource", "nonce"}
"""A number, an id, or a word of its own before a colon: no name that somebody else can choose."""
EXACT = {"name", "key", "ref"}
"""Exactly what one issue, this program, or git, calls so."""
PATHS = {"body_file", "path", "output", "c", "command"}
"""Opened, or started, as they are typed."""
TEXTS = {
    "body", "due", "estimate", "label", "note", "pairs", "priority", "reason", "search", "since",
    "status", "text", "title", "ttl", "type", "url", "value", "words",
}  # fmt: skip
"""What is stored, searched or calculated with."""


def parameters() -> Iterator[tuple[str, click.Parameter]]:
    """Yield command and parameter for all that a person types freely."""

    def below(command: click.Command, path: str) -> Iterator[tuple[str, click.Parameter]]:
        if isinstance(command, click.Group):
            ctx = click.Context(command)
            for name in command.list_commands(ctx):
                found = command.get_command(ctx, name)
                assert found is not None
                yield from below(found, f"{path}{name} ")
            return
        for param in command.params:
            fixed = isinstance(param.type, click.Choice | click.IntRange)
            if not fixed and not (isinstance(param, click.Option) and param.is_flag):
                yield path, param

    return below(PROGRAM, "")


def test_every_parameter_is_known_for_what_it_names() -> None:
    """A new parameter fails here until somebody has said what it names, and how it completes."""
    seen = set()
    for path, param in parameters():
        name = param.name or ""
        apart = f"{path}{name}"
        kind = NAMED.get(apart, NAMED.get(name))
        others = [name in some for some in (BY_NUMBER, EXACT, PATHS, TEXTS)]
        assert (kind is not None) + sum(others) == 1, apart
        completer = COMPLETERS[kind] if kind else None
        assert param._custom_shell_complete is completer, apart
        seen |= {apart, name}
    assert seen >= set(NAMED) | BY_NUMBER | EXACT | PATHS | TEXTS
    assert set(COMPLETERS) == set(KINDS)


KEYS = [key for key in BUILDERS if key and key != "field.KEY"]
FIELDS = ["some_name", "Some.Name", "9", "a-b", "été", '"my key"', '"a:b"', "-x"]
NEGATED = [
    *(spelt for key in KEYS for spelt in (f"-{key}:1", f"-{key.upper()}:1", f"-{key.title()}:1")),
    *(f"-{field}.{key}:1" for key in FIELDS for field in ("field", "FIELD", "Field")),
    '-"exact words"',
    "-labl:typo",
]


@pytest.mark.parametrize("command", [list_, ready], ids=["ls", "ready"])
@pytest.mark.parametrize("word", NEGATED)
def test_a_negated_term_is_no_option(word: str, command: click.Command) -> None:
    """Whatever the grammar takes as a negated key or phrase reaches the filter, in any place."""
    for args in ([word], ["bug", word, "--json"], ["-n", "5", word], ["--", word]):
        words = command.make_context("ls", list(args)).params["words"]
        assert word in words, args


@pytest.mark.parametrize("key", KEYS)
def test_a_negated_key_means_that_key(key: str) -> None:
    """What reaches the filter is read as the negated key."""
    value = {"state": "open", "is": "ready", "no": "label", "id": "abcd", "parent": "abcd"}
    dated = key in ("created", "updated", "due")
    text = value.get(key, "2025-01-31" if dated else "1")
    (term,) = parse(f"-{key.title()}:{text}", now_ms=NOW_MS).terms
    assert term.negated
    assert term.key in (key, "") and (term.kind == key or term.kind in ("field", "state"))


@pytest.mark.parametrize(
    ("args", "name", "value", "words"),
    [
        (["-l", "-label:x"], "labels", ("-label:x",), ()),
        (["--label", "-a:b", "-label:x"], "labels", ("-a:b",), ("-label:x",)),
        (["--search", '-"x'], "search", '-"x', ()),
        (["--label=-a:b"], "labels", ("-a:b",), ()),
        (["-lbug", "-C", "/", "-label:x"], "labels", ("bug",), ("-label:x",)),
    ],
)
def test_the_value_of_an_option_is_no_term(
    args: list[str], name: str, value: object, words: tuple[str, ...]
) -> None:
    """What stands behind an option that takes a value is that value, whatever it begins with."""
    params = list_.make_context("ls", list(args)).params
    assert (params[name], params["words"]) == (value, words)


def test_directory_is_an_option(tmp_path: Path) -> None:
    """-C with its value attached stays an option, though a colon follows."""
    ctx = list_.make_context("ls", [f"-C{tmp_path}:x"], obj=(run := context.Context()))
    assert ctx.params["words"] == ()
    assert run.directory == f"{tmp_path}:x"
