"""What bytes are, by their first ones: names and declared types may be wrong."""

from __future__ import annotations

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


def kind_of(data: bytes) -> str | None:
    """The media type of whole `data`; None when it is nothing we know."""
    return _media(data[:64]) or (PLAIN if _is_text(data) else None)


def settled(data: bytes, declared: str) -> str | None:
    """As `kind_of`, but of texts the declared type says more than their bytes."""
    found = kind_of(data)
    said = declared.partition(";")[0].strip().lower()
    return said if found == PLAIN and said in TEXTS else found


def _media(head: bytes) -> str | None:
    for beginning, kind in BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "video/mp4")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/x-matroska" if b"matroska" in head else "video/webm"
    return CONTAINERS.get((head[:4], head[8:12])) or _audio_frame(head)


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
