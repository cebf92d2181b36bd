"""The export as one static page: works from a file, without network (spec/exchange.md, HTML)."""

import html
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from grit.core.escape import escape
from grit.core.ids import IssueId, parse_hex
from grit.core.issue import Comment, Issue
from grit.core.limits import ID_BYTES
from grit.core.times import format_ms
from grit.services.export import Exported, issues

_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1c2024;--dim:#5f6873;--line:#dfe3e8;--card:#f6f7f9;
--open:#1a7f37;--closed:#8250df;--accent:#0a5bd3}
@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--ink:#e4e8ed;--dim:#96a1ad;--line:#2a3038;
--card:#171b21;--open:#4cc366;--closed:#b392f0;--accent:#6cb0ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.3rem;margin:.2rem 0 .6rem}
form{position:sticky;top:0;background:var(--bg);padding:.5rem 0;display:flex;gap:.5rem;
flex-wrap:wrap;align-items:center;border-bottom:1px solid var(--line);z-index:1}
input,select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:.35rem .6rem}
input{flex:1 1 14rem;min-width:0}
output,.dim,time{color:var(--dim);font-size:.85rem}
details{border-bottom:1px solid var(--line);scroll-margin-top:4rem}
details[open]{background:var(--card);border-radius:6px}
summary{display:grid;grid-template-columns:auto minmax(0,1fr) auto;gap:.1rem .6rem;cursor:pointer;
padding:.5rem .4rem;list-style:none}
summary::-webkit-details-marker{display:none}
summary:hover{background:var(--card)}
summary b{font-weight:600;overflow-wrap:anywhere}
summary .row{grid-column:2/4}
.dot{width:.65rem;height:.65rem;border-radius:50%;margin-top:.45rem;border:2px solid var(--open)}
.closed .dot{background:var(--closed);border-color:var(--closed)}
.label{display:inline-block;border:1px solid var(--line);border-radius:1rem;padding:0 .5rem;
margin-right:.3rem;font-size:.8rem}
.inside{padding:0 .6rem .8rem 1.7rem}
.text{white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0 .8rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.1rem .8rem;
margin:.2rem 0 .8rem;
font-size:.85rem}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:.4rem 0 .8rem;padding:.5rem .7rem;overflow-x:auto;background:var(--bg);
border:1px solid var(--line);border-radius:6px;font:.85em/1.45 ui-monospace,monospace}
.comment{border-left:3px solid var(--line);padding-left:.7rem;margin:.6rem 0}
code{font:.85em ui-monospace,monospace}a{color:var(--accent)}
@media(max-width:32rem){summary time{display:none}.inside{padding-left:.6rem}}
@media print{form{display:none}}
"""

_SCRIPT: Final = """
const form=document.querySelector('form'),out=form.querySelector('output');
const all=[...document.querySelectorAll('details')];
let texts;
function show(){
 texts??=all.map(one=>one.textContent.toLowerCase());
 const words=form.q.value.toLowerCase().split(/\\s+/).filter(Boolean),state=form.state.value;
 let count=0;
 all.forEach((one,i)=>{
  const fits=(!state||one.classList.contains(state))&&words.every(word=>texts[i].includes(word));
  one.hidden=!fits;count+=fits;
 });
 out.textContent=count+' of '+all.length;
}
function jump(){
 const one=document.getElementById(location.hash.slice(1));
 if(one&&one.tagName==='DETAILS'){one.hidden=false;one.open=true;one.scrollIntoView();}
}
form.hidden=false;
form.addEventListener('submit',event=>event.preventDefault());
form.addEventListener('input',show);
addEventListener('hashchange',jump);
show();jump();
"""


_FENCED: Final = re.compile(
    r"^ {0,3}```[^\n`]*\n(.*?)(?:^ {0,3}```[ \t]*$\n?|\Z)", re.MULTILINE | re.DOTALL
)
_SEEN_FROM_TARGET: Final = {
    "depends_on": "blocks", "blocks": "depends on", "related_to": "related to",
}  # fmt: skip


def html_pieces(source: Exported) -> Iterator[str]:
    """Yield the page; the newest issue comes first."""
    policy = (
        f"default-src 'none'; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>Issues</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Issues</h1>\n"
        '<form hidden role="search"><input name="q" type="search" placeholder="Search" '
        'aria-label="Search" autocomplete="off"><select name="state" aria-label="State">'
        '<option value="open" selected>Open</option><option value="closed">Closed</option>'
        '<option value="">All</option></select><output></output></form>\n<main>\n'
    )
    for issue in issues(source, newest_first=True):
        yield from _issue(source, issue)
    yield f"</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _text(text: str) -> str:
    """Return any text as HTML: markup, control and direction characters made harmless."""
    return html.escape(escape(text.replace("\r\n", "\n"), multiline=True))


def _prose(text: str) -> str:
    """Return a body or comment: fenced code set apart, all else as it was typed."""
    parts = _FENCED.split(_text(text))
    blocks = [
        f"<pre>{part}</pre>" if at % 2 else f'<div class="text">{part.strip(chr(10))}</div>'
        for at, part in enumerate(parts)
        if part.strip()
    ]
    return "".join(blocks)


def _time(ts_unix_ms: int) -> str:
    stamp = format_ms(ts_unix_ms)
    return f'<time datetime="{stamp}" title="{stamp}">{stamp[:10]}</time>'


def _minute(ts_unix_ms: int) -> str:
    return format_ms(ts_unix_ms)[:16].replace("T", " ") + " UTC"


def _issue(source: Exported, issue: Issue) -> Iterator[str]:
    row = issue.summary
    full = row.issue_id.hex()
    labels = "".join(f'<span class="label">{_text(label)}</span>' for label in row.labels)
    count = row.comment_count
    comments = f" · {count} comment{'s' if count != 1 else ''}" if count else ""
    yield (
        f'<details id="{full}" class="{row.state}"><summary><span class="dot" role="img" '
        f'aria-label="{row.state}"></span><b>{_text(row.title)}</b>{_time(row.updated_ts)}'
        f'<span class="row dim">{labels}<code>{full[:7]}</code> {row.state} · '
        f"{_text(source.names(row.author))}{comments}</span></summary>\n"
        '<div class="inside">\n<dl>'
    )
    for name, value in _facts(source, issue):
        yield f"<dt>{_text(name)}</dt><dd>{value}</dd>"
    yield "</dl>\n"
    body = source.workspace.whole(issue.body)
    if body.strip():
        yield _prose(body) + "\n"
    for comment in issue.comments:
        yield _comment(source, comment)
    yield "</div></details>\n"


def _facts(source: Exported, issue: Issue) -> Iterator[tuple[str, str]]:
    """Yield names and values; the values are HTML."""
    row = issue.summary
    yield "id", f"<code>{row.issue_id.hex()}</code>"
    yield "opened", f"{_minute(row.created_ts)} by {_text(source.names(row.author))}"
    if row.assignees:
        yield "assignees", _text(", ".join(row.assignees))
    for key, value in row.fields:
        yield key, _reference(source, value) if key == "parent" else _text(value)
    for edge in row.dependencies:
        yield edge.dep_type.replace("_", " "), _reference(source, edge.target.hex())
    for source_id, dep_type in source.reader.dependents(row.issue_id):
        yield _SEEN_FROM_TARGET.get(dep_type, dep_type), _reference(source, source_id.hex())
    for link in issue.links:
        note = f" ({_text(link.note)})" if link.note else ""
        yield "link", _link(link.url) + note
    for one in issue.attachments:
        yield "attachment", f"{_text(one.name)} <code>{one.sha256.hex()}</code>"


def _link(url: str) -> str:
    shown = _text(url)
    if not url.lower().startswith(("https://", "http://")):
        return shown
    return f'<a href="{html.escape(url)}" rel="noopener noreferrer">{shown}</a>'


def _reference(source: Exported, text: str) -> str:
    """Return a link to another issue of the page, or the id where there is none."""
    found = parse_hex(text, ID_BYTES)
    if found is None:
        return _text(text)
    row = source.reader.summary(IssueId(found))
    if row is None or row.deleted:
        return f"<code>{_text(text)}</code>"
    state = f'<span class="dim">{row.state}</span>'
    return f'<a href="#{row.issue_id.hex()}">{_text(row.title)}</a> {state}'


def _comment(source: Exported, comment: Comment) -> str:
    if comment.redacted is not None:
        text = f'<div class="text dim">redacted: {_text(comment.redacted)}</div>'
    else:
        text = _prose(source.workspace.whole(comment.body))
    edited = " (edited)" if comment.edited_ts is not None else ""
    head = f'<span class="dim">{_text(source.names(comment.actor))} · '
    stamp = _minute(comment.ts_unix_ms)
    return f'<div class="comment">{head}{stamp}{edited}</span>{text}</div>\n'
