"""Looks at what lies at names of git's, before git is led there (spec/wal.md, Private files)."""

import os
import stat
from typing import Final

from grit.core.limits import FOLDER_NAMES_MAX

_ODD: Final = (
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def odd(path: str) -> str | None:
    """Return what a path leads to ("is a pipe") if that is neither a file nor a folder.

    Links are followed, as git follows them. None, too, where nothing lies or can be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return next((what for is_kind, what in _ODD if is_kind(mode)), "is a device")


def odd_below(path: str, *, deep: bool = True) -> tuple[str, str] | None:
    """Return the path and kind of something in a folder that is neither file nor folder.

    Links are followed, as git follows them; a folder that cannot be listed counts as empty.
    """
    waiting, seen = [path], 0
    while waiting and seen < FOLDER_NAMES_MAX:
        try:
            with os.scandir(waiting.pop()) as found:
                for one in found:
                    seen += 1
                    if one.is_file(follow_symlinks=False):
                        continue
                    what = odd(one.path)
                    if what is not None:
                        return one.path, what
                    if deep and one.is_dir():
                        waiting.append(one.path)
        except OSError:
            continue
    return None


def is_plain(path: str) -> bool:
    """Return whether a path, with all that is below it, is files and folders, or nothing.

    A link is neither; nor is a folder that cannot be listed, or that holds too many names.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if not stat.S_ISDIR(mode):
        return stat.S_ISREG(mode)
    waiting, seen = [path], 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for one in found:
                    seen += 1
                    if one.is_dir(follow_symlinks=False):
                        waiting.append(one.path)
                    elif seen > FOLDER_NAMES_MAX or not one.is_file(follow_symlinks=False):
                        return False
        except OSError:
            return False
    return True
