"""What every command shares: options, the opened workspace, and how results are printed."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final

import click

from grit.cli.foreground import later, leave_to_launcher
from grit.cli.terminal import Terminal
from grit.core.errors import InvalidArgs, IoFailed
from grit.core.progress import SILENT, ProgressReporter
from grit.services.workspace import Ports, Workspace, open_workspace

JSON_VERSION: Final = 1
_ROWS_ENCODED: Final = 100
"""Rows that are made JSON at once: a call for each would cost a fifth more."""
_HELD_CHARS: Final = 16 * 1024 * 1024
"""JSON that is held back, so that an error can still take its place."""


def clock_ms() -> int:
    """Return the time of this machine's clock, unix milliseconds; raises IoFailed beyond 2262."""
    try:
        return time.time_ns() // 1_000_000
    except OverflowError as error:
        raise IoFailed(
            "this machine's clock stands beyond the year 2262; set it right and try again",
            way_out="set the clock",
        ) from error


class Context:
    """One run of grit: what was asked for globally, and what is open."""

    def __init__(self) -> None:
        """Nothing is opened until it is used."""
        self.directory = "."
        self.color = "auto"
        self.json = False
        self.json_fields: list[str] | None = None
        self.jsonl = False
        self.quiet = False
        self._terminal: Terminal | None = None
        self._workspace: Workspace | None = None

    @cached_property
    def now_ms(self) -> int:
        """The time at which it began; raises IoFailed for a clock that cannot be read."""
        return clock_ms()

    @property
    def terminal(self) -> Terminal:
        """Standard output and error."""
        if self._terminal is None:
            self._terminal = Terminal(self.color)
        return self._terminal

    @property
    def workspace(self) -> Workspace:
        """The repository around the directory; raises GitFailed without one."""
        if self._workspace is None:
            self._workspace = open_workspace(self.directory, self.ports())
        return self._workspace

    def ports(self) -> Ports:
        """Return the clock, randomness, environment and ears that services get."""
        progress: ProgressReporter = SILENT
        shows = self.terminal.stderr_is_tty and not self.quiet and not self.json
        if shows:
            from grit.cli.progress import ProgressBar

            progress = ProgressBar(sys.stderr, self.terminal.columns)
        return Ports(
            os.environ,
            clock_ms,
            os.urandom,
            self.notice,
            progress,
            lambda work: later(work, self.close),
        )

    def notice(self, text: str) -> None:
        """Tell the user something on stderr, unless --quiet."""
        if not self.quiet:
            self.terminal.notice(f"grit: {text}")

    def close(self) -> None:
        """Close what was opened."""
        if self._workspace is not None:
            self._workspace.close()

    def show(self, data: object, lines: Callable[[], Iterable[str]]) -> None:
        """Print a result: `data` under --json or --jsonl, nothing under --quiet, else the lines."""
        if self.json:
            self.print_json({"schema_version": JSON_VERSION, "ok": True, "data": data})
        elif self.jsonl:
            self.print_json(data)
        elif not self.quiet:
            self.terminal.write(lines())

    def show_rows(
        self,
        name: str,
        rows: Iterable[dict[str, object]],
        fields: Sequence[str],
        extra: dict[str, object],
        lines: Callable[[], Iterable[str]],
    ) -> None:
        """Print rows: under --json[=fields] in data.<name>, under --jsonl one document a row."""
        if self.json_fields is not None:
            narrow = self.narrowing(fields)
            rows = (narrow(row) for row in rows)
        if self.jsonl:
            import json

            # Beyond bare rows there are events, whose long texts are read as they are written.
            self.terminal.write(json.dumps(row, default=self.long_text) for row in rows)
        elif self.json:
            self._print_rows(name, rows, extra)
        else:
            self.show(None, lines)

    def _print_rows(
        self, name: str, rows: Iterable[dict[str, object]], extra: dict[str, object]
    ) -> None:
        """Print rows in one document, as `show` would, of very many in pieces as they come."""
        import json
        from itertools import islice

        head = json.dumps({"schema_version": JSON_VERSION, "ok": True, "data": {name: []}})
        held, size = [head.removesuffix("]}}")], 0
        source, comma = iter(rows), ""
        while batch := list(islice(source, _ROWS_ENCODED)):
            try:
                held += (comma, json.dumps(batch)[1:-1])
                size += len(held[-1])
            except TypeError:
                size = _HELD_CHARS  # some of their texts are long
                for row in batch:
                    sys.stdout.writelines([*held, comma])
                    held, comma = [], ", "
                    sys.stdout.writelines(self.workspace.long_texts.json_pieces(row))
            comma = ", "
            if size >= _HELD_CHARS:
                sys.stdout.writelines(held)
                held, size = [], 0
        rest = json.dumps(extra)[1:-1]
        sys.stdout.writelines([*held, f"], {rest}}}}}" if rest else "]}}", "\n"])
        sys.stdout.flush()

    def narrowing(self, fields: Sequence[str]) -> Callable[[dict[str, object]], dict[str, object]]:
        """Return what narrows a row to the fields asked for; raise InvalidArgs for unknown ones."""
        wanted = self.json_fields
        if wanted is None:
            return lambda row: row
        unknown = [field for field in wanted if field not in fields]
        if unknown:
            raise InvalidArgs(
                f"unknown field '{unknown[0]}'; known: {', '.join(fields)}",
                fields=list(fields),
            )
        return lambda row: {field: row[field] for field in wanted}

    def print_json(self, document: object) -> None:
        """Print one ASCII document on one line."""
        import json

        try:
            sys.stdout.write(json.dumps(document, ensure_ascii=True))
        except TypeError:
            sys.stdout.writelines(self.workspace.long_texts.json_pieces(document))
        sys.stdout.write("\n")
        sys.stdout.flush()

    def long_text(self, value: object) -> object:
        """Return what stands in JSON for a text of which the view gave the beginning."""
        return self.workspace.long_texts.json(value)


