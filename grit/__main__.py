"""Runs grit where its own program is not on the path: `python -m grit ...`."""

from grit.launch import main

main()
