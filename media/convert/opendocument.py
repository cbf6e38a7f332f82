"""Markdown of OpenDocument texts, tables and presentations (OASIS OpenDocument 1.3, part 3). Runs in the child.

Nothing but Python's own parser is needed. It reads no entities that a document defines, and bounds what a few bytes may
be repeated to.
"""

from __future__ import annotations

import re
from typing import IO
from xml.parsers import expat

from media.convert.archive import Archive
from media.convert.errors import Unreadable
from media.convert.simple import BLANKS, table

CONTENT = "content.xml"
DAMAGED = "The document is damaged, encrypted, or not what its name says."
MAX_COLUMNS, MAX_CELLS = 1000, 500_000
MAX_SPACES = 100
MAX_DEPTH = 1000
OPENABLE = ("http://", "https://", "mailto:")
# What was deleted, what nobody sees, and forms that only programs read.
SILENT = {
    "text tracked-changes",
    "office forms",
    "office scripts",
    "office settings",
    "text sequence-decls",
    "text note-citation",
    # Of comments: who made them, and when.
    "http://purl.org/dc/elements/1.1/ creator",
    "http://purl.org/dc/elements/1.1/ date",
    "meta creator-initials",
    "meta date-string",
    "loext sender-initials",
}
SPACES = re.compile(r"[ \t\r\n]+")
# The last part of a namespace, such as urn:oasis:names:tc:opendocument:xmlns:text:1.0.
NAMESPACE = re.compile(r":xmlns:([a-z]+):[0-9.]+ ")


def from_opendocument(kind: str, file: IO[bytes]) -> str:
    """`kind`: odt, ods or odp. Raises Unreadable."""
    archive = Archive(file)
    found = [entry for entry in archive.entries if entry.filename == CONTENT]
    if len(found) != 1:
        raise Unreadable(DAMAGED)
    document = _Document(kind)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.EntityDeclHandler = _refuse_entities
    parser.StartElementHandler = document.start
    parser.EndElementHandler = document.end
    parser.CharacterDataHandler = document.characters
    parser.buffer_text = True
    try:
        for piece in archive.pieces(found[0]):
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError:
        raise Unreadable(DAMAGED) from None
    return document.markdown()


def _refuse_entities(*given: object) -> None:
    raise Unreadable("The document's XML defines entities.")


def _name(given: str) -> str:
    """`text p` of `urn:oasis:names:tc:opendocument:xmlns:text:1.0 p`; as it is of other namespaces."""
    found = NAMESPACE.search(given)
    return f"{found[1]} {given[found.end() :]}" if found else given


