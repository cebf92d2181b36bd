"""Which session a command belongs to: what tells two agents with one actor apart."""

import os
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

GRIT_SESSION: Final = "GRIT_SESSION"
"""Environment: any text that names the session; commands with the same text belong together."""
caller_pid = 0
"""Whose session it is, if not that of this process: set where a command runs for another."""
_NONCE_CHARS: Final = 32
_STAT_START: Final = 19
"""Place of a process's start time behind its name in /proc/<pid>/stat."""


def session_nonce(environ: Mapping[str, str]) -> str:
    """Return the nonce of this session: 32 hex digits (spec/leases.md, Sessions).

    Without GRIT_SESSION, the terminal or job that the command runs in is the session: the operating
    system's session, its start and the machine's, so that a number that is used again is another.
    """
    text = environ.get(GRIT_SESSION) or _of_system()
    return nonce_of(text)


def nonce_of(text: str) -> str:
    """Return the nonce that a text for GRIT_SESSION stands for."""
    return sha256(b"grit session\0" + text.encode(errors="surrogateescape")).hexdigest()[
        :_NONCE_CHARS
    ]


def _of_system() -> str:
    session = os.getsid(caller_pid) if hasattr(os, "getsid") else os.getppid()
    stat = _text(f"/proc/{session}/stat").rpartition(")")[2].split()
    start = stat[_STAT_START] if len(stat) > _STAT_START else ""
    machine = _text("/proc/sys/kernel/random/boot_id") or _text("/etc/machine-id")
    return f"system {machine} {session} {start}"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