class GritCommand(click.Command):
    """A command that takes the options of every command."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the shared options behind the command's own."""
        super().__init__(*args, **{**kwargs, "add_help_option": False})
        self.params.extend(SHARED_OPTIONS)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Understand --json=a,b, which click's flags cannot say."""
        end = args.index("--") if "--" in args else len(args)
        for at, word in enumerate(args[:end]):
            if word.startswith("--json="):
                run = ctx.ensure_object(Context)
                run.json_fields = [field for field in word[7:].split(",") if field]
                args[at] = "--json"
        return super().parse_args(ctx, args)


class TalkingCommand(GritCommand):
    """A command that starts programs which may ask their user something on the terminal."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it where that terminal is."""
        leave_to_launcher()
        return super().invoke(ctx)


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def store(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(ctx.ensure_object(Context), name, value)

    return store


def _help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(ctx.get_help())
        ctx.exit()


def help_option() -> click.Option:
    """Return --help; click's own asks gettext for its text, a millisecond a command."""
    return click.Option(
        ["--help", "-h"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_help,
        help="Show this message and exit.",
    )


def shared_options() -> list[click.Parameter]:
    """Return the options that every command and the program itself take."""

    def option(*names: str, store: str, text: str, **more: Any) -> click.Option:
        return click.Option(
            list(names), expose_value=False, callback=_store(store), help=text, **more
        )

    return [
        option("--json", store="json", is_flag=True, text="Print one JSON document."),
        option("--jsonl", store="jsonl", is_flag=True, text="Print one JSON document a row."),
        option("--quiet", "-q", store="quiet", is_flag=True, text="Print nothing but errors."),
        option(
            "--color",
            store="color",
            type=click.Choice(["auto", "always", "never"]),
            text="When to use colours.",
        ),
        option("-C", store="directory", metavar="DIR", text="Work in this directory."),
        help_option(),
    ]


SHARED_OPTIONS: Final = shared_options()
"""Made once: they keep nothing of a run."""


def completing(kind: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Return a completer of one kind of names; its module is loaded when it is asked."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
        from grit.cli.completion import items

        return list(items(kind, ctx, incomplete))

    return complete


ISSUE: Final = completing("issue")
LABEL: Final = completing("label")
PERSON: Final = completing("person")
KNOWN: Final = completing("known")
ACTOR: Final = completing("actor")
MILESTONE: Final = completing("milestone")
REMOTE: Final = completing("remote")
SNAPSHOT: Final = completing("snapshot")
