"""Manual pages in roff, made from the commands themselves."""

import os
from collections.abc import Iterator

import click

from grit import __version__
from grit.cli.context import Context, GritCommand
from grit.core.errors import IoFailed


@click.command(cls=GritCommand, name="man")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.option("--output", "-o", metavar="DIR", help="Write the pages of all commands here.")
@click.pass_obj
def man(run: Context, words: tuple[str, ...], output: str | None) -> None:
    """Print a command's manual page in roff ('grit man ls | man -l -'), or write all pages."""
    from grit.cli.main import PROGRAM

    root = click.Context(PROGRAM, info_name="grit")
    if output is None:
        context = _find(root, words)
        text = page(context)
        run.show({"page": text}, text.splitlines)
        return
    written = []
    try:
        os.makedirs(output, exist_ok=True)
        for context in _all(root):
            name = context.command_path.replace(" ", "-") + ".1"
            with open(os.path.join(output, name), "w", encoding="utf-8") as file:
                file.write(page(context))
            written.append(name)
    except OSError as error:
        raise IoFailed(f"cannot write into '{output}': {error.strerror}") from error
    run.show({"pages": written}, lambda: [f"wrote {len(written)} pages to {output}"])


def _find(context: click.Context, words: tuple[str, ...]) -> click.Context:
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"no command '{' '.join(words)}'", context)
        context = click.Context(command, info_name=word, parent=context)
    return context


def _all(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None:
                yield from _all(click.Context(command, info_name=name, parent=context))


def page(context: click.Context) -> str:
    """Return the roff text of one command's page."""
    command, path = context.command, context.command_path
    usage = " ".join(command.collect_usage_pieces(context))
    text = (command.help or "").replace("\b", "").strip()
    lines = [
        f'.TH "{path.upper().replace(" ", "-")}" "1" "" "grit {__version__}" "grit manual"',
        ".SH NAME",
        _roff(f"{path.replace(' ', '-')} - {text.splitlines()[0].rstrip('.') if text else path}"),
        ".SH SYNOPSIS",
        f"\\fB{_roff(path)}\\fR {_roff(usage)}",
        ".SH DESCRIPTION",
    ]
    for paragraph in text.split("\n\n"):
        lines += [".PP", *(_roff(line.strip()) for line in paragraph.splitlines())]
    lines.append(".SH OPTIONS")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            lines += [".TP", f"\\fB{_roff(record[0])}\\fR", _roff(record[1])]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                lines += [".TP", f"\\fB{_roff(name)}\\fR", _roff(child.get_short_help_str(70))]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
