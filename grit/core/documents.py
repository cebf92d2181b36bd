"""JSON that comes from outside: the one way in (spec/encoding.md, What comes from outside)."""

import json
from collections.abc import Iterable

from grit.core.limits import JSON_DEPTH_MAX


class NotJson(ValueError):
    """Why a text is no JSON document that grit takes."""


def parse_json(data: str | bytes, *, strict: bool = False) -> object:
    """Return what a JSON document says; raise NotJson for whatever cannot be taken.

    A number of too many digits, nesting beyond JSON_DEPTH_MAX and bytes that are no UTF-8 are
    refused, so that nothing later meets them; with `strict` also a key that is there twice, and
    NaN and infinities.
    """
    try:
        if strict:
            value = json.loads(data, object_pairs_hook=_once, parse_constant=_refused)
            json.dumps(value, allow_nan=False)  # a number beyond all bounds cannot go out again
        else:
            value = json.loads(data)
    except UnicodeDecodeError as error:
        raise NotJson("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at column {error.colno}") from error
    except ValueError as error:
        raise NotJson(str(error).partition(";")[0]) from error
    except RecursionError as error:
        raise NotJson("nested too deeply") from error
    if _opened(data) > JSON_DEPTH_MAX:
        _check_depth(value)
    return value


def _opened(data: str | bytes) -> int:
    if isinstance(data, str):
        return data.count("[") + data.count("{")
    return data.count(b"[") + data.count(b"{")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in _within(outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise NotJson("nested too deeply")


def _within(outer: dict[object, object] | list[object]) -> Iterable[object]:
    return outer.values() if isinstance(outer, dict) else outer


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("a key is there twice")
    return found


def _refused(word: str) -> object:
    raise NotJson(f"{word} is no number")
