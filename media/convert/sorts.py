"""What sort of file something is, by its content; a name that says otherwise is not believed but refused."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import IO, Literal

from media import kinds
from media.convert.errors import Unreadable, Unsupported
from media.convert.texts import declared, encoding_of

Sort = Literal[
    "text", "html", "table", "notebook", "odt", "ods", "odp", "pdf", "docx", "pptx", "xlsx", "epub", "zip",
    "picture", "sound", "film",
]  # fmt: skip
MEDIA: frozenset[Sort] = frozenset({"picture", "sound", "film"})
# Read by MarkItDown, which is an extra.
HEAVY: frozenset[Sort] = frozenset({"pdf", "docx", "pptx", "xlsx", "epub", "picture"})

_ZIPPED: dict[str, Sort] = {
    ".docx": "docx", ".pptx": "pptx", ".xlsx": "xlsx", ".epub": "epub", ".odt": "odt", ".ods": "ods", ".odp": "odp",
}  # fmt: skip
_WORDED: dict[str, Sort] = {
    ".html": "html", ".htm": "html", ".xhtml": "html", ".csv": "table", ".tsv": "table", ".ipynb": "notebook",
}  # fmt: skip
_NAMED: dict[str, Sort] = {
    **_ZIPPED, ".pdf": "pdf", ".zip": "zip",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic"), "picture"),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".opus", ".aac", ".m4a", ".aiff"), "sound"),
    **dict.fromkeys((".mkv", ".mp4", ".mov", ".avi", ".ogv", ".mpg", ".mpeg"), "film"),
}  # fmt: skip
# These hold sound or film, and the same beginning means both.
_EITHER = {".m4a", ".mp4", ".webm", ".ogg", ".ogv", ".opus", ".mov", ".mkv"}
HEAD = 64
PAGE_HEAD = 4096
CFB = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ELSEWHERE = "The name says {0}, but the content is something else."
OLD_OFFICE = "Old or encrypted Office files are not read; save it as docx, xlsx or pptx without a password."


def sort_of(file: IO[bytes], label: str) -> tuple[Sort, str]:
    """The sort, and for texts their encoding. Leaves the file at its beginning. Raises Unsupported, Unreadable."""
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise Unreadable("The file is empty.")
    file.seek(0)
    encoding = None if head.startswith((b"%PDF-", b"PK\x03\x04", b"PK\x05\x06", CFB)) else encoding_of(file)
    file.seek(0)
    suffix = PurePosixPath(label.lower()).suffix
    found = _found(head, suffix, encoding)
    if found == "html" and encoding == "cp1252":
        encoding = declared(file.read(PAGE_HEAD)) or encoding
        file.seek(0)
    if found is None:
        raise Unsupported(OLD_OFFICE if head.startswith(CFB) else "Files of this type are not supported.")
    said = _NAMED.get(suffix)
    if said not in (None, found) and not (suffix in _EITHER and found in ("sound", "film")):
        raise Unsupported(ELSEWHERE.format(suffix[1:]))
    return found, encoding or ""


def _found(head: bytes, suffix: str, encoding: str | None) -> Sort | None:
    # A whole file of good UTF-8 is text, even one that begins with a picture's letters; Windows' alphabet is a guess.
    kind = kinds.kind_of(head)
    if encoding and (encoding != "cp1252" or kind in (None, kinds.PLAIN)):
        return _WORDED.get(suffix, "text")
    if kind == kinds.PDF:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _ZIPPED.get(suffix, "zip") if suffix in (*_ZIPPED, ".zip", "") else None
    if kind is None or kind == kinds.PLAIN:
        return None
    return {"image": "picture", "audio": "sound", "video": "film"}.get(kind.partition("/")[0])  # type: ignore[return-value]
