"""What bytes are taken for."""

from __future__ import annotations

import pytest

from media.kinds import kind_of, settled


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"RIFF\x00\x00\x00\x00junk", None),
        (b"\x00\x00\x00\x18ftypheic", "image/heic"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"\x1aE\xdf\xa3....webm", "video/webm"),
        (b"\x1aE\xdf\xa3....matroska", "video/x-matroska"),
        (b"ID3\x04", "audio/mp3"),
        (b"\xff\xfb\x90\x00", "audio/mp3"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"OggS\x00", "audio/ogg"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04\x14\x00", "application/zip"),
        ("grüße".encode(), "text/plain"),
        (b"<svg/>", "text/plain"),
        (b"a\x00b", None),
        (b"\xc3\x28", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_kind_is_read_from_the_bytes(data: bytes, kind: str | None) -> None:
    assert kind_of(data) == kind


def test_a_declared_type_only_tells_texts_apart() -> None:
    assert settled(b"# title", "text/markdown; charset=utf-8") == "text/markdown"
    assert settled(b"{}", "application/json") == "application/json"
    assert settled(b"<svg/>", "image/svg+xml") == "text/plain"
    assert settled(b"%PDF-1.7", "text/plain") == "application/pdf"
