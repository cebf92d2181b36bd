"""Every command of the program, with words that it takes, for tests that sweep them all."""

from collections.abc import Iterator

import click

from grit.cli.main import PROGRAM

_VALUES = {
    "ACTOR": "Ann Example", "KEY": "daemon.debounce_ms", "VALUE": "100", "VALUES": "bug",
    "URL": "https://example.org", "FILE": "notes.txt", "NAME": "notes.txt", "COMMENT": "1",
    "TEXT...": "one", "RESOURCE": "path:x", "SHELL": "bash", "-- COMMAND...": "true",
}  # fmt: skip
_MORE = {
    ("issue", "comment"): ("--body", "x"),
    ("comment",): ("--body", "x"),
    ("issue", "create"): ("more",),
    ("issue", "update"): ("--title", "x"),
    ("issue", "comment-edit"): ("--body", "x"),
    ("issue", "dep", "add"): ("--type", "related_to"),
    ("new",): ("more",),
    ("init",): ("--agents-md",),
    ("doctor",): ("--fix",),
}


def leaves(
    group: click.Group = PROGRAM, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command of the program with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*above, name))
        elif command is not None:
            yield (*above, name), command


def line(issue: str, words: tuple[str, ...], command: click.Command) -> tuple[str, ...]:
    """Return a command with words that it takes."""
    asked: tuple[str, ...] = ()
    for param in command.params:
        if param.required:
            value = _VALUES.get(param.human_readable_name, issue)
            option = isinstance(param, click.Option)
            asked += (param.opts[0], value) if option else (value,)
    return (*words, *asked, *_MORE.get(words, ()))
