"""The programs in tools/: bench judges by medians and reports failures; mutate makes mutants."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]


def _program(name: str) -> dict[str, Any]:
    return runpy.run_path(str(TOP / "tools" / name), run_name="program")


def test_bench_judges_by_the_ratio_of_medians() -> None:
    """A figure is ok up to its target and short above it; one without target is information."""
    bench = _program("bench")
    runs = [bench["Run"](seconds, 0) for seconds in (0.010, 0.030, 0.900)]
    base = [bench["Run"](seconds, 0) for seconds in (0.001, 0.010, 0.011)]
    figure = bench["ratio_figure"]
    assert figure("name", runs, base, "base", 3.0).verdict == "ok"
    assert figure("name", runs, base, "base", 2.9).verdict == "short"
    assert figure("name", runs, base, "base", None).verdict == ""
    assert "3.00 x base" in bench["row"](figure("name", runs, base, "base", 2.9))


def test_bench_reports_a_process_that_failed(tmp_path: Path) -> None:
    """A process that exits non-zero is no measurement, and its complaint is passed on."""
    bench = _program("bench")
    here = Path.cwd()
    try:
        run = bench["spawn"]([sys.executable, "-c", "pass"], tmp_path)
        assert run.seconds > 0
        assert run.peak_bytes > 1024 * 1024
        with pytest.raises(bench["Failed"], match="no such luck"):
            bench["spawn"]([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path)
    finally:
        os.chdir(here)


def test_mutants_differ_in_one_place(tmp_path: Path) -> None:
    """Every mutant is valid Python and not the original; annotations stay as they are."""
    source = (
        "def larger(a: int, b: int = 1) -> bool:\n"
        "    if a > b and b != 0:\n"
        "        print(a)\n"
        "    return a - b >= 3\n"
    )
    path = tmp_path / "module.py"
    path.write_text(source)
    found = list(_program("mutate")["mutants"](path))
    original = ast.dump(ast.parse(source))
    texts = {mutant.source for mutant in found}
    assert len(texts) == len(found) == 11
    for text in texts:
        assert ast.dump(ast.parse(text)) != original
        assert "a: int" in text


@pytest.mark.parametrize("name", ["bench", "generate", "mutate", "simulate"])
def test_programs_explain_themselves(name: str) -> None:
    """--help says what a program is for and what it takes."""
    command = [sys.executable, str(TOP / "tools" / name), "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0
    assert "--" in ran.stdout and len(ran.stdout.splitlines()) > 8


def test_a_simulation_is_run_from_the_command_line() -> None:
    """One seed is run and counted; another number of steps is another run."""
    command = [sys.executable, str(TOP / "tools" / "simulate"), "--seed", "5", "--steps", "20"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    counted = dict(reversed(line.split(maxsplit=1)) for line in ran.stdout.splitlines())
    assert counted["runs"] == "1" and int(counted["write"]) > 0


def test_a_simulation_that_fails_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seed and the steps are printed, and the status is not 0."""
    from tests.simulation.replica import Replica

    monkeypatch.setattr(Replica, "join", lambda self: 0)
    monkeypatch.setattr(sys, "argv", ["simulate", "--seed", "3", "--runs", "9", "--steps", "60"])
    assert _program("simulate")["main"]() == 1
    told = capsys.readouterr().err
    assert "tools/simulate --seed " in told and "--steps 60" in told and " writes as " in told
