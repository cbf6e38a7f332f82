"""Media that travel inside JSON as base64: read from data: URLs, and told apart by how they begin."""

from __future__ import annotations

import base64
import binascii

# The base64 form of the first bytes of files.
BEGINNINGS = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("SUQz", "audio/mpeg"),
    ("//s", "audio/mpeg"),
    ("//M", "audio/mpeg"),
    ("//N", "audio/mpeg"),
    ("//I", "audio/mpeg"),
    ("T2dnUw", "audio/ogg"),
    ("ZkxhQw", "audio/flac"),
)
RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def mime_of(data: str, otherwise: str) -> str:
    """The type of base64 media by its first bytes."""
    for beginning, mime in BEGINNINGS:
        if data.startswith(beginning):
            return mime
    if data.startswith("UklGR"):
        try:
            return RIFF.get(base64.b64decode(data[:16])[8:12], otherwise)
        except (binascii.Error, ValueError):
            return otherwise
    return otherwise


def data_url(url: str) -> tuple[str, str] | None:
    """Type and base64 of a data: URL; None for any other URL and for data that is not base64."""
    if url[:5].lower() != "data:":
        return None
    head, comma, data = url[5:].partition(",")
    if not comma or not head.lower().endswith(";base64"):
        return None
    try:
        # Decoded to be sure of it: a provider's own error would not say which part is wrong.
        if not base64.b64decode(data, validate=True):
            return None
    except (binascii.Error, ValueError):
        return None
    return head.split(";", 1)[0].lower(), data
