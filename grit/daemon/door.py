"""Where callers find a server: a private socket, and a link in the clone that names it."""

import hashlib
import os
import socket
from contextlib import suppress
from typing import Final

from grit.services.server_place import SERVER_LINK, Place

BACKLOG: Final = 128
_SOCKET_BYTES_MAX: Final = 100


def listen(place: Place) -> tuple[socket.socket, str]:
    """Listen on this clone's socket; raises OSError. Only this user gets there."""
    folder = _runtime_folder()
    name = hashlib.sha256(os.fsencode(place.folder)).hexdigest()[:16]
    address = f"{folder}/{name}.sock"
    with suppress(FileNotFoundError):
        os.unlink(address)  # of one that was killed: the lock is ours
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    os.chmod(address, 0o600)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener, address


def _runtime_folder() -> str:
    """Return a private folder with a short name; raises OSError when somebody else has it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    choices = [f"{runtime}/grit"] if os.path.isabs(runtime) else []
    choices = [path for path in choices if len(os.fsencode(path)) < _SOCKET_BYTES_MAX - 24]
    for folder in (*choices, f"/tmp/grit-{os.getuid()}"):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError:
            continue
        found = os.lstat(folder)
        if found.st_uid == os.getuid() and found.st_mode & 0o170777 == 0o040700:
            return folder
    raise OSError(f"no private folder for a socket: /tmp/grit-{os.getuid()} is not ours alone")


def link(place: Place, address: str) -> None:
    """Tell where the socket is, in one step."""
    with place.private.open() as folder:
        folder.replace_link(SERVER_LINK, address)


def target(place: Place) -> str | None:
    """Return the socket that the clone names, None when it names none."""
    try:
        with place.private.open() as folder:
            return folder.target(SERVER_LINK)
    except OSError:
        return None


def unlink(place: Place) -> None:
    """Tell nobody any more where the socket is; what is no link stays."""
    with suppress(OSError), place.private.open() as folder:
        if folder.look(SERVER_LINK) is not None:
            folder.remove(SERVER_LINK)


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another of the same name, None without one."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
