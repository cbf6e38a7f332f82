"""Bytes as text: which encoding they are in, and reading them bit by bit."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import IO

PIECE = 64 * 1024
# UTF-32's begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Control characters that texts hold: tab, line feed, vertical tab, form feed, carriage return, escape, and end of file.
CONTROLS = bytes(sorted(set(range(32)) - {9, 10, 11, 12, 13, 27, 26}))
MAX_CONTROLS = 0.002
# Python has codecs that are none of texts, or take no damaged ones: these do.
CHARSET = re.compile(
    rb"""(?i)<meta[^>]{0,200}charset\s*=\s*["']?"""
    rb"((?:windows-|cp)(?:874|125[0-8])|iso-8859-(?:[2-9]|1[013-6])|koi8-[ru]|shift_jis|euc-(?:jp|kr)|gbk|gb2312|gb18030|big5)"
    rb"(?![a-z0-9_-])"
)


def pieces(file: IO[bytes], size: int = PIECE) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece


def encoding_of(file: IO[bytes]) -> str | None:
    """Of the whole file, from where it stands; None when it is no text. Windows' alphabet is what is left over."""
    encoding = ""
    decoder: codecs.IncrementalDecoder | None = None
    size = controls = 0
    for piece in pieces(file):
        if not size:
            encoding = next((name for mark, name in MARKS if piece.startswith(mark)), "utf-8")
            decoder = codecs.getincrementaldecoder(encoding)()
        size += len(piece)
        if encoding not in ("utf-16", "utf-32"):
            if b"\x00" in piece:
                return None
            controls += len(piece) - len(piece.translate(None, CONTROLS))
        decoder, encoding = _fed(decoder, encoding, piece)
        if not encoding:
            return None
    decoder, encoding = _fed(decoder, encoding, b"", final=True)
    return None if not size or not encoding or controls > max(2, size * MAX_CONTROLS) else encoding


def declared(page: bytes) -> str | None:
    """What a page says of its encoding, where it is one that pages are written in."""
    match = CHARSET.search(page)
    return match[1].decode().lower() if match else None


def _fed(
    decoder: codecs.IncrementalDecoder | None, encoding: str, piece: bytes, final: bool = False
) -> tuple[codecs.IncrementalDecoder | None, str]:
    if decoder is not None:
        try:
            decoder.decode(piece, final)
        except UnicodeDecodeError:
            return None, "cp1252" if encoding == "utf-8" else ""
    return decoder, encoding


def decoded(file: IO[bytes], encoding: str, size: int = PIECE) -> Iterator[str]:
    """Bytes that are no character become U+FFFD, and NUL too, which no database and no model takes."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for piece in pieces(file, size):
        if text := decoder.decode(piece):
            yield text.replace("\x00", "\ufffd")
    if rest := decoder.decode(b"", True):
        yield rest


def first(texts: Iterable[str], most: int) -> tuple[str, bool]:
    """At most so many characters of them, and whether that is less than all."""
    parts: list[str] = []
    left = most
    for text in texts:
        parts.append(text[:left])
        left -= len(text)
        if left < 0:
            return "".join(parts), True
    return "".join(parts), False
