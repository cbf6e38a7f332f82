"""How long recordings are by their heads, and that no head makes the reader fail or go on for ever."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.surfaces.audio.recordings import READERS, seconds_of
from tests.support.sounds import wav

FRAME = b"\xff\xfb\x90\x00" + bytes(413)  # 128 kbit/s at 44.1 kHz: 417 bytes, 1152 samples


def flac(rate: int, samples: int) -> bytes:
    packed = (rate << 44 | 15 << 36 | samples).to_bytes(8, "big")
    return b"fLaC\x00\x00\x00\x22" + bytes(10) + packed + bytes(100)


def ogg(head: bytes, samples: int) -> bytes:
    page = b"OggS\x00\x02" + struct.pack("<q", 0) + bytes(13) + head
    return page + bytes(500) + b"OggS\x00\x04" + struct.pack("<q", samples) + bytes(13) + bytes(50)


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def mp4(mvhd: bytes) -> bytes:
    head = box(b"ftyp", b"M4A \x00\x00\x00\x00")
    return head + box(b"free", bytes(20)) + box(b"mdat", bytes(99)) + box(b"moov", box(b"mvhd", mvhd) + bytes(40))


def xing(count: int) -> bytes:
    frame = b"\xff\xfb\x90\x00" + bytes(32) + b"Xing\x00\x00\x00\x03" + struct.pack(">I", count)
    return frame + bytes(417 - len(frame))


@pytest.mark.parametrize(
    ("data", "kind", "seconds"),
    [
        (wav(2.5), "audio/wav", 2.5),
        # What comes bit by bit has a head that knows no size.
        (wav(1)[:40] + b"\xff\xff\xff\xff" + wav(1)[44:], "audio/wav", 1),
        (flac(44100, 441_000), "audio/flac", 10),
        (flac(44100, 0), "audio/flac", None),
        (ogg(b"OpusHead\x01\x01" + struct.pack("<H", 312), 48_312), "audio/ogg", 1),
        (ogg(b"\x01vorbis" + bytes(5) + struct.pack("<I", 22_050), 44_100), "audio/ogg", 2),
        (ogg(b"\x7fFLAC", 44_100), "audio/ogg", None),
        (mp4(bytes(12) + struct.pack(">II", 1000, 7_500)), "audio/mp4", 7.5),
        (mp4(b"\x01" + bytes(19) + struct.pack(">IQ", 600, 6_000)), "video/mp4", 10),
        (mp4(bytes(12) + struct.pack(">II", 0, 7_500)), "video/quicktime", None),
        (FRAME * 100, "audio/mp3", 100 * 417 * 8 / 128_000),
        (b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + FRAME * 60, "audio/mp3", 60 * 417 * 8 / 128_000),
        (xing(3828) + FRAME * 9, "audio/mp3", 3828 * 1152 / 44_100),
        # Rates differ and nothing counts the frames.
        ((FRAME + b"\xff\xfb\xa0\x00" + bytes(518)) * 9, "audio/mp3", None),
        (b"\xff\xfb" + bytes(500), "audio/mp3", None),
        (bytes(100), "video/webm", None),
        (flac(1, 2**36 - 1), "audio/flac", None),
    ],
)
def test_lengths(data: bytes, kind: str, seconds: float | None) -> None:
    assert seconds_of(data, kind) == (None if seconds is None else pytest.approx(seconds, rel=0.01))


@given(data=st.binary(max_size=300), kind=st.sampled_from(sorted(READERS)), beginning=st.integers(0, 5))
def test_nonsense_is_unknown(data: bytes, kind: str, beginning: int) -> None:
    heads = (b"", wav(0.1)[:60], flac(8000, 8000)[:30], mp4(bytes(30))[:150], xing(5)[:60], ogg(b"OpusHead", 5)[:60])
    found = seconds_of(heads[beginning] + data, kind)
    assert found is None or 0 < found <= 86_400


def test_heads_that_lead_in_circles_cost_nothing() -> None:
    begun = time.process_time()
    for kind in READERS:
        seconds_of(b"\x00\x00\x00\x00free" * 2**20, kind)
        seconds_of(b"RIFF\x00\x00\x00\x00WAVE" + b"junk\x00\x00\x00\x00" * 2**20, kind)
        seconds_of(FRAME * 2**14, kind)
    assert time.process_time() - begun < 1
