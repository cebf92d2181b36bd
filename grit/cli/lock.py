"""Commands that take, renew, give back, show and clear away leases."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from grit.cli.context import ISSUE, Context, GritCommand, TalkingCommand
from grit.cli.foreground import leave_to_launcher
from grit.cli.main import LazyGroup
from grit.core.errors import InvalidArgs
from grit.core.escape import escape
from grit.core.lease import Holder, Lease
from grit.core.limits import CLAIM_MS_DEFAULT, LEASE_MS_DEFAULT, LOCKS_NAMED_MAX
from grit.services import leases

if TYPE_CHECKING:
    from grit.services.claims import Claim

_RESOURCE: Final = "RESOURCE"


def ttl_ms(text: str | None, default_ms: int) -> int:
    """Return the duration that --ttl gives; raise InvalidArgs when it is none or out of bounds."""
    from grit.core.lease import check_ttl
    from grit.core.times import parse_duration_ms

    if text is None:
        return default_ms
    found = parse_duration_ms(text)
    if found is None:
        raise InvalidArgs(f"'{text}' is no duration: write 30m, 8h, 2d")
    return check_ttl(found)


def ttl_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option --ttl of a command."""
    return click.option(
        "--ttl", metavar="TIME", help=f"How long: 30m, 8h, 2d; {default} by default."
    )


def local_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --local of a command that changes a lease."""
    return _local("Do not ask the remote; other clones are not kept away.")(command)


def _local(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--local", is_flag=True, help=words)


def nonce_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --nonce."""
    return click.option(
        "--nonce",
        metavar="NONCE",
        help="The session that holds it (see 'grit lock status --json').",
    )(command)


def until(expires_unix_ms: int) -> str:
    """Return the end of a lease, to the minute, UTC; nothing for one that was given back."""
    from grit.core.times import format_ms

    return format_ms(expires_unix_ms)[:16].replace("T", " ") if expires_unix_ms else ""


def _show(run: Context, lease: Lease, verb: str) -> None:
    words = f"{verb} {escape(lease.resource.short)}"
    end = "" if lease.released else f" until {until(lease.expires_unix_ms)} UTC"
    run.show(
        {"lock": leases.details_of(lease)},
        lambda: [f"{words}{end} (fence {lease.fence})"],
    )


@click.command(cls=TalkingCommand, name="acquire")
@click.argument("resource", metavar=_RESOURCE)
@ttl_option("30m")
@local_option
@click.pass_obj
def acquire(run: Context, resource: str, ttl: str | None, local: bool) -> None:
    """Take a lease on repo:NAME, path:PATH or issue:ID, or go on with it.

    Exits with 4 when somebody else has it, or one that overlaps.
    """
    what = leases.parse(run.workspace, resource)
    wish = leases.Wish(what, leases.holder(run.workspace), ttl_ms(ttl, LEASE_MS_DEFAULT))
    _show(run, leases.acquire(run.workspace, wish, local=local).lease, "leased")


@click.command(cls=TalkingCommand, name="renew")
@click.argument("resource", metavar=_RESOURCE)
@ttl_option("30m")
@nonce_option
@local_option
@click.pass_obj
def renew(run: Context, resource: str, ttl: str | None, nonce: str | None, local: bool) -> None:
    """Let a lease last longer, from now on."""
    what = leases.parse(run.workspace, resource)
    who = leases.holder(run.workspace, nonce)
    length_ms = ttl_ms(ttl, LEASE_MS_DEFAULT)
    _show(run, leases.renew(run.workspace, what, who, length_ms, local=local), "renewed")


@click.command(cls=TalkingCommand, name="release")
@click.argument("resource", metavar=_RESOURCE)
@nonce_option
@local_option
@click.pass_obj
def release(run: Context, resource: str, nonce: str | None, local: bool) -> None:
    """Give a lease back before its end."""
    what = leases.parse(run.workspace, resource)
    who = leases.holder(run.workspace, nonce)
    _show(run, leases.release(run.workspace, what, who, local=local), "released")


