"""Use case: many commands as JSON lines, one append, all or nothing (spec/exchange.md, Batch)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, cast

from grit.core.documents import NotJson, parse_json
from grit.core.errors import GritError, InvalidArgs
from grit.core.ids import IssueId
from grit.core.limits import BATCH_COMMANDS_MAX, ID_BYTES
from grit.services import issues
from grit.services.issues import Change
from grit.services.workspace import Workspace
from grit.services.write import Transaction, Written, write

Json = dict[str, object]


class Command(NamedTuple):
    """One line, checked: its number from 1, its operation, its arguments, the name it gives."""

    line: int
    op: str
    arguments: Json
    name: str | None


class Outcome(NamedTuple):
    """What one command did."""

    op: str
    change: Change


def run_batch(workspace: Workspace, lines: Iterable[bytes]) -> tuple[list[Outcome], Written]:
    """Run the commands in order and store what they decide in one append.

    Raises what a command raises, its line named in front; then nothing is stored.
    """
    commands = parse_commands(lines)
    if not commands:
        raise InvalidArgs("no commands: give one JSON object a line")

    def work(transaction: Transaction) -> list[Outcome]:
        return _run(transaction, commands, workspace.ports.entropy)

    subject = f"batch of {len(commands)} command{'s' if len(commands) != 1 else ''}"
    return write(workspace, work, lambda _: subject)


def parse_commands(lines: Iterable[bytes]) -> list[Command]:
    """Return the commands of all lines that are not blank; raise InvalidArgs naming the line."""
    commands: list[Command] = []
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(commands) == BATCH_COMMANDS_MAX:
            raise InvalidArgs(f"line {number}: at most {BATCH_COMMANDS_MAX} commands", line=number)
        try:
            command = _parse(number, line)
            if command.name is not None and command.name in names:
                raise InvalidArgs(f"the name '{command.name}' is given twice")
        except InvalidArgs as error:
            raise InvalidArgs(f"line {number}: {error.message}", line=number) from error
        if command.name is not None:
            names.add(command.name)
        commands.append(command)
    return commands


def _parse(number: int, line: bytes) -> Command:
    try:
        shape = parse_json(line)
    except NotJson as error:
        raise InvalidArgs(f"not JSON ({error})") from error
    if not isinstance(shape, dict):
        raise InvalidArgs("not a JSON object")
    op = shape.pop("op", None)
    name = shape.pop("as", None)
    if not isinstance(op, str) or op not in _OPERATIONS:
        raise InvalidArgs(f"unknown op {op!r}; known: {', '.join(_OPERATIONS)}")
    if name is not None and (not isinstance(name, str) or op not in _NAMING):
        raise InvalidArgs(f"'as' names what these make: {', '.join(_NAMING)}")
    required, optional, _ = _OPERATIONS[op]
    for key in required:
        if key not in shape:
            raise InvalidArgs(f"{op} needs '{key}'")
    for key, value in shape.items():
        if key not in required + optional:
            raise InvalidArgs(f"{op} does not take '{key}'; it takes {_listed(op)}")
        if not _CHECKS[key](value):
            raise InvalidArgs(f"bad value of '{key}'")
    return Command(number, op, shape, name)


def _listed(op: str) -> str:
    required, optional, _ = _OPERATIONS[op]
    return ", ".join(required + optional)


def _run(
    transaction: Transaction, commands: list[Command], entropy: Callable[[int], bytes]
) -> list[Outcome]:
    names: dict[str, str] = {}
    outcomes: list[Outcome] = []
    for command in commands:
        try:
            arguments = _named(command.arguments, names)
            if command.op == "create":
                arguments["issue"] = IssueId(entropy(ID_BYTES))
            change = _OPERATIONS[command.op][2](transaction, arguments)
        except GritError as error:
            details = {**error.details, "line": command.line}
            raise type(error)(f"line {command.line}: {error.message}", **details) from error
        if command.name is not None:
            made = change.event_id if command.op == "comment" else change.issue_id
            names[command.name] = made.hex() if made else ""
        outcomes.append(Outcome(command.op, change))
    return outcomes


def _named(arguments: Json, names: Mapping[str, str]) -> Json:
    """Return the arguments with "$x" replaced by what an earlier line called x."""

    def value(text: object) -> object:
        if not isinstance(text, str) or not text.startswith("$"):
            return text
        if text[1:] not in names:
            raise InvalidArgs(f"no earlier line is called '{text[1:]}'")
        return names[text[1:]]

    found = {key: value(one) if key in _IDS else one for key, one in arguments.items()}
    fields = found.get("fields")
    if isinstance(fields, dict) and "parent" in fields:
        found["fields"] = {**fields, "parent": value(fields["parent"])}
    return found


_IDS: Final = ("issue", "target", "comment")


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _fields(value: object) -> bool:
    return isinstance(value, dict) and all(
        one is None or isinstance(one, str) for one in value.values()
    )


_CHECKS: Final[dict[str, Callable[[object], bool]]] = {
    **dict.fromkeys(
        ("issue", "title", "body", "url", "note", "target", "type", "comment", "reason"), _text
    ),
    **dict.fromkeys(("labels", "assignees", "add", "remove"), _texts),
    "fields": _fields,
}


def _str(arguments: Json, key: str) -> str:
    return cast(str, arguments[key])


def _optional(arguments: Json, key: str) -> str | None:
    return cast("str | None", arguments.get(key))


def _list(arguments: Json, key: str) -> list[str]:
    return cast(list[str], arguments.get(key, []))


def _create(transaction: Transaction, arguments: Json) -> Change:
    return issues.create(
        transaction,
        cast(IssueId, arguments["issue"]),
        _str(arguments, "title"),
        body=_optional(arguments, "body") or "",
        labels=_list(arguments, "labels"),
        assignees=_list(arguments, "assignees"),
        fields={
            key: value
            for key, value in cast(dict[str, str | None], arguments.get("fields", {})).items()
            if value is not None
        },
    )


def _update(transaction: Transaction, arguments: Json) -> Change:
    return issues.update(
        transaction,
        _str(arguments, "issue"),
        title=_optional(arguments, "title"),
        body=_optional(arguments, "body"),
        fields=cast(dict[str, str | None], arguments.get("fields", {})),
    )


def _comment(transaction: Transaction, arguments: Json) -> Change:
    return issues.comment(transaction, _str(arguments, "issue"), _str(arguments, "body"))


def _state(state: str) -> "Run":
    def run(transaction: Transaction, arguments: Json) -> Change:
        body = _optional(arguments, "body")
        return issues.set_state(transaction, _str(arguments, "issue"), state, body)

    return run


def _label(transaction: Transaction, arguments: Json) -> Change:
    add, remove = _list(arguments, "add"), _list(arguments, "remove")
    return issues.label(transaction, _str(arguments, "issue"), add=add, remove=remove)


def _assign(transaction: Transaction, arguments: Json) -> Change:
    add, remove = _list(arguments, "add"), _list(arguments, "remove")
    return issues.assign(transaction, _str(arguments, "issue"), add=add, remove=remove)


def _link(transaction: Transaction, arguments: Json) -> Change:
    url, note = _str(arguments, "url"), _optional(arguments, "note")
    return issues.link(transaction, _str(arguments, "issue"), url, note)


def _dep(transaction: Transaction, arguments: Json) -> Change:
    issue, target, dep_type = (_str(arguments, key) for key in ("issue", "target", "type"))
    return issues.add_dependency(transaction, issue, target, dep_type)


def _dep_remove(transaction: Transaction, arguments: Json) -> Change:
    issue, target, dep_type = (_str(arguments, key) for key in ("issue", "target", "type"))
    return issues.remove_dependency(transaction, issue, target, dep_type)


def _comment_edit(transaction: Transaction, arguments: Json) -> Change:
    issue, comment, body = (_str(arguments, key) for key in ("issue", "comment", "body"))
    return issues.edit_comment(transaction, issue, comment, body)


def _comment_redact(transaction: Transaction, arguments: Json) -> Change:
    issue, comment = _str(arguments, "issue"), _str(arguments, "comment")
    reason = _optional(arguments, "reason") or ""
    return issues.redact_comment(transaction, issue, comment, reason)


def _deleted(deleted: bool) -> "Run":
    def run(transaction: Transaction, arguments: Json) -> Change:
        reason = _optional(arguments, "reason") or ""
        return issues.set_deleted(transaction, _str(arguments, "issue"), deleted, reason)

    return run


Run = Callable[[Transaction, Json], Change]
_OPERATIONS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], Run]]] = {
    "create": (("title",), ("body", "labels", "assignees", "fields"), _create),
    "update": (("issue",), ("title", "body", "fields"), _update),
    "comment": (("issue", "body"), (), _comment),
    "close": (("issue",), ("body",), _state("closed")),
    "reopen": (("issue",), ("body",), _state("open")),
    "label": (("issue",), ("add", "remove"), _label),
    "assign": (("issue",), ("add", "remove"), _assign),
    "link": (("issue", "url"), ("note",), _link),
    "dep": (("issue", "target", "type"), (), _dep),
    "dep-remove": (("issue", "target", "type"), (), _dep_remove),
    "comment-edit": (("issue", "comment", "body"), (), _comment_edit),
    "comment-redact": (("issue", "comment"), ("reason",), _comment_redact),
    "delete": (("issue",), ("reason",), _deleted(True)),
    "restore": (("issue",), ("reason",), _deleted(False)),
}
"""Operation to its required and optional arguments and what runs it."""
_NAMING: Final = ("create", "comment")
