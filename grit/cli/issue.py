"""The `grit issue` group: names of sub-commands and where they live."""

from typing import Final

from grit.cli.main import LazyGroup

_EDIT: Final = "grit.cli.edit"
_LOCK: Final = "grit.cli.lock"
_READ: Final = "grit.cli.read"
_RELATIONS: Final = "grit.cli.relations"


def _group(name: str, text: str, commands: dict[str, str]) -> LazyGroup:
    return LazyGroup(name, commands_at=commands, help=text, no_args_is_help=True)


label: Final = _group(
    "label", "Labels of an issue.", {"add": f"{_EDIT}:label_add", "remove": f"{_EDIT}:label_remove"}
)
assignee: Final = _group(
    "assignee",
    "Who works on an issue.",
    {"add": f"{_EDIT}:assignee_add", "remove": f"{_EDIT}:assignee_remove"},
)
link: Final = _group("link", "Links of an issue.", {"add": f"{_EDIT}:link_add"})
attachment: Final = _group(
    "attachment",
    "Files of an issue.",
    {
        "add": f"{_EDIT}:attachment_add",
        "list": f"{_RELATIONS}:attachment_list",
        "get": f"{_RELATIONS}:attachment_get",
    },
)
dep: Final = _group(
    "dep",
    "What must come before what.",
    {
        "add": f"{_EDIT}:dep_add",
        "remove": f"{_EDIT}:dep_remove",
        "list": f"{_RELATIONS}:dep_list",
        "topo": f"{_RELATIONS}:dep_topo",
    },
)
issue: Final = _group(
    "issue",
    "Create, read and change issues.",
    {
        "create": f"{_EDIT}:create",
        "list": f"{_READ}:list_",
        "show": f"{_READ}:show",
        "update": f"{_EDIT}:update",
        "comment": f"{_EDIT}:comment",
        "close": f"{_EDIT}:close",
        "reopen": f"{_EDIT}:reopen",
        "claim": f"{_LOCK}:claim",
        "release": f"{_LOCK}:issue_release",
        "label": "grit.cli.issue:label",
        "assignee": "grit.cli.issue:assignee",
        "link": "grit.cli.issue:link",
        "attachment": "grit.cli.issue:attachment",
        "dep": "grit.cli.issue:dep",
        "comment-edit": f"{_EDIT}:comment_edit",
        "comment-redact": f"{_EDIT}:comment_redact",
        "delete": f"{_EDIT}:delete",
        "restore": f"{_EDIT}:restore",
        "history": "grit.cli.activity:history",
    },
)
