"""How long a recording is, as far as its head or its last page says so. Nothing is decoded.

What strangers send is read here, so every loop is bounded and what makes no sense is unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

CHUNKS_READ = 64
BOXES_READ = 10_000
LAST_PAGE_BYTES = 128 * 1024
FRAMES_READ = 50
LONGEST = 86_400.0

# Kilobits a second by index, of layer III: MPEG 1, then MPEG 2 and 2.5.
MP3_RATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MP3_SAMPLES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def seconds_of(data: bytes, kind: str) -> float | None:
    """None where it could be told only by decoding the sound, or where the head is nonsense."""
    reader = READERS.get(kind)
    try:
        seconds = reader(data) if reader else None
    except (struct.error, IndexError, ZeroDivisionError):
        return None
    return seconds if seconds is not None and 0 < seconds <= LONGEST else None


def _wav(data: bytes) -> float | None:
    """RIFF: the bytes of the data chunk by the bytes of a second (Microsoft's Multimedia Programming Interface)."""
    at, per_second = 12, 0
    for _ in range(CHUNKS_READ):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"fmt ":
            (per_second,) = struct.unpack_from("<I", data, at + 16)
        elif name == b"data":
            # A stream's head gives no true size.
            return float(min(size, len(data) - at - 8) / per_second)
        at += 8 + size + (size & 1)
    return None


def _flac(data: bytes) -> float | None:
    """STREAMINFO: 20 bits of rate, 8 of other things, 36 of samples (RFC 9639, section 8.2)."""
    packed = int.from_bytes(data[18:26], "big")
    rate, samples = packed >> 44, packed & (2**36 - 1)
    return samples / rate if samples else None


def _ogg(data: bytes) -> float | None:
    """The last page's granule position by the rate in the first packet (RFC 3533, RFC 7845, Vorbis I)."""
    last = data.rfind(b"OggS", max(0, len(data) - LAST_PAGE_BYTES))
    (samples,) = struct.unpack_from("<q", data, last + 6)
    head = data[:100]
    if (at := head.find(b"OpusHead")) >= 0:
        (skipped,) = struct.unpack_from("<H", head, at + 10)
        return float((samples - skipped) / 48_000)
    if (at := head.find(b"\x01vorbis")) >= 0:
        return float(samples / struct.unpack_from("<I", head, at + 12)[0])
    return None


def _mp4(data: bytes) -> float | None:
    """`mvhd` inside of `moov`: how many units of a second's parts (ISO 14496-12, section 8.2.2)."""
    at, end = 0, len(data)
    for _ in range(BOXES_READ):
        if at + 8 > end:
            return None
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"mvhd":
            long = data[at + 8] == 1
            scale, units = struct.unpack_from(">IQ" if long else ">II", data, at + (28 if long else 20))
            return float(units / scale)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        # Into `moov`, past everything else.
        at += 8 if name == b"moov" else max(size, 8)
    return None


def _mp3(data: bytes) -> float | None:
    """The count of frames in the first one (Xing, Info), else the size by the rate that the first frames share."""
    at = 0
    if data[:3] == b"ID3":
        at = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
    first = at
    rates = set()
    for _ in range(FRAMES_READ):
        frame = _mp3_frame(data, at)
        if frame is None:
            break
        size, rate, samples, per_second = frame
        if at == first and (count := _mp3_count(data[at : at + 200])):
            return count * samples / per_second
        rates.add(rate)
        at += size
    return (len(data) - first) * 8 / (rates.pop() * 1000) if len(rates) == 1 else None


def _mp3_frame(data: bytes, at: int) -> tuple[int, int, int, int] | None:
    """Bytes, kilobits a second, samples, and samples a second; None where no frame of layer III begins."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, bits = data[at + 1] >> 3 & 3, data[at + 2]
    if version == 1 or bits >> 4 in (0, 15) or bits >> 2 & 3 == 3:
        return None
    rate, per_second = MP3_RATES[version != 3][bits >> 4], MP3_SAMPLES[version][bits >> 2 & 3]
    samples = 1152 if version == 3 else 576
    return samples * rate * 125 // per_second + (bits >> 1 & 1), rate, samples, per_second


def _mp3_count(frame: bytes) -> int:
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or not frame[at + 7] & 1:
        return 0
    return int.from_bytes(frame[at + 8 : at + 12], "big")


READERS: dict[str, Callable[[bytes], float | None]] = {
    "audio/wav": _wav,
    "audio/flac": _flac,
    "audio/ogg": _ogg,
    "audio/mp3": _mp3,
    "audio/mp4": _mp4,
    "video/mp4": _mp4,
    "video/quicktime": _mp4,
}
