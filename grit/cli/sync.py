"""The command that exchanges events with a remote."""

import click

from grit.cli.context import REMOTE, Context, TalkingCommand
from grit.core.errors import InvalidArgs
from grit.core.escape import escape


@click.command(cls=TalkingCommand)
@click.option("--pull", is_flag=True, help="Only bring events here.")
@click.option("--push", is_flag=True, help="Only send events there.")
@click.option(
    "--remote",
    "-r",
    metavar="REMOTE",
    shell_complete=REMOTE,
    help="A remote, a URL, a path, or a bundle to pull from.",
)
@click.argument("words", nargs=-1, metavar="")
@click.pass_obj
def sync(run: Context, pull: bool, push: bool, remote: str | None, words: tuple[str, ...]) -> None:
    """Bring the events of a remote here, and send it those it lacks."""
    if words:
        raise InvalidArgs(f"name the remote by an option: 'grit sync --remote {words[0]}'")
    from grit.services import sync as service

    both = pull == push
    done = service.sync(
        run.workspace,
        remote,
        pull=pull or both,
        push=push or both,
        directory=run.directory,
    )

    def lines() -> list[str]:
        words = [
            f"{verb} {count} event{'s' if count != 1 else ''}"
            for verb, count in (("received", done.events_received), ("sent", done.events_sent))
            if count
        ]
        if done.merged:
            words.append("joined two logs")
        if not words:
            words = ["no log yet" if done.wal_head is None else "nothing new"]
        return [f"{escape(done.remote)}: {', '.join(words)}"]

    run.show(done._asdict(), lines)
