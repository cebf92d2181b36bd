"""The settings of the server and of its background syncs (spec/daemon.md, Settings)."""

from typing import Any, Final, NamedTuple

from grit.core.errors import GritError, InvalidArgs
from grit.core.ids import parse_number
from grit.core.limits import BACKGROUND_S_MAX, DEBOUNCE_MS_MAX, DEBOUNCE_MS_MIN
from grit.git.actors import Setting, is_config_ours, load_config
from grit.git.repository import Repository

OFF: Final = "off"
AUTO: Final = (OFF, "pull", "push", "both")
_BOUNDS: Final = {
    "daemon.idle_s": (1, BACKGROUND_S_MAX),
    "daemon.debounce_ms": (DEBOUNCE_MS_MIN, DEBOUNCE_MS_MAX),
    "sync.interval_s": (1, BACKGROUND_S_MAX),
}
_FLAGS: Final = {"true": True, "false": False}
KEYS: Final = ("daemon.autostart", "sync.auto", *_BOUNDS)


class Background(NamedTuple):
    """What the settings say, with the defaults for what they do not say, or say wrongly."""

    autostart: bool = True
    """Whether a command may start the server."""
    idle_s: int = 300
    """The server leaves after that long without a command."""
    debounce_ms: int = 500
    auto: str = OFF
    """One of AUTO."""
    interval_s: int = 300
    """Between two background syncs that pull."""
    problems: tuple[str, ...] = ()
    """What the settings say wrongly."""

    @property
    def pulls(self) -> bool:
        """Whether background syncs bring events here."""
        return self.auto in ("pull", "both")

    @property
    def pushes(self) -> bool:
        """Whether background syncs send events."""
        return self.auto in ("push", "both")


def load_background(repository: Repository) -> Background:
    """Return the settings; nothing is raised, what is wrong stands in `problems`."""
    try:
        settings = load_config(repository)
    except GritError as error:
        return Background(problems=(f"the settings cannot be read: {error.message}",))
    read: dict[str, Any] = {}
    problems = []
    for key in KEYS:
        table, _, name = key.partition(".")
        inner = settings.get(table, {})
        value = inner.get(name) if isinstance(inner, dict) else None
        if value is None:
            continue
        if _fits(key, value):
            read[name] = value
        else:
            problems.append(f"{_refusal(key)}; the default, {_default(name)}, is in force")
    if read.get("auto", OFF) != OFF and not is_config_ours(repository):
        # It came with the folder, as may have a remote whose address runs a program.
        problems.append(
            f"sync.auto stands in settings that grit has not written here, and is off; "
            f"'grit config set sync.auto {read['auto']}' turns it on"
        )
        del read["auto"]
    return Background(**read, problems=tuple(problems))


def checked(key: str, text: str) -> str | int | bool:
    """Return what is stored for one of KEYS; raise InvalidArgs for a wrong value."""
    value: str | int | bool = text
    if key in _BOUNDS:
        number = parse_number(text, 9)
        value = text if number is None else number
    elif key == "daemon.autostart":
        value = _FLAGS.get(text, text)
    if not _fits(key, value):
        raise InvalidArgs(_refusal(key))
    return value


def _fits(key: str, value: Setting) -> bool:
    if key in _BOUNDS:
        least, most = _BOUNDS[key]
        return type(value) is int and least <= value <= most
    return value in AUTO if key == "sync.auto" else isinstance(value, bool)


def _refusal(key: str) -> str:
    if key in _BOUNDS:
        least, most = _BOUNDS[key]
        return f"{key} is a whole number from {least} to {most}"
    words = AUTO if key == "sync.auto" else tuple(_FLAGS)
    return f"{key} is {', '.join(words[:-1])} or {words[-1]}"


def _default(name: str) -> str:
    value = Background()._asdict()[name]
    return str(value).lower()
