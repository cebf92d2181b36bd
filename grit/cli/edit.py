"""Commands that change one issue: parse, call a service, print what happened."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from grit.cli.context import ISSUE, LABEL, MILESTONE, PERSON, Context, GritCommand
from grit.core.errors import InvalidArgs, IoFailed
from grit.core.escape import escape
from grit.core.ids import IssueId
from grit.core.limits import ATTACHMENT_BYTES_MAX, ID_BYTES, TEXT_BYTES_MAX
from grit.services import issues
from grit.services.issues import Change
from grit.services.write import Transaction, write

if TYPE_CHECKING:
    from grit.core.lease import Resource

DONE: Final = {
    "create": "created", "update": "updated", "comment": "commented on", "close": "closed",
    "reopen": "reopened", "label": "labelled", "unlabel": "took labels off",
    "assign": "assigned", "unassign": "unassigned", "link": "linked",
    "attach": "attached to", "depend": "added a dependency to",
    "undepend": "removed a dependency from", "comment-edit": "edited a comment of",
    "comment-redact": "redacted a comment of", "delete": "deleted", "restore": "restored",
}  # fmt: skip
FIELD_OPTIONS: Final = ("type", "priority", "milestone", "due", "status", "parent", "estimate")
_FIELD_NAMES: Final = {"milestone": MILESTONE, "parent": ISSUE}

Command = Callable[..., Any]


def apply(run: Context, work: Callable[[Transaction], Change]) -> None:
    """Store what `work` decides and print it."""
    change, written = write(run.workspace, work, lambda one: one.subject)
    head = written.head
    data = {
        "issue_id": change.issue_id.hex(),
        "event_id": change.event_id.hex() if change.event_id else None,
        "wal_head": head,
        **change.data,
    }
    verb, _, rest = change.subject.partition(" ")
    done = DONE[verb] if change.event_id else "nothing to change:"
    run.show(data, lambda: [f"{done} {escape(rest)}"])


def body_options(command: Command) -> Command:
    """Add --body and --body-file."""
    command = click.option("--body-file", "-F", metavar="FILE", help="Text; '-' is stdin.")(command)
    return click.option("--body", "-b", metavar="TEXT", help="The text itself.")(command)


def read_body(body: str | None, body_file: str | None) -> str | None:
    """Return the text that the options give, or None; raise InvalidArgs or IoFailed."""
    if body is not None and body_file is not None:
        raise InvalidArgs("give --body or --body-file, not both")
    if body_file is None:
        return body
    content = read_file(body_file, TEXT_BYTES_MAX)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgs(f"'{body_file}' is not UTF-8 text: {error.reason}") from error


def read_file(path: str, bytes_max: int) -> bytes:
    """Return a file's content ('-' is stdin); raise IoFailed, or InvalidArgs when too large."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(bytes_max + 1)
    except OSError as error:
        raise IoFailed(f"cannot read '{path}': {error.strerror}") from error
    if len(content) > bytes_max:
        raise InvalidArgs(f"'{path}' is larger than {bytes_max} bytes")
    return content


@contextmanager
def text_or_editor(
    run: Context, body: str | None, body_file: str | None, initial: str = ""
) -> Iterator[str]:
    """Yield the text of the options or of the user's editor, whose draft a failure keeps."""
    text = read_body(body, body_file)
    if text is not None:
        yield text
        return
    from grit.cli.editor import edited_text

    with edited_text(initial, ".md", folder=run.workspace.repository.private) as text:
        yield text


def field_options(command: Command) -> Command:
    """Add --field and an option for each well-known field."""
    for name in reversed(FIELD_OPTIONS):
        command = click.option(
            f"--{name}",
            metavar="VALUE",
            shell_complete=_FIELD_NAMES.get(name),
            help=f"Set the field '{name}'.",
        )(command)
    return click.option(
        "--field", "-f", "pairs", multiple=True, metavar="KEY=VALUE", help="Set any field."
    )(command)


