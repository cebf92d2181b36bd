"""Commands that look after a clone: rebuild, doctor, db."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

from grit.cli.context import Context, GritCommand
from grit.cli.main import LazyGroup
from grit.cli.table import BOLD, GREEN, RED, counted, pad, paint
from grit.cli.terminal import Screen
from grit.core.escape import escape
from grit.services import doctor as service
from grit.services.checks import Check
from grit.services.survey import Tally

FAILED: Final = 1
YELLOW: Final = "33"
_STYLES: Final = {"ok": GREEN, "warn": YELLOW, "error": RED}
_INDENT: Final = " " * 7


@click.command(cls=GritCommand, name="rebuild")
@click.option("--from-snapshot", is_flag=True, help="Begin with the best snapshot, if any.")
@click.pass_obj
def rebuild(run: Context, from_snapshot: bool) -> None:
    """Build the view again from the log; it is a cache, and nothing else is touched."""
    head, stats, used = service.rebuild(run.workspace, from_snapshot=from_snapshot)
    data = {
        "wal_head": head,
        "event_count": stats.event_count,
        "issue_count": stats.issue_count,
        "from_snapshot": used,
    }
    issues, events = counted(stats.issue_count, "issue"), counted(stats.event_count, "event")
    if from_snapshot and used is None:
        from grit.git.actors import load_config

        verify = load_config(run.workspace.repository).get("verify", "off")
        why = f"no snapshot is read while verify is '{verify}'"
        run.notice(f"{why if verify != 'off' else 'no snapshot could be used'}: the log was read")
    source = f", from {escape(used)}" if used else ""
    run.show(data, lambda: [f"rebuilt: {issues}, {events}{source}"])


@click.command(cls=GritCommand, name="doctor")
@click.option("--fix", is_flag=True, help="Mend what is derived; the log is never rewritten.")
@click.option("--thorough", is_flag=True, help="Compare every row of the view with the log too.")
@click.option("--remote", is_flag=True, help="Ask the remotes for their logs too.")
@click.pass_obj
def doctor(run: Context, fix: bool, thorough: bool, remote: bool) -> int:
    """Find and explain what is wrong; exit status 1 when something has to be done."""
    found = service.diagnose(run.workspace, fix=fix, thorough=thorough, remote=remote)
    data = {"checks": [check._asdict() for check in found.checks], "applied": found.applied}
    screen = run.terminal.screen
    run.show(data, lambda: _diagnosis(found.checks, found.applied, screen))
    return FAILED if found.failed else 0


def _diagnosis(checks: Sequence[Check], applied: Sequence[str], screen: Screen) -> Iterator[str]:
    for done in applied:
        yield f"fixed: {escape(done)}"
    if applied:
        yield ""
    cells = max(len(check.id) for check in checks)
    for check in checks:
        mark = paint(pad(check.status, 5), _STYLES[check.status], screen)
        if check.status == "ok":
            yield f"{mark}  {pad(check.id, cells)}  {escape(check.message)}"
            continue
        yield f"{mark}  {paint(check.id, BOLD, screen)}"
        yield f"{_INDENT}{escape(check.message)}"
        if check.plan:
            yield f"{_INDENT}{_to_do(screen)} {escape(check.plan)}"
    errors = sum(check.status == "error" for check in checks)
    warnings = sum(check.status == "warn" for check in checks)
    yield ""
    if errors or warnings:
        yield f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    else:
        yield "all is well"


def _to_do(screen: Screen) -> str:
    return "→" if screen.unicode else "->"


@click.command(cls=GritCommand, name="stats")
@click.pass_obj
def stats(run: Context) -> None:
    """Show what the view holds."""
    found, size_bytes = service.view_facts(run.workspace)
    data = {
        "wal_head": found.head,
        "event_count": found.event_count,
        "issue_count": found.issue_count,
        "open_count": found.open_count,
        "closed_count": found.closed_count,
        "deleted_count": found.deleted_count,
        "actor_count": found.actor_count,
        "unknown_count": found.unknown_count,
        "aside_count": found.aside_count,
        "aside_more": found.aside_more,
        "size_bytes": size_bytes,
    }
    shown: dict[str, object] = {**data, "aside_count": found.aside_count}
    if shown.pop("aside_more"):
        shown["aside_count"] = f"at least {found.aside_count}"
    run.show(data, lambda: _aligned(shown))


_PLURALS: Final = {"event_count": "events", "issue_count": "issues", "actor_count": "actors"}


def _aligned(values: Mapping[str, object]) -> Iterator[str]:
    cells = max(map(len, values))
    for name, value in values.items():
        label = _PLURALS.get(name) or name.removesuffix("_count").replace("_", " ")
        yield f"{pad(label, cells)}  {escape(str('none' if value is None else value))}"


@click.command(cls=GritCommand, name="check")
@click.pass_obj
def check(run: Context) -> int:
    """Read every record of the log and check it, without the view."""
    facts = service.check_log(run.workspace, signatures=False)
    errors = [] if facts.stopped is None else [_error(facts.stopped, None)]
    if facts.damaged.count:
        errors.append(_error("missing or broken", facts.damaged))
    for tallies in (facts.chunks, facts.records):
        errors += [_error(reason, tally) for reason, tally in tallies.items()]
    data: dict[str, object] = {
        "events_checked": facts.records_checked,
        "events_valid": facts.event_count,
        "errors": errors,
    }
    line = f"{counted(facts.records_checked, 'record')} checked"
    run.show(data, lambda: _report(f"{line}, {facts.event_count} different events valid", errors))
    return FAILED if errors else 0


@click.command(cls=GritCommand, name="verify")
@click.pass_obj
def verify(run: Context) -> int:
    """Verify the signature of every event of the log, without the view."""
    facts = service.check_log(run.workspace, signatures=True)
    found = facts.signatures
    checked = sum(found[status].count for status in ("valid", "invalid", "unknown_key"))
    errors = [] if facts.stopped is None else [_error(facts.stopped, None)]
    for status, reason in _SIGNATURE_ERRORS:
        if found[status].count:
            errors.append(_error(reason, found[status]))
    data: dict[str, object] = {
        "signatures_checked": checked,
        "signatures_valid": found["valid"].count,
        "unsigned": found["none"].count + found["stripped"].count,
        "errors": errors,
    }
    line = f"{counted(checked, 'signature')} checked, {found['valid'].count} valid"
    run.show(data, lambda: _report(line, errors))
    return FAILED if errors else 0


_SIGNATURE_ERRORS: Final = (
    ("invalid", "wrong signature"),
    ("unknown_key", "signed by a key that was not announced"),
    ("stripped", "unsigned, though the actor has a key"),
)


def _error(reason: str, tally: Tally | None) -> dict[str, object]:
    return {
        "reason": reason,
        "count": tally.count if tally else 1,
        "examples": tally.examples if tally else [],
    }


def _report(line: str, errors: Sequence[dict[str, object]]) -> Iterator[str]:
    yield line
    for error in errors:
        examples = error["examples"]
        places = ", ".join(map(str, examples)) if isinstance(examples, list) else ""
        yield escape(f"{error['count']} x {error['reason']}{': ' if places else ''}{places}")


db: Final = LazyGroup(
    "db",
    commands_at={
        "stats": "grit.cli.maintain:stats",
        "check": "grit.cli.maintain:check",
        "verify": "grit.cli.maintain:verify",
    },
    help="The view's totals, and checks of the log.",
    no_args_is_help=True,
)
