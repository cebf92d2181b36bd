"""Commands for the clone's warm server: start, stop, look."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final, cast

import click

from grit.cli.context import Context, GritCommand
from grit.cli.main import LazyGroup
from grit.cli.table import counted
from grit.cli.terminal import absolute_time, relative_time
from grit.core.errors import GitFailed
from grit.core.escape import escape
from grit.services import server_place
from grit.services.server_place import Place, State

_HERE: Final = "grit.cli.daemon"


def _place(run: Context) -> Place:
    if not server_place.SERVER_LINK:
        raise GitFailed("there is no server on this system; every command runs on its own")
    return Place(f"{os.path.realpath(run.workspace.repository.common_dir)}/grit")


@click.command(cls=GritCommand, name="start")
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.pass_obj
def start(run: Context, foreground: bool) -> None:
    """Start the server of this clone; commands start it by themselves, too."""
    place = _place(run)
    if foreground:
        server_place.make_folder(place)
        sys.stdout.flush()
        command = [sys.executable, *server_place.MODULE, "--foreground", place.folder]
        os.execv(sys.executable, command)
    pid, new = server_place.start(place, os.environ)
    run.show(
        {"pid": pid, "started": new},
        lambda: [f"{'started' if new else 'runs already'} (pid {pid})"],
    )


@click.command(cls=GritCommand, name="stop")
@click.pass_obj
def stop(run: Context) -> None:
    """End the server; commands that it runs go on to their end.

    The next command starts another one, unless daemon.autostart is set to false.
    """
    pid = server_place.stop(_place(run))
    run.show(
        {"pid": pid, "stopped": pid is not None},
        lambda: ["no server ran" if pid is None else f"stopped (pid {pid})"],
    )


@click.command(cls=GritCommand, name="restart")
@click.pass_obj
def restart(run: Context) -> None:
    """End the server, if one runs, and start another."""
    place = _place(run)
    server_place.stop(place)
    pid, _ = server_place.start(place, os.environ)
    run.show({"pid": pid, "started": True}, lambda: [f"started (pid {pid})"])


@click.command(cls=GritCommand, name="logs")
@click.option("--lines", "-n", type=click.IntRange(min=1), default=50, show_default=True)
@click.pass_obj
def logs(run: Context, lines: int) -> None:
    """Show the end of the server's log."""
    found = server_place.log_lines(_place(run), lines)
    run.show({"lines": found}, lambda: [escape(line) for line in found] or ["the log is empty"])


@click.command(cls=GritCommand, name="notify")
@click.pass_obj
def notify(run: Context) -> None:
    """Tell the server to look at the log now: for hooks of git; never fails, prints nothing."""


@click.command(cls=GritCommand, name="status")
@click.option("--verbose", "-v", is_flag=True, help="Show everything that is counted.")
@click.pass_obj
def status(run: Context, verbose: bool) -> None:
    """Show whether the server runs, and how it and its worker are."""
    place = _place(run)
    state = server_place.state() if server_place.state is not None else {}
    if "pid" not in state:
        pid = server_place.running_pid(place)
        silent = pid is not None
        data: State = {"running": silent, "pid": pid, "answers": False}
        words = (
            f"a server runs (pid {pid}) and did not answer this command"
            if silent
            else "no server runs; the next command starts one, if it may"
        )
        run.show(data, lambda: [words])
        return
    data = _shown(state, run.now_ms)
    run.show(data, lambda: _lines(data, verbose, run.now_ms))


def _shown(state: State, now_ms: int) -> State:
    """Return the JSON shape (spec/json.md): the state, and what the system counts."""
    pids = cast(list[int], state.pop("pids"))
    worker = cast(State, state["worker"])
    started = cast(int, state["started_ts"])
    return {
        "running": True,
        "answers": True,
        "mode": worker.get("mode"),
        "uptime_ms": max(0, now_ms - started),
        **state,
        **_used(pids),
    }


def _used(pids: list[int]) -> State:
    """Return memory (proportional share, bytes) and CPU time (s) of the processes, where known."""
    memory, cpu_s = 0, 0.0
    try:
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        for pid in pids:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                memory += sum(int(x.split()[1]) for x in file if x.startswith("Pss:")) * 1024
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            cpu_s += (int(fields[11]) + int(fields[12])) * tick_s
    except (OSError, ValueError, IndexError):
        return {"memory_bytes": None, "cpu_s": None}
    return {"memory_bytes": memory, "cpu_s": round(cpu_s, 3)}


