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


def warm_up() -> None:
    """Import what commands import, and keep the garbage collector off it."""
    for room in (
        "grit.core",
        "grit.files",
        "grit.git",
        "grit.view",
        "grit.services",
        "grit.cli",
        "grit.daemon",
    ):
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


class Code:
    """The program's own files as this process has loaded them, and as they were on disk then."""

    def __init__(self) -> None:
        """Take note of what is loaded now."""
        named = (module.__file__ for name, module in sys.modules.items() if name.startswith("grit"))
        self._files = sorted({path for path in named if path})
        self._folders = sorted({os.path.dirname(path) for path in self._files})
        self._of_files = _stamps(self._files)
        self._of_folders = _stamps(self._folders)

    def is_fresh(self) -> bool:
        """Whether all files are as they were."""
        of_folders = _stamps(self._folders)
        if _stamps(self._files) != self._of_files:
            return False
        self._of_folders = of_folders  # Python's __pycache__ may have come, which is no code
        return True

    def seems_fresh(self) -> bool:
        """The same from a few looks: one does not tell that a file was written in its place."""
        return _stamps(self._folders) == self._of_folders or self.is_fresh()


def _stamps(paths: list[str]) -> list[tuple[int, int]]:
    return [_stamp(path) for path in paths]


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
