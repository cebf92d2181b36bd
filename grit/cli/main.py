"""The program: commands are found lazily, errors become messages and exit statuses."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from grit.cli.context import JSON_VERSION, Context, clock_ms, help_option, shared_options
from grit.cli.terminal import forget
from grit.core.errors import ERRORS, GritError, InternalFailed, InvalidArgs, IoFailed, ViewFailed
from grit.view.trust import ViewDoubt

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the other makes names of all numbers first

COMMANDS: Final = {
    "init": "grit.cli.setup:init",
    "actor": "grit.cli.setup:actor",
    "config": "grit.cli.setup:config",
    "issue": "grit.cli.issue:issue",
    "new": "grit.cli.edit:create",
    "ls": "grit.cli.read:list_",
    "show": "grit.cli.read:show",
    "comment": "grit.cli.edit:comment",
    "close": "grit.cli.edit:close",
    "ready": "grit.cli.read:ready",
    "blocked": "grit.cli.read:blocked",
    "search": "grit.cli.read:search",
    "log": "grit.cli.activity:log",
    "sync": "grit.cli.sync:sync",
    "lock": "grit.cli.lock:lock",
    "batch": "grit.cli.exchange:batch",
    "export": "grit.cli.exchange:export",
    "import": "grit.cli.exchange:import_",
    "snapshot": "grit.cli.snapshot:snapshot",
    "rebuild": "grit.cli.maintain:rebuild",
    "doctor": "grit.cli.maintain:doctor",
    "db": "grit.cli.maintain:db",
    "daemon": "grit.cli.daemon:daemon",
    "completion": "grit.cli.completion:completion",
    "man": "grit.cli.manual:man",
}
"""Command to module and attribute; in the order of `grit --help`."""

INTERRUPTED: Final = 130
COMPLETING: Final = "_GRIT_COMPLETE"
"""Environment: a shell asks what completes a word (spec/cli.md, Completion)."""
MESSAGE_CHARS_MAX: Final = 2_000
"""Of each line of an error: it may repeat a value that somebody gave."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, *args: Any, commands_at: dict[str, str] | None = None, **kw: Any) -> None:
        """Take the table of command to "module:attribute"."""
        kw.setdefault("params", [help_option()])
        super().__init__(*args, **kw, add_help_option=False)
        self.commands_at = commands_at or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the table's order."""
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None."""
        place = self.commands_at.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is no such one."""
        name = args[0]
        if name not in self.commands_at and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.commands_at, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"no command '{name}'{hint}", ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from grit import __version__

        click.echo(f"grit {__version__}")
        ctx.exit()


PROGRAM: Final = LazyGroup(
    "grit",
    commands_at=COMMANDS,
    help="Issues next to the code: an issue tracker inside a git repository.",
    params=[
        *shared_options(),
        click.Option(
            ["--version"], is_flag=True, expose_value=False, callback=_version, is_eager=True,
            help="Print the version.",
        ),
    ],
    no_args_is_help=True,
)  # fmt: skip


def main() -> None:
    """Run the command line and exit with its status (spec/errors.md)."""
    _open_missing_streams()
    status = program(sys.argv[1:])
    # Python puts back what kills a process before it takes itself down, and nothing is left to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def program(args: list[str]) -> int:
    """Run a command line in a process that does nothing else, and return its exit status."""
    sys.unraisablehook = _interrupt_again
    try:
        status = run(args)
        _flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _open_missing_streams() -> None:
    """Point standard streams that the caller closed at nothing.

    Their numbers would else go to the files of the repository, and output of C code into them.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "r" if name == "stdin" else "w"))


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        forget(sys.stdout)


def _interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Bring back a Ctrl-C that came where a library drops exceptions; show other drops as usual."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        from signal import SIGINT
        from threading import Timer

        # Not at once: it would be raised in here, and be dropped again.
        Timer(0.01, os.kill, (os.getpid(), SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def run(args: list[str]) -> int:
    """Run one command line and return its exit status."""
    context = Context()
    try:
        return _run(context, args)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        context.close()


def _run(context: Context, args: list[str]) -> int:
    if COMPLETING in os.environ:
        from grit.cli.shells import teach

        teach()
    try:
        clock_ms()  # one that cannot be told stops many libraries
        status = PROGRAM.main(args, prog_name="grit", standalone_mode=False, obj=context)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except SystemExit as exit_:  # click's end of a completion
        return int(exit_.code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _report(context, InvalidArgs(_message(error)), args)
    except click.Abort:
        return INTERRUPTED
    except GritError as error:
        return _report(context, error, args)
    except BrokenPipeError:
        forget(sys.stdout)
        return 0
    except UnicodeEncodeError as error:
        return _report(context, InvalidArgs(f"refused: not valid Unicode ({error.reason})"), args)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _report(context, IoFailed(f"{error.strerror or error}{place}"), args)
    except ViewDoubt as doubt:
        return _report(context, _rebuilt(context, doubt), args)
    except Exception as error:
        if "GRIT_DEBUG" in context.ports().environ:
            raise
        words = f"{type(error).__name__}: {error} (GRIT_DEBUG=1 shows where)"
        return _report(context, InternalFailed(words), args)
    return status if isinstance(status, int) else 0


def _rebuilt(context: Context, doubt: ViewDoubt) -> GritError:
    """Build a view anew that turned out to be damaged halfway; return what to tell the user.

    The command itself is not run again: it may have printed or stored something already.
    """
    from grit.services.refresh import rebuild

    try:
        rebuild(context.workspace)
    except GritError as error:
        return error
    except ViewDoubt as again:
        return ViewFailed(f"{doubt}, and again: {again}")
    return ViewFailed(
        f"{doubt}; it has been built anew from the log: look at what is there, then try again"
    )


def _message(error: click.ClickException) -> str:
    usage = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        usage = f" (see '{error.ctx.command_path} --help')"
    return f"{error.format_message().rstrip('.')}{usage}"


def _readable(message: str) -> str:
    """Return a message without the middle of lines that are too long to read."""
    half = MESSAGE_CHARS_MAX // 2
    return "\n".join(
        line if len(line) <= MESSAGE_CHARS_MAX else f"{line[:half]} ... {line[-half:]}"
        for line in message.split("\n")
    )


def _report(context: Context, error: GritError, args: list[str]) -> int:
    """Print an error: on stdout under --json, else on stderr with its advice."""
    row, message = ERRORS[error.code], _readable(error.message)
    asked = (word.startswith("--json") for word in args)
    if context.json or context.jsonl or any(asked):
        document = {
            "schema_version": JSON_VERSION,
            "ok": False,
            "error": {"code": error.code, "message": message, "details": error.details},
        }
        try:
            context.print_json(document)
            return row.exit_status
        except OSError:
            forget(sys.stdout)  # stdout itself is what failed: stderr is left to say so
    context.terminal.notice(f"grit: {message}")
    # What has a way out of its own, or went wrong with a remote, tells it in the message.
    told = {"remote", "way_out"} & error.details.keys()
    if not told and error.code not in ("invalid_args", "not_found", "conflict"):
        context.terminal.notice(row.advice)
    return row.exit_status