def _lines(data: State, verbose: bool, now_ms: int) -> Iterator[str]:
    worker = cast(State, data["worker"])
    reason = f" ({worker['reason']})" if worker.get("reason") else ""
    mode = f"watching by {data['mode']}{reason}" if data["mode"] else "not watching yet"
    yield escape(f"running (pid {data['pid']}, grit {data['version']}), {mode}")
    for problem in cast(list[State], worker.get("health", [])):
        yield escape(f"  problem     {problem['message']}")
    sync = cast(State, worker.get("sync", {}))
    if verbose or sync.get("circuit", "closed") != "closed":
        yield from _table(_sync_rows(sync, now_ms))
    if verbose:
        yield from _table(_server_rows(data, now_ms))
        yield from _table(_worker_rows(worker, now_ms))


def _table(rows: Iterable[tuple[str, object]]) -> Iterator[str]:
    return (escape(f"  {name:<11} {value}") for name, value in rows)


def _server_rows(data: State, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "started", _when(data["started_ts"], now_ms)
    yield "leaves", f"after {cast(int, data['idle_left_ms']) // 1000} s without a command"
    commands = f"{data['commands']} served, {data['running_now']} running"
    if data["p50_us"] is not None:
        p50, p95 = cast(int, data["p50_us"]) / 1000, cast(int, data["p95_us"]) / 1000
        commands += f"; {p50:.1f} ms p50, {p95:.1f} ms p95"
    yield "commands", commands
    yield "notified", counted(cast(int, data["notified"]), "time")
    if data["memory_bytes"] is not None:
        yield "memory", f"{cast(int, data['memory_bytes']) / 2**20:.1f} MiB"
        yield "CPU", f"{data['cpu_s']} s"
    yield "wake-ups", data["wake_ups"]


def _worker_rows(worker: State, now_ms: int) -> Iterator[tuple[str, object]]:
    if not worker:
        yield "worker", "none yet"
        return
    yield "worker", f"pid {worker['pid']}, {worker['wake_ups']} wake-ups"
    paths = cast(list[str], worker["paths"])
    more = cast(int, worker["path_count"]) - len(paths)
    yield "watched", ", ".join(paths) + (f" and {more} more" if more else "")
    yield (
        "events",
        f"{worker['raw_events']} raw, {worker['runs']} runs, {worker['mutations']} moves",
    )
    yield "last event", _when(worker["last_event_ts"], now_ms)
    yield "last run", _when(worker["last_run_ts"], now_ms)
    for name, value in cast(State, worker["settings"]).items():
        yield "setting", f"{name} = {value}"


def _sync_rows(sync: State, now_ms: int) -> Iterator[tuple[str, object]]:
    last = cast(State | None, sync.get("last"))
    if last is None:
        yield "last sync", "none"
    elif last["ok"]:
        yield (
            "last sync",
            (f"{_when(last['ts'], now_ms)}: received {last['received']}, sent {last['sent']}"),
        )
    else:
        yield "last sync", f"{_when(last['ts'], now_ms)}: failed: {last['error']}"
    if sync.get("failures"):
        retry = cast(int | None, sync["retry_ts"])
        again = f"; tried again {relative_time(retry, now_ms)}" if retry else ""
        yield "circuit", f"{sync['circuit']}, {sync['failures']} failures in a row{again}"


def _when(ts_unix_ms: object, now_ms: int) -> str:
    if ts_unix_ms is None:
        return "never"
    at = cast(int, ts_unix_ms)
    return f"{absolute_time(at)} ({relative_time(at, now_ms)})"


daemon: Final = LazyGroup(
    "daemon",
    commands_at={
        "start": f"{_HERE}:start",
        "stop": f"{_HERE}:stop",
        "restart": f"{_HERE}:restart",
        "status": f"{_HERE}:status",
        "logs": f"{_HERE}:logs",
        "notify": f"{_HERE}:notify",
    },
    help="The warm server of this clone.",
    no_args_is_help=True,
)
