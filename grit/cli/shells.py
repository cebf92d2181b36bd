"""How completions reach a shell: its script, and what of an answer it can take (spec/cli.md)."""

import os
import re
from typing import Any, Final

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from grit.core.escape import escape

_WORD: Final = "_GRIT_WORD"
"""Environment: the part of the line that bash will replace."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@+,-]*", re.ASCII)
_QUOTING: Final = frozenset("'\"\\$`")
_BREAKS: Final = {"'": frozenset("'"), '"': frozenset('"\\$`!')}
"""What cannot stand within either quote of bash."""

_BASH: Final = """\
_grit_completion() {
    local line answer
    COMPREPLY=()
    answer=$(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD="$COMP_CWORD" \\
        _GRIT_WORD="$2" _GRIT_COMPLETE=bash_complete grit 2>/dev/null)
    while IFS= read -r line; do
        [[ $line == plain,* ]] && COMPREPLY+=("${line#plain,}")
    done <<< "$answer"
    return 0
}

complete -o nosort -F _grit_completion grit 2>/dev/null || complete -F _grit_completion grit
"""

_ZSH: Final = """\
#compdef grit

_grit_completion() {
    local -a answer values texts
    local type value text
    (( $+commands[grit] )) || return 1
    answer=("${(@f)$(env COMP_WORDS="${(j: :)words[1,CURRENT]}" COMP_CWORD=$((CURRENT-1)) \\
        _GRIT_COMPLETE=zsh_complete grit 2>/dev/null)}")
    for type value text in "${answer[@]}"; do
        [[ $type == plain ]] || continue
        values+=("$value")
        if [[ $text == _ ]]; then texts+=("$value"); else texts+=("$value  -- $text"); fi
    done
    (( $#values )) || return 1
    [[ $PREFIX == --*=* ]] && compset -P '*='
    compadd -V grit -d texts -a -- values
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _grit_completion "$@"
else
    compdef _grit_completion grit
fi
"""

_FISH: Final = """\
function _grit_completion
    set -l words (commandline -cp)
    set -l word (commandline -ct)
    set -l answer (env COMP_WORDS="$words" COMP_CWORD="$word" \\
        _GRIT_COMPLETE=fish_complete grit 2>/dev/null)
    for line in $answer
        set -l parts (string split -m 1 -- "," $line)
        if test "$parts[1]" = plain
            printf '%s\\n' $parts[2]
        end
    end
end

complete --no-files --command grit --arguments "(_grit_completion)"
"""

SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class Sparing(ShellComplete):
    """Answers that are what they look like, and one line each, wherever they come from."""

    def source(self) -> str:
        """Return our own script: click's inserts what it is given."""
        return SCRIPTS[self.name]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Leave out what drives a terminal or is not seen."""
        found = super().get_completions(args, incomplete)
        return [one for one in found if one.value and escape(one.value) == one.value]


class Bash(Sparing, BashComplete):
    """bash inserts an answer as it is, in place of a part of the word: it is quoted here."""

    _typed = _replaced = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before, and the one to complete, read from the line itself."""
        self._replaced = os.environ.get(_WORD, "")
        if _WORD not in os.environ:
            return super().get_completion_args()
        line = os.environ["COMP_WORDS"]
        self._typed = line[_last_word(line) :]
        words = split_arg_string(line)
        return (words[1:-1], words[-1]) if self._typed and words else (words[1:], "")

    def complete(self) -> str:
        """Return the answers, a line each, without those that cannot be quoted here."""
        found = self.get_completions(*self.get_completion_args())
        answers = ((one.type, self._inserted(one.value)) for one in found)
        return "\n".join(f"{kind},{text}" for kind, text in answers if text is not None)

    def _inserted(self, value: str) -> str | None:
        """Return what is to stand in place of what bash replaces; None: it cannot be said there."""
        typed, replaced = self._typed, self._replaced
        if typed[:1] in _BREAKS and typed[1:] == replaced and not _QUOTING & set(replaced):
            return None if _BREAKS[typed[0]] & set(value) else value
        if _QUOTING & set(typed) or not typed.endswith(replaced):
            return None
        option, equals, _ = typed.partition("=") if typed.startswith("--") else ("", "", "")
        kept = len(typed) - len(replaced)
        lead = option + equals
        if kept < len(lead):
            return lead[kept:] + quoted(value)
        return quoted(value[kept - len(lead) :])


def quoted(text: str) -> str:
    """Return the text as one word of bash that means exactly it."""
    if _PLAIN.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _last_word(line: str) -> int:
    """Return where the last word of a line of bash begins; its end, after a blank."""
    start, quote, escaped = 0, "", False
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in _BREAKS:
            quote = char
        elif char in " \t\n":
            start = at + 1
    return start


class Zsh(Sparing, ZshComplete):
    """zsh quotes what it inserts; an answer is three lines."""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return type, value and text of an answer."""
        return f"{item.type}\n{item.value}\n{item.help or '_'}"


class Fish(Sparing, FishComplete):
    """fish quotes what it inserts, in place of the whole word; an answer is a line."""

    _lead = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before, and the one to complete."""
        option, equals, _ = os.environ["COMP_CWORD"].partition("=")
        self._lead = option + equals if equals and option.startswith("--") else ""
        return super().get_completion_args()

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return type and word of an answer, and its text behind a tab."""
        text = f"\t{item.help}" if item.help else ""
        return f"{item.type},{self._lead}{item.value}{text}"


def teach() -> None:
    """Let what shells ask be answered by these classes."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)
