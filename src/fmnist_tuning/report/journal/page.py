"""The journal as one HTML page that opens without a network, to be sent to a colleague."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MEDIA: Final = {".png": "image/png", ".svg": "image/svg+xml"}
_MOST: Final = 20 * 2**20  # bytes of a figure
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem; }
body { overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 2.5rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; overflow-wrap: normal; }
th, td { border-bottom: 1px solid #8886; padding: 0.3rem 0.6rem; text-align: left; }
th, td { white-space: nowrap; }
td.words { white-space: normal; min-width: 12rem; }
code { font-size: 0.9em; }
pre { overflow-x: auto; background: #8881; padding: 0.6rem; }
img { display: block; max-width: 100%; margin: 0.6rem 0; background: white; }
hr { border: 0; border-top: 1px solid #8886; margin: 2rem 0; }
.note { font-size: 0.8rem; opacity: 0.8; }
"""
# Nothing may run, and nothing may be fetched, whatever a title or a name holds.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""


def render_page(markdown: str, folder: Path) -> str:
    """A journal's Markdown as one self-contained HTML page.

    The journal's own markers are left out. HTML in it stays text, links lead to the web or within
    the page only, and nothing is loaded. A figure that the text names, as in
    `visualizations/claims.png`, is embedded where it is in `folder`.
    """
    text = re.sub(r"<!--.*?-->\n?", "", markdown, flags=re.DOTALL)
    # The one kind of tag that the journal writes itself: notes below its tables.
    text = re.sub(r"^<sub>(.*)</sub>$", r"\1\n{.note}", text, flags=re.MULTILINE)
    parser = MarkdownIt("js-default", {"html": False, "linkify": False})
    parser.validateLink = _harmless  # type: ignore[method-assign]
    parser.add_render_rule("table_open", lambda *_: '<div class="table"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    environment = {"folder": folder.resolve()}
    parser.add_render_rule("code_inline", _code)
    parser.add_render_rule("image", _image)
    tokens = parser.parse(text, environment)
    _mark(tokens)
    body = parser.renderer.render(tokens, parser.options, environment)
    heading = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    title = escape(heading[1] if heading else "Journal")
    return _PAGE.format(policy=escape(_POLICY), title=title, style=_STYLE, body=body)


def _harmless(url: str) -> bool:
    web = re.match(r"(https?://|mailto:|#)", url, flags=re.IGNORECASE)
    return web is not None or re.fullmatch(r"[\w./%-]+\.(png|svg)", url) is not None


def _mark(tokens: Sequence[Token]) -> None:
    """Give notes and cells of many words their look."""
    for token, inline in pairwise(tokens):
        children = inline.children or []
        if token.type == "paragraph_open" and inline.content.endswith("{.note}"):
            token.attrSet("class", "note")
            while children and children[-1].content in {"{.note}", ""}:
                children.pop()
        elif token.type == "td_open" and len(inline.content.split()) > 6:  # noqa: PLR2004
            token.attrSet("class", "words")


def _code(
    _renderer: Any, tokens: Sequence[Token], place: int, _options: Any, env: Mapping[str, Any]
) -> str:
    content = tokens[place].content
    return f"<code>{escape(content)}</code>{_embedded(content, env['folder'])}"


def _image(
    _renderer: Any, tokens: Sequence[Token], place: int, _options: Any, env: Mapping[str, Any]
) -> str:
    source = str(tokens[place].attrs.get("src", ""))
    return _embedded(source, env["folder"]) or escape(tokens[place].content)


def _embedded(name: str, folder: Path) -> str:
    """A figure of the journal's folder as an element; an empty text if it names none."""
    media = _MEDIA.get(Path(name).suffix.lower())
    if media is None or len(name) > 1_000:  # noqa: PLR2004
        return ""
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or not path.is_file() or path.stat().st_size > _MOST:
            return ""
        content = base64.b64encode(path.read_bytes()).decode()
    except (OSError, ValueError):  # unreadable, or no name that a file can have
        return ""
    return f'<img alt="{escape(path.name)}" src="data:{media};base64,{content}">'
