"""Starts the server of a clone: `python -m grit.daemon <common dir>/grit`."""

import sys

from grit.daemon.server import main

sys.exit(main(sys.argv[1:]))