def field_values(pairs: tuple[str, ...], named: dict[str, str | None]) -> dict[str, str]:
    """Return the fields of --field and of the named options."""
    values = {key: value for key, value in named.items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidArgs(f"--field '{pair}': write KEY=VALUE")
        values[key.strip()] = value
    return values


@click.command(cls=GritCommand, name="create")
@click.argument("words", nargs=-1, metavar="[TITLE]")
@click.option("--title", "-t", help="One line that says what it is about.")
@body_options
@click.option(
    "--label", "-l", "labels", multiple=True, shell_complete=LABEL, help="Add a label; repeatable."
)
@click.option(
    "--assignee",
    "-a",
    "assignees",
    multiple=True,
    shell_complete=PERSON,
    help="Assign; '@me' is you.",
)
@field_options
@click.pass_obj
def create(
    run: Context,
    /,
    words: tuple[str, ...],
    title: str | None,
    body: str | None,
    body_file: str | None,
    labels: tuple[str, ...],
    assignees: tuple[str, ...],
    pairs: tuple[str, ...],
    **named: str | None,
) -> None:
    """Create an issue; without a title the editor opens."""
    if title is not None and words:
        raise InvalidArgs("give the title once")
    title = title if title is not None else " ".join(words) if words else None
    fields = field_values(pairs, named)
    issue_id = IssueId(run.workspace.ports.entropy(ID_BYTES))

    def store(title: str, body: str) -> None:
        apply(
            run,
            lambda transaction: issues.create(
                transaction,
                issue_id,
                title,
                body=body,
                labels=labels,
                assignees=assignees,
                fields=fields,
            ),
        )

    if title is not None:
        store(title, read_body(body, body_file) or "")
        return
    from grit.cli.editor import split_title

    if body is not None or body_file is not None or not sys.stdin.isatty():
        raise InvalidArgs("the title is missing: use --title")
    with text_or_editor(run, None, None) as text:
        store(*split_title(text))


@click.command(cls=GritCommand, name="update")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.option("--title", "-t", help="The new title.")
@body_options
@field_options
@click.pass_obj
def update(
    run: Context,
    /,
    issue: str,
    title: str | None,
    body: str | None,
    body_file: str | None,
    pairs: tuple[str, ...],
    **named: str | None,
) -> None:
    """Change title, body or fields; an empty field value removes the field.

    Without any option the editor opens with title and body.
    """
    fields = field_values(pairs, named)
    text = read_body(body, body_file)
    if title is not None or text is not None or fields:
        apply(
            run,
            lambda transaction: issues.update(
                transaction, issue, title=title, body=text, fields=fields
            ),
        )
        return
    from grit.cli.editor import split_title
    from grit.services.listing import whole_issue

    known = whole_issue(run.workspace, issue)
    title, text = known.summary.title, run.workspace.whole(known.body)
    with text_or_editor(run, None, None, f"{title}\n\n{text}") as edited:
        new_title, new_body = split_title(edited, (title, text))
        apply(
            run,
            lambda transaction: issues.update(transaction, issue, title=new_title, body=new_body),
        )


@click.command(cls=GritCommand, name="comment")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@body_options
@click.pass_obj
def comment(run: Context, issue: str, body: str | None, body_file: str | None) -> None:
    """Add a comment; without a text the editor opens."""
    with text_or_editor(run, body, body_file) as text:
        apply(run, lambda transaction: issues.comment(transaction, issue, text))


def _state_command(name: str, state: str, summary: str) -> click.Command:
    @click.command(cls=GritCommand, name=name, help=summary)
    @click.argument("ids", metavar="ID", nargs=-1, required=True, shell_complete=ISSUE)
    @click.option("--comment", "-m", "text", help="A comment that goes with it.")
    @click.pass_obj
    def command(run: Context, ids: tuple[str, ...], text: str | None) -> None:
        if len(ids) > 1 and run.json:
            raise InvalidArgs("--json takes one issue; use 'grit batch' for many")
        claimed = _claimed(run, ids) if state == "closed" else {}
        for issue in ids:
            _set_state(run, issue, state, text)
            if issue in claimed:
                from grit.services.claims import end_claim

                end_claim(run.workspace, claimed[issue])

    return command


def _claimed(run: Context, ids: tuple[str, ...]) -> "dict[str, Resource]":
    """Return those issues whose leases this session has, and will give back."""
    from grit.git.refs import refs_below

    workspace = run.workspace
    folder = workspace.wal.ref.rpartition("/")[0]
    if not refs_below(workspace.repository, f"{folder}/locks/").ids:
        return {}  # next to nothing is loaded or read where nobody uses leases
    from grit.cli.foreground import leave_to_launcher
    from grit.services.claims import own_claim

    found = {issue: own_claim(workspace, issue) for issue in ids}
    claimed = {issue: resource for issue, resource in found.items() if resource is not None}
    if claimed:
        leave_to_launcher()  # the remote is to be told, and may ask for a password
    return claimed


def _set_state(run: Context, issue: str, state: str, text: str | None) -> None:
    apply(run, lambda transaction: issues.set_state(transaction, issue, state, text))


close: Final = _state_command("close", "closed", "Close issues.")
reopen: Final = _state_command("reopen", "open", "Open issues again.")


_VALUES: Final = {"label": LABEL, "assignee": PERSON}


def _set_command(noun: str, verb: str, summary: str) -> click.Command:
    @click.command(cls=GritCommand, name=verb, help=summary)
    @click.argument("issue", metavar="ID", shell_complete=ISSUE)
    @click.argument("values", nargs=-1, required=True, shell_complete=_VALUES[noun])
    @click.pass_obj
    def command(run: Context, issue: str, values: tuple[str, ...]) -> None:
        change = issues.label if noun == "label" else issues.assign
        names = {verb: values}
        apply(run, lambda transaction: change(transaction, issue, **names))

    return command


label_add: Final = _set_command("label", "add", "Add labels.")
label_remove: Final = _set_command("label", "remove", "Remove labels.")
assignee_add: Final = _set_command("assignee", "add", "Assign people; '@me' is you.")
assignee_remove: Final = _set_command("assignee", "remove", "Take people off.")


@click.command(cls=GritCommand, name="add")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.argument("url")
@click.option("--note", help="What it is.")
@click.pass_obj
def link_add(run: Context, issue: str, url: str, note: str | None) -> None:
    """Add a link."""
    apply(run, lambda transaction: issues.link(transaction, issue, url, note))


@click.command(cls=GritCommand, name="add")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.argument("path", metavar="FILE")
@click.option("--name", help="Name to store it under; the file's own by default.")
@click.pass_obj
def attachment_add(run: Context, issue: str, path: str, name: str | None) -> None:
    """Attach a file; its contents travel with the log."""
    from mimetypes import guess_type
    from os.path import basename

    content = read_file(path, ATTACHMENT_BYTES_MAX)
    name = name or basename(path)
    mime = guess_type(name)[0] or "application/octet-stream"
    apply(run, lambda transaction: issues.attach(transaction, issue, name, content, mime))


def dependency_options(command: Command) -> Command:
    """Add --target and --type."""
    kind = click.Choice(["blocks", "depends_on", "related_to"])
    command = click.option(
        "--type", "dep_type", type=kind, default="depends_on", show_default=True
    )(command)
    return click.option(
        "--target", required=True, metavar="ID", shell_complete=ISSUE, help="The other issue."
    )(command)


@click.command(cls=GritCommand, name="add")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@dependency_options
@click.pass_obj
def dep_add(run: Context, issue: str, target: str, dep_type: str) -> None:
    """State that an issue blocks, depends on or relates to another."""
    apply(run, lambda transaction: issues.add_dependency(transaction, issue, target, dep_type))


@click.command(cls=GritCommand, name="remove")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@dependency_options
@click.pass_obj
def dep_remove(run: Context, issue: str, target: str, dep_type: str) -> None:
    """Take a dependency away, whichever of the two issues states it."""
    apply(run, lambda transaction: issues.remove_dependency(transaction, issue, target, dep_type))


@click.command(cls=GritCommand, name="comment-edit")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.argument("comment_id", metavar="COMMENT")
@body_options
@click.pass_obj
def comment_edit(
    run: Context, issue: str, comment_id: str, body: str | None, body_file: str | None
) -> None:
    """Replace a comment's text; COMMENT is its number or id."""
    initial = ""
    if body is None and body_file is None:
        from grit.services.listing import whole_issue

        known = whole_issue(run.workspace, issue)
        found = issues.find_comment(known, comment_id)
        initial = next(
            run.workspace.whole(one.body) for one in known.comments if one.event_id == found
        )
    with text_or_editor(run, body, body_file, initial) as text:
        apply(
            run,
            lambda transaction: issues.edit_comment(transaction, issue, comment_id, text),
        )


@click.command(cls=GritCommand, name="comment-redact")
@click.argument("issue", metavar="ID", shell_complete=ISSUE)
@click.argument("comment_id", metavar="COMMENT")
@click.option("--reason", default="", help="Why; shown in place of the text.")
@click.pass_obj
def comment_redact(run: Context, issue: str, comment_id: str, reason: str) -> None:
    """Hide a comment's text in every view; COMMENT is its number or id."""
    apply(run, lambda transaction: issues.redact_comment(transaction, issue, comment_id, reason))


def _delete_command(name: str, deleted: bool, summary: str) -> click.Command:
    @click.command(cls=GritCommand, name=name, help=summary)
    @click.argument("issue", metavar="ID", shell_complete=ISSUE)
    @click.option("--reason", default="", help="Why.")
    @click.pass_obj
    def command(run: Context, issue: str, reason: str) -> None:
        apply(run, lambda transaction: issues.set_deleted(transaction, issue, deleted, reason))

    return command


delete: Final = _delete_command("delete", True, "Hide an issue; 'restore' brings it back.")
restore: Final = _delete_command("restore", False, "Bring a deleted issue back.")
