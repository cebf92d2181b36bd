"""The program's shell: what happens around a command."""

import subprocess
import sys

LOST = """
import sys, time
from grit.cli import main
sys.unraisablehook = main._interrupt_again
class Dropper:
    def __del__(self):
        raise KeyboardInterrupt
try:
    Dropper()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        pass
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_ctrl_c_that_a_library_drops_comes_again() -> None:
    """Where an exception cannot be raised Python drops it; the user pressed Ctrl-C all the same."""
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, timeout=15, check=True
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