@click.command(cls=GritCommand, name="status")
@click.argument("resource", metavar=f"[{_RESOURCE}]", required=False)
@click.option("--all", "all_", is_flag=True, help="Show those that were given back, too.")
@click.option("--remote", is_flag=True, help="Ask the remote first.")
@_local("Do not ask the remote; this is the default.")
@click.pass_obj
def status(run: Context, resource: str | None, all_: bool, remote: bool, local: bool) -> None:
    """Show who has leased what, as this clone knows it."""
    from grit.services.actors import current
    from grit.services.refresh import refresh
    from grit.services.session import session_nonce

    if remote and local:
        raise InvalidArgs("--remote and --local are opposites")
    if remote:
        leave_to_launcher()
    only = leases.parse(run.workspace, resource) if resource else None
    found = leases.status(run.workspace, remote=remote)
    reader = refresh(run.workspace)
    me, session = current(run.workspace), session_nonce(run.workspace.ports.environ)
    rows: list[dict[str, object]] = []
    names: list[str] = []
    for lock in found.leases:
        lease = lock.lease
        assert lease is not None
        if only not in (None, lease.resource) or (lease.released and not all_):
            continue
        state = "released" if lease.released else "live" if lease.live(run.now_ms) else "expired"
        mine = me is not None and lease.holder == Holder(me.actor_id, session)
        names.append(escape(lease.resource.short))
        rows.append(
            {
                **leases.details_of(lease),
                "state": state,
                "holder": leases.name_of(reader, lease, lock.person),
                "this_session": mine,
            }
        )
    for lock in found.malformed[:LOCKS_NAMED_MAX]:
        where = f" of {lock.remote}" if lock.remote else ""
        run.notice(f"{lock.ref}{where} blocks nobody: {lock.problem}")
    if len(found.malformed) > LOCKS_NAMED_MAX:
        run.notice(f"{len(found.malformed) - LOCKS_NAMED_MAX} more lock refs block nobody")

    def lines() -> list[str]:
        from tabulate import tabulate

        table = [
            (
                "*" if row["this_session"] else "",
                name,
                escape(str(row["holder"])),
                row["state"],
                until(int(str(row["expires_unix_ms"]))),
                str(row["fence"]),
            )
            for name, row in zip(names, rows, strict=True)
        ]
        heads = ("", "resource", "holder", "state", "ends (UTC)", "fence")
        text = str(tabulate(table, heads, "plain", disable_numparse=True))
        none = "Nothing is leased." if remote else "Nothing is leased, as far as this clone knows."
        return [line.rstrip() for line in text.split("\n")] if rows else [none]

    run.show({"locks": rows}, lines)


@click.command(cls=TalkingCommand, name="gc")
@_local("Do not ask the remote; clear away here alone.")
@click.pass_obj
def gc(run: Context, local: bool) -> None:
    """Clear away leases that ended more than 30 days ago, here and on the remote.

    Twice, more than a week apart: the first run only notes what is old.
    """
    done = leases.gc(run.workspace, local=local)
    count, waiting = len(done.removed), done.waiting
    run.show(
        {"removed": done.removed, "kept": done.kept, "waiting": done.waiting},
        lambda: [
            f"removed {count} old lease{'s' if count != 1 else ''}, kept {done.kept}",
            *([f"{done.waiting} of them are old too, and go with a gc in 8 days"] * (waiting > 0)),
        ],
    )


@click.command(cls=TalkingCommand, name="claim")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@ttl_option("8h")
@local_option
@click.pass_obj
def claim(run: Context, issue: str, ttl: str | None, local: bool) -> None:
    """Lease an issue and assign yourself; exits with 4 when somebody else has claimed it."""
    from grit.services import claims

    done = claims.claim(run.workspace, issue, ttl_ms(ttl, CLAIM_MS_DEFAULT), local=local)
    _show_claim(run, done, f"until {until(done.lease.expires_unix_ms)} UTC")


@click.command(cls=TalkingCommand, name="release")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@nonce_option
@local_option
@click.pass_obj
def issue_release(run: Context, issue: str, nonce: str | None, local: bool) -> None:
    """Give a claimed issue back, and take off the assignee that the claim had added."""
    from grit.services import claims

    _show_claim(run, claims.give_back(run.workspace, issue, nonce=nonce, local=local), "")


def _show_claim(run: Context, done: "Claim", end: str) -> None:
    change = done.change
    verb, _, rest = change.subject.partition(" ")
    data = {
        "issue_id": change.issue_id.hex(),
        "event_id": change.event_id.hex() if change.event_id else None,
        "wal_head": done.written.head,
        **change.data,
        "lock": leases.details_of(done.lease),
    }
    words = f"{'claimed' if verb == 'claim' else 'released'} {escape(rest)}"
    run.show(data, lambda: [f"{words} {end}".rstrip()])


_HERE: Final = "grit.cli.lock"
lock: Final = LazyGroup(
    "lock",
    commands_at={
        "acquire": f"{_HERE}:acquire",
        "renew": f"{_HERE}:renew",
        "release": f"{_HERE}:release",
        "status": f"{_HERE}:status",
        "gc": f"{_HERE}:gc",
        "run": "grit.cli.lock_run:run_",
    },
    help="Leases: be the only one who works on something, for a while.",
    no_args_is_help=True,
)
