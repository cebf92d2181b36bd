"""The program's own code in a warm process: imported early, and the same as on disk."""

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

LATE: Final = (
    "subprocess", "threading", "difflib", "json", "tomllib", "dulwich.objects",
    "lmdb._envid",
)  # fmt: skip
"""What commands import while they run; not tabulate, which takes 4 MB and few commands use."""
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 512 * 1024
Stamps = list[tuple[list[str], list[tuple[int, int]]]]


def warm_up() -> None:
    """Import what commands import, and keep the garbage collector off it."""
    for room in ("grit.core", "grit.git", "grit.view", "grit.services", "grit.cli", "grit.daemon"):
        package = import_module(room)
        for module in iter_modules(package.__path__, f"{room}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for name in (*LATE, "ctypes"):
        import_module(name)
    with suppress(AttributeError, OSError):
        # Large blocks come from the system zeroed, and go back: LMDB asks for two megabytes each
        # time, uses little of them, and would else have them cleared by hand.
        sys.modules["ctypes"].CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    gc.collect()
    gc.freeze()


def _code_files() -> list[str]:
    """The files of the program itself that this process has loaded."""
    found = (module.__file__ for name, module in sys.modules.items() if name.startswith("grit"))
    return sorted(path for path in found if path)


def _code_folders() -> list[str]:
    """The folders of them: a few looks tell most changes, not those of a file in its place."""
    return sorted({os.path.dirname(path) for path in _code_files()})


def _stamps(paths: list[str]) -> list[tuple[int, int]]:
    return [_stamp(path) for path in paths]


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def stamps() -> Stamps:
    """Return what tells this code from another: of its folders first, then of all its files."""
    return [(paths, _stamps(paths)) for paths in (_code_folders(), _code_files())]


def is_fresh(code: Stamps) -> bool:
    """Whether the code on disk is that of the stamps."""
    return all(_stamps(paths) == stamps for paths, stamps in code)
