"""How long a recording is, where its head says so."""

from __future__ import annotations

import struct

CHUNKS_READ = 64


def seconds_of(data: bytes, kind: str) -> float | None:
    """None where it could be told only by decoding the sound."""
    return _wav(data) if kind == "audio/wav" else None


def _wav(data: bytes) -> float | None:
    """RIFF: the bytes of the data chunk by the bytes of a second (Microsoft's Multimedia Programming Interface)."""
    at, per_second = 12, 0
    for _ in range(CHUNKS_READ):
        if at + 8 > len(data):
            return None
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"fmt " and size >= 16 and at + 24 <= len(data):
            (per_second,) = struct.unpack_from("<I", data, at + 16)
        elif name == b"data":
            # A stream's head gives no true size.
            return min(size, len(data) - at - 8) / per_second if per_second else None
        at += 8 + size + (size & 1)
    return None
