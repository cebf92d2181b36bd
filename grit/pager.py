"""The launcher's part in showing a long list: it starts the pager for a served command.

A pager reads keys, changes how the terminal behaves, and is stopped and continued by the shell: all
that works for a process of the terminal's own session alone (spec/daemon.md, Terminals).
"""

import os

TYPE_CHECKING = False  # importing typing takes two milliseconds
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

PAGER = b"P"
"""What a message of the server's process begins with that is no exit status."""
STARTED = b"S"
FAILED = b"F"


def run(message: bytes, descriptors: list[int]) -> None:
    """Start the pager that the message names, tell so, wait for it and tell its status.

    Of the two descriptors it reads the first; the second is for what is told.
    """
    lines, reply = descriptors
    for fd in descriptors:
        os.set_inheritable(fd, False)
    words = message.removeprefix(PAGER).split(b"\0")
    end = words.index(b"")
    below = dict(word.split(b"=", 1) for word in words[end + 1 :])
    try:
        pid = os.posix_spawnp(
            words[0],
            words[:end],
            {**below, **os.environb},
            file_actions=[(os.POSIX_SPAWN_DUP2, lines, 0)],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # ignored by Python alone
        )
    except OSError:
        pid = 0
    os.close(lines)
    os.write(reply, STARTED if pid else FAILED)
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            os.write(reply, b"%d" % status)
        except OSError:
            return  # who wanted to know has been killed
    os.close(reply)
