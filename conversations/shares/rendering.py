"""Markdown that a model wrote, as HTML that can do nothing: no scripts, no styles, no picture from elsewhere.

markdown-it takes HTML for text; nh3 goes over the result once more, so that a fault of the one is caught by the other.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table
from markdown_it.token import Token

from conversations.shares.addresses import FILE

MAX_MARKDOWN = 100_000
KEPT = 64
# Rows may leave out their cells, which are made all the same: two kilobytes of lines become 65,000 of them.
MOST_COLUMNS = 50
MOST_CELLS = 5000
TAGS = {
    "a", "blockquote", "br", "code", "del", "div", "em", "h2", "h3", "h4", "h5", "h6", "header", "hr", "img", "li",
    "ol", "p", "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "loading"},
    "div": {"class", "tabindex", "role", "aria-label"},
    "span": {"class"},
    "pre": {"tabindex"},
    "ol": {"start"},
    "td": {"class"},
    "th": {"class"},
}
SIDES = {"text-align:right": "r", "text-align:center": "c"}
Environment = MutableMapping[str, Any]


class Renderer(RendererHTML):
    """Headings below the page's own, tables and code in boxes that scroll, pictures of ours alone."""

    def heading_open(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return f"<{_lower(tokens[at].tag)}>"

    def heading_close(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return f"</{_lower(tokens[at].tag)}>"

    def table_open(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return '<div class="tbl" tabindex="0" role="region" aria-label="Table"><table>'

    def table_close(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return "</table></div>"

    def th_open(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return _cell("th", tokens[at])

    def td_open(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return _cell("td", tokens[at])

    def fence(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return _code(tokens[at].content, tokens[at].info.strip().split(" ")[0])

    def code_block(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        return _code(tokens[at].content, "")

    def image(self, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
        token = tokens[at]
        url = str(token.attrs.get("src") or "")
        alt = self.renderInlineAsText(token.children, options, env) if token.children else ""
        found = FILE.fullmatch(url)
        if found:
            # Without what stood before it: only this server is asked.
            return f'<img src="/{found[1]}/{found[2]}" alt="{escape(alt)}" loading="lazy">'
        # Loading it would tell another server who reads this.
        place = urlsplit(url).hostname or "elsewhere"
        return f'<a href="{escape(url)}">{escape(alt or "Picture")} ({escape(place)})</a>'


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """markdown-it's rule for tables, of which one text has so many; the rest of them stays as it was written."""
    if state.env.get("cells", 0) > MOST_CELLS or start + 1 >= end:
        return False
    columns = state.src.count("|", state.bMarks[start + 1], state.eMarks[start + 1]) + 1
    before = len(state.tokens)
    if columns > MOST_COLUMNS or not table(state, start, min(end, start + MOST_CELLS // columns), silent):
        return False
    # A cell is three tokens.
    state.env["cells"] = state.env.get("cells", 0) + (len(state.tokens) - before) // 3
    return True


def _lower(tag: str) -> str:
    return f"h{min(int(tag[1]) + 1, 6)}"


def _cell(tag: str, token: Token) -> str:
    side = SIDES.get(str(token.attrs.get("style") or ""))
    return f'<{tag} class="{side}">' if side else f"<{tag}>"


def _code(text: str, language: str) -> str:
    label = f'<header><span class="name">{escape(language)}</span></header>' if language else ""
    plain = "" if language else " plain"
    return f'<div class="code{plain}">{label}<pre tabindex="0"><code>{escape(text)}</code></pre></div>'


# Links in text stay text where nobody wrote them as links: fewer surprises, and no pattern to run over everything.
_markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=Renderer).enable(["table", "strikethrough"])
_markdown.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})


@lru_cache(KEPT)
def rendered(text: str) -> str:
    """Safe HTML. What is longer than MAX_MARKDOWN characters stays as it was written."""
    html = _markdown.render(text) if len(text) <= MAX_MARKDOWN else _code(text, "")
    return nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow ugc",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
