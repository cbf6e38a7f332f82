"""What bytes are, by their first ones: names and declared types may be wrong."""

from __future__ import annotations

import codecs
from typing import IO

PLAIN = "text/plain"
PDF = "application/pdf"
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
MORE_IMAGES = frozenset({"image/heic", "image/heif", "image/avif", "image/bmp", "image/tiff"})
AUDIO = frozenset({"audio/wav", "audio/mp3", "audio/aac", "audio/ogg", "audio/flac", "audio/aiff", "audio/mp4"})
TEXTS = frozenset({PLAIN, "text/csv", "text/html", "text/css", "text/markdown", "text/xml", "application/json"})
VIDEOS = frozenset({"video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "video/mpeg", "video/avi"})

BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", PDF),
    (b"ID3", "audio/mp3"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"PK\x03\x04", "application/zip"),
)
# RIFF, FORM: the type stands eight bytes later.
CONTAINERS = {
    (b"RIFF", b"WEBP"): "image/webp",
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RIFF", b"AVI "): "video/avi",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}
BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
OFFICE = "application/vnd.openxmlformats-officedocument"
# What makes a ZIP archive a document: names in the directory at its end.
PACKAGES = (
    (b"word/document.xml", f"{OFFICE}.wordprocessingml.document"),
    (b"xl/workbook.xml", f"{OFFICE}.spreadsheetml.sheet"),
    (b"ppt/presentation.xml", f"{OFFICE}.presentationml.presentation"),
)
# Archives of these begin with a member that holds their type.
OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
DECLARED_PACKAGES = (
    "application/epub+zip",
    f"{OPEN_DOCUMENT}.text",
    f"{OPEN_DOCUMENT}.spreadsheet",
    f"{OPEN_DOCUMENT}.presentation",
)
# Containers that hold sound as well as films, and samples without any header: the sender knows.
SAID = {
    "video/webm": {"audio/webm"},
    "video/mp4": {"audio/mp4", "audio/m4a", "audio/x-m4a"},
    "audio/ogg": {"video/ogg", "audio/opus"},
    None: {"audio/pcm", "audio/l16"},
}
DIRECTORY_BYTES = 256 * 1024


def kind_of(data: bytes) -> str | None:
    """The media type of whole `data`; None when it is nothing we know."""
    return _media(data[:64]) or (PLAIN if _is_text(data) else None)


def settled(data: bytes, declared: str) -> str | None:
    """As `kind_of`, but of texts the declared type says more than their bytes."""
    found = kind_of(data)
    said = declared.partition(";")[0].strip().lower()
    return said if found == PLAIN and said in TEXTS else found


def settled_file(file: IO[bytes], declared: str) -> str | None:
    """As `settled`, of a file that may be large; documents in archives are told apart as well."""
    file.seek(0)
    head = file.read(128)
    said = declared.partition(";")[0].strip().lower()
    found = _media(head[:64])
    if found == "application/zip":
        return _package(file, head)
    if found is None and _is_text_file(file):
        return said if said in TEXTS else PLAIN
    return said if said in SAID.get(found, ()) else found


def _package(file: IO[bytes], head: bytes) -> str:
    for kind in DECLARED_PACKAGES:
        if head[30:].startswith(b"mimetype" + kind.encode()):
            return kind
    file.seek(max(0, file.seek(0, 2) - DIRECTORY_BYTES))
    directory = file.read()
    return next((kind for name, kind in PACKAGES if name in directory), "application/zip")


def _is_text_file(file: IO[bytes]) -> bool:
    file.seek(0)
    decoder, seen = codecs.getincrementaldecoder("utf-8")(), False
    try:
        while chunk := file.read(DIRECTORY_BYTES):
            seen = True
            if b"\x00" in chunk:
                return False
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return seen


def _media(head: bytes) -> str | None:
    for beginning, kind in BEGINNINGS:
        if head.startswith(beginning) and not _is_a_word(head):
            return kind
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "video/mp4")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/x-matroska" if b"matroska" in head else "video/webm"
    return CONTAINERS.get((head[:4], head[8:12])) or _audio_frame(head)


def _is_a_word(head: bytes) -> bool:
    """Texts begin with BM or ID3 too; where these are marks, bytes follow that no text has."""
    return (head.startswith(b"BM") and head[6:10] != bytes(4)) or (head.startswith(b"ID3") and head[3:4] > b"\x08")


def _audio_frame(head: bytes) -> str | None:
    """Streams of MPEG audio have no header of their own: each frame begins with eleven set bits."""
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    return "audio/mp3" if head[1] & 0x06 else None


def _is_text(data: bytes) -> bool:
    if not data or b"\x00" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
