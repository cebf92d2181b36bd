"""Runs one fuzz target: the saved corpus always, and Atheris for a while where it is installed.

python fuzz/run.py TARGET SECONDS
"""

import hashlib
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))


def replay(name: str) -> int:
    """Run the saved corpus of a target through it; return the number of inputs."""
    from fuzz.targets import TARGETS

    inputs = sorted((FOLDER / "corpus" / name).iterdir())
    for path in inputs:
        try:
            TARGETS[name](path.read_bytes())
        except BaseException:
            print(f"{name}: {path} breaks a promise", file=sys.stderr)
            raise
    return len(inputs)


def fuzz(name: str, seconds: int) -> None:
    """Let Atheris search from the corpus; it ends the process, non-zero after a find."""
    import atheris

    with atheris.instrument_imports(include=["grit", "fuzz"]):
        from fuzz.targets import TARGETS
    finds = FOLDER / "finds"
    finds.mkdir(exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        "-max_len=65536",
        "-print_final_stats=0",
        "-verbosity=0",
        f"-artifact_prefix={finds}/{name}-",
        tempfile.mkdtemp(prefix="grit-fuzz-"),
        str(FOLDER / "corpus" / name),
    ]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


def mutate(name: str, seconds: int) -> int:
    """Without Atheris: flip, cut and join bytes of the corpus, blindly; return the tries."""
    import random

    from fuzz.targets import TARGETS

    pick = random.Random(name)
    inputs = [path.read_bytes() for path in sorted((FOLDER / "corpus" / name).iterdir())]
    tries, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = bytearray(pick.choice(inputs)[:4096])
        for _ in range(pick.randint(1, 4)):
            at = pick.randrange(len(data) + 1)
            if pick.random() < 0.5:
                data[at : at + 1] = pick.randbytes(1)
            else:
                other = pick.choice(inputs)[:4096]
                data[at : at + pick.randint(0, 9)] = other[pick.randrange(len(other) + 1) :][:40]
        try:
            TARGETS[name](bytes(data))
        except BaseException:
            found = FOLDER / "finds" / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            found.parent.mkdir(exist_ok=True)
            found.write_bytes(data)
            print(f"{name}: {found} breaks a promise", file=sys.stderr)
            raise
        tries += 1
    return tries


def main() -> None:
    """Replay, then search; see the module's docstring."""
    name, seconds = sys.argv[1], int(sys.argv[2])
    if seconds:
        try:
            import atheris  # noqa: F401
        except ImportError:
            print(f"{name}: no Atheris here, {mutate(name, seconds)} blind mutations")
        else:
            # In the order that lets Atheris see the imports first; the corpus is its start.
            fuzz(name, seconds)
    print(f"{name}: {replay(name)} saved inputs")


if __name__ == "__main__":
    main()