class _Table:
    """Rows as they come. Empty cells and rows at the ends, of which spreadsheets have millions, are nothing."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self._row: list[str] = []
        self._empty_cells = self._empty_rows = self._cells = 0

    def cell(self, text: str, times: int) -> None:
        if not text:
            self._empty_cells += times
            return
        if len(self._row) + self._empty_cells + times > MAX_COLUMNS:
            raise Unreadable("The table is too large.")
        self._row += [""] * self._empty_cells + [text] * times
        self._empty_cells = 0

    def row(self, times: int) -> None:
        row, self._row, self._empty_cells = self._row, [], 0
        if not row:
            self._empty_rows += times
            return
        # Gaps between rows say nothing that several lines of bars would say better than one.
        self.rows += [[""]] if self._empty_rows and self.rows else []
        self._empty_rows = 0
        self._cells += len(row) * times
        if self._cells > MAX_CELLS:
            raise Unreadable("The table is too large.")
        self.rows += [row] * times


class _Document:
    """Headings, paragraphs, lists, links, tables and notes, in the order of the file."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._parts: list[str] = []
        # Where text goes to: the document, or the cell of a table in it.
        self._outer: list[list[str]] = []
        self._tables: list[_Table] = []
        self._cells: list[dict[str, str]] = []
        self._links: list[str] = []
        self._lists = self._silent = self._depth = self._slides = 0
        self._in_words = 0
        self._seen_office = False

    def start(self, given: str, attributes: dict[str, str]) -> None:
        name = _name(given)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(DAMAGED)
        self._silent += name in SILENT
        self._seen_office = self._seen_office or name in ("office text", "office spreadsheet", "office presentation")
        if self._silent:
            return
        named = {_name(key): value for key, value in attributes.items()}
        opening = OPENINGS.get(name)
        if opening:
            opening(self, named)

    def end(self, given: str) -> None:
        name = _name(given)
        self._depth -= 1
        if name in SILENT:
            self._silent -= 1
        elif not self._silent and (closing := CLOSINGS.get(name)):
            closing(self)

    def characters(self, text: str) -> None:
        if self._in_words and not self._silent:
            self._write(SPACES.sub(" ", text))

    def markdown(self) -> str:
        if not self._seen_office:
            raise Unreadable(DAMAGED)
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        return BLANKS.sub("\n\n", "\n".join(lines)).strip()

    def _write(self, text: str) -> None:
        self._parts.append(text)

    # Words.

    def heading(self, named: dict[str, str]) -> None:
        self._in_words += 1
        self._write(f"\n\n{'#' * _number(named.get('text outline-level'), 1, 6)} ")

    def paragraph(self, named: dict[str, str]) -> None:
        self._in_words += 1
        if not self._lists and not self._outer:
            self._write("\n\n")
        elif self._parts and not self._parts[-1].endswith(("- ", "\n")):
            self._write(" ")

    def words_end(self) -> None:
        self._in_words -= 1
        if not self._lists and not self._outer:
            self._write("\n\n")

    def item(self, named: dict[str, str]) -> None:
        self._write(f"\n{'  ' * (min(self._lists, 20) - 1)}- " if not self._outer else " ")

    def list_start(self, named: dict[str, str]) -> None:
        self._lists += 1

    def list_end(self) -> None:
        self._lists -= 1
        if not self._lists and not self._outer:
            self._write("\n\n")

    def spaces(self, named: dict[str, str]) -> None:
        self._write(" " * _number(named.get("text c"), 1, MAX_SPACES))

    def tab(self, named: dict[str, str]) -> None:
        self._write("\t")

    def line_break(self, named: dict[str, str]) -> None:
        self._write(" " if self._outer else "\n")

    def link_start(self, named: dict[str, str]) -> None:
        address = next((value for name, value in named.items() if name.endswith("xlink href")), "")
        self._links.append(address if address.startswith(OPENABLE) else "")
        self._write("[" if self._links[-1] else "")

    def link_end(self) -> None:
        link = self._links.pop() if self._links else ""
        self._write(f"]({link})" if link else "")

    def note_start(self, named: dict[str, str]) -> None:
        self._outer.append(self._parts)
        self._parts = []

    def note_end(self) -> None:
        text = "".join(self._parts).strip()
        self._parts = self._outer.pop()
        self._write(f" ({text})" if text else "")

    def slide(self, named: dict[str, str]) -> None:
        self._slides += 1
        self._write(f"\n\n## Slide {self._slides}\n\n")

    # Tables. One in the cell of another is words in that cell.

    def table_start(self, named: dict[str, str]) -> None:
        if self._kind == "ods" and not self._tables:
            self._write(f"\n\n## {SPACES.sub(' ', named.get('table name', '')).strip() or 'Table'}\n\n")
        self._tables.append(_Table())

    def table_end(self) -> None:
        rows = self._tables.pop().rows
        if self._outer:
            self._write(" ".join(" ".join(filter(None, row)) for row in rows))
        elif rows:
            self._write(f"\n\n{table(rows)}\n\n")

    def row_start(self, named: dict[str, str]) -> None:
        self._cells.append(named)

    def row_end(self) -> None:
        if self._cells and self._tables:
            self._tables[-1].row(_number(self._cells.pop().get("table number-rows-repeated"), 1, MAX_CELLS * 10))

    def cell_start(self, named: dict[str, str]) -> None:
        self._cells.append(named)
        self._outer.append(self._parts)
        self._parts = []

    def cell_end(self) -> None:
        named = self._cells.pop() if self._cells else {}
        text = SPACES.sub(" ", "".join(self._parts)).strip()
        self._parts = self._outer.pop() if self._outer else []
        if self._tables:
            text = text or named.get("office value", "")
            self._tables[-1].cell(text, _number(named.get("table number-columns-repeated"), 1, MAX_CELLS * 10))


def _number(text: str | None, low: int, high: int) -> int:
    """A count as far as one may be believed."""
    return min(max(int(text), low), high) if text and text.isascii() and text.isdigit() and len(text) < 10 else low


OPENINGS = {
    "text h": _Document.heading,
    "text p": _Document.paragraph,
    "text list": _Document.list_start,
    "text list-item": _Document.item,
    "text s": _Document.spaces,
    "text tab": _Document.tab,
    "text line-break": _Document.line_break,
    "text a": _Document.link_start,
    "text note-body": _Document.note_start,
    "office annotation": _Document.note_start,
    "drawing page": _Document.slide,
    "table table": _Document.table_start,
    "table table-row": _Document.row_start,
    "table table-cell": _Document.cell_start,
    "table covered-table-cell": _Document.cell_start,
}
CLOSINGS = {
    "text h": _Document.words_end,
    "text p": _Document.words_end,
    "text list": _Document.list_end,
    "text a": _Document.link_end,
    "text note-body": _Document.note_end,
    "office annotation": _Document.note_end,
    "table table": _Document.table_end,
    "table table-row": _Document.row_end,
    "table table-cell": _Document.cell_end,
    "table covered-table-cell": _Document.cell_end,
}
