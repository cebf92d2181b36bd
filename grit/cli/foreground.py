"""What a command that runs for another process must leave to it (spec/daemon.md, Terminals)."""

served = False
"""Whether this process runs a command for the launcher, outside of its session."""
terminal = True
"""Whether programs that the launcher starts could ask a question on a terminal."""


class RunLocally(BaseException):
    """The launcher is to run this command itself; nothing has been done yet."""


def leave_to_launcher(*, always: bool = False) -> None:
    """Raise RunLocally where a program with a terminal of its own is about to be started.

    Only before the command has had any effect: an editor, a git that asks for a password.
    """
    if served and (terminal or always):
        raise RunLocally
