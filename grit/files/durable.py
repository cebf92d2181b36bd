"""Writing whole, and making the names in a folder durable."""

import os


def write_all(fd: int, data: bytes) -> None:
    """Write everything, however the system cuts it; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: str) -> None:
    """Make a folder's entries durable, where the system can; raises OSError."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
