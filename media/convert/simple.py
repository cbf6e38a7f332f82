"""Markdown of what Python reads by itself: HTML, tables as text, notebooks. Runs in the child."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from itertools import islice
from typing import Any

from media.convert.errors import Unreadable

MAX_ROWS = 100_000
MAX_COLUMNS = 1000
BLOCKS = {"p", "div", "section", "article", "header", "footer", "main", "table", "ul", "ol", "blockquote", "figure",
          "form", "dl", "dt", "dd", "address", "aside", "nav", "figcaption", "tbody", "thead"}  # fmt: skip
SILENT = {"script", "style", "template", "noscript", "svg", "math", "head", "iframe", "object", "select"}
OPENINGS = {
    **{f"h{level}": f"\n\n{'#' * level} " for level in range(1, 7)},
    "br": "\n", "hr": "\n\n---\n\n", "pre": "\n\n```\n", "tr": "\n| ",
}  # fmt: skip
CLOSINGS = {**{f"h{level}": "\n\n" for level in range(1, 7)}, "pre": "\n```\n\n", "td": " | ", "th": " | "}
MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "code": "`"}
SPACES = re.compile(r"[ \t\r\n\f\u00a0]+")
BLANKS = re.compile(r"\n{3,}")
# What makes a link more than text: only addresses that a reader can open.
OPENABLE = ("http://", "https://", "mailto:")


class _Markdown(HTMLParser):
    """Text with headings, lists, links, tables, code; no attribute but an address survives."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._parts: list[str] = []
        self._silent = 0
        self._pre = 0
        self._lists: list[int] = []
        self._links: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title" or (self._in_title and tag != "body")
        self._silent += tag in SILENT
        if self._silent:
            return
        if tag == "a":
            self._links.append(dict(attrs).get("href") or "")
            self._write("[" if self._links[-1].startswith(OPENABLE) else "")
        elif tag == "img":
            described = SPACES.sub(" ", dict(attrs).get("alt") or "")
            self._write(f"![{described}]" if described else "")
        elif tag in ("ul", "ol"):
            self._write("\n" if self._lists else "\n\n")
            self._lists.append(0 if tag == "ol" else -1)
        elif tag == "li":
            self._item()
        elif tag in MARKS:
            self._write("" if self._pre else MARKS[tag])
        else:
            self._pre += tag == "pre"
            self._write(OPENINGS.get(tag, "\n\n" if tag in BLOCKS else ""))

    def _item(self) -> None:
        depth = max(0, len(self._lists) - 1)
        mark = "-"
        if self._lists and self._lists[-1] >= 0:
            self._lists[-1] += 1
            mark = f"{self._lists[-1]}."
        self._write(f"\n{'  ' * min(depth, 20)}{mark} ")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"
        if tag in SILENT:
            self._silent = max(0, self._silent - 1)
        if self._silent:
            return
        if tag == "a" and self._links:
            link = self._links.pop()
            self._write(f"]({link})" if link.startswith(OPENABLE) else "")
        elif tag in MARKS:
            self._write("" if self._pre else MARKS[tag])
        else:
            if tag in ("ul", "ol") and self._lists:
                self._lists.pop()
            self._pre = max(0, self._pre - (tag == "pre"))
            self._write(CLOSINGS.get(tag, "\n\n" if tag in BLOCKS else ""))

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._silent:
            self._write(data if self._pre else SPACES.sub(" ", data))

    def _write(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def text(self) -> str:
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        body = BLANKS.sub("\n\n", "\n".join(lines)).strip()
        title = SPACES.sub(" ", self.title).strip()
        return f"# {title}\n\n{body}" if title and not body.startswith("# ") else body


def from_html(text: str) -> str:
    parser = _Markdown()
    parser.feed(text)
    parser.close()
    return parser.text()


def from_table(text: str) -> str:
    """Comma, semicolon, tab or bar between the values, whichever the first lines use. Raises Unreadable."""
    csv.field_size_limit(1_000_000)
    try:
        dialect: Any = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = list(islice(csv.reader(io.StringIO(text), dialect), MAX_ROWS + 1))
    except csv.Error as error:
        raise Unreadable(f"The table cannot be read: {error}.") from None
    if len(rows) > MAX_ROWS or any(len(row) > MAX_COLUMNS for row in rows):
        raise Unreadable("The table is too large.")
    return table(row for row in rows if row)


def table(rows: Iterable[list[str]]) -> str:
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        return ""
    width = max(map(len, lines))
    shown = [f"| {' | '.join([*line, *[''] * (width - len(line))])} |" for line in lines]
    return "\n".join([shown[0], f"|{' --- |' * width}", *shown[1:]])


def _cell(value: str) -> str:
    return SPACES.sub(" ", value).strip().replace("|", "\\|")


def from_notebook(text: str) -> str:
    """Jupyter's format, version 4: the cells in order, code fenced. Outputs are left out. Raises Unreadable."""
    try:
        notebook = json.loads(text)
        language = str(notebook.get("metadata", {}).get("language_info", {}).get("name", "python"))
        cells = [(str(cell["cell_type"]), _joined(cell["source"])) for cell in notebook["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable("The notebook is damaged.") from None
    fenced = (f"```{language}\n{source}\n```" if kind == "code" else source for kind, source in cells if source)
    return "\n\n".join(fenced)


def _joined(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)
