"""Sounds for tests, and a provider of OpenAI's audio routes in scripted answers."""

from __future__ import annotations

import io
import struct
import wave
from email import message_from_bytes, policy
from typing import Any

from tests.support.answers import Answer, Send, raw, reply_json
from tests.support.provider import Recorded

MP3 = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(range(256)) * 40
SEGMENTS: list[dict[str, Any]] = [
    {
        "id": 0, "seek": 0, "start": 0.0, "end": 2.5, "text": " Hello there.", "tokens": [50364, 2425],
        "temperature": 0.0, "avg_logprob": -0.28, "compression_ratio": 1.1, "no_speech_prob": 0.01,
    },
    {
        "id": 1, "seek": 0, "start": 3661.5, "end": 3662.25, "text": " A --> B\n\nend.", "tokens": [50364],
        "temperature": 0.0, "avg_logprob": -0.3, "compression_ratio": 1.2, "no_speech_prob": 0.02,
    },
]  # fmt: skip
WORDS = [{"word": "Hello", "start": 0.0, "end": 0.5}, {"word": "there.", "start": 0.5, "end": 2.5}]
TEXT = "Hello there. A --> B end."
VERBOSE = {"task": "transcribe", "language": "english", "duration": 3.5, "text": TEXT, "segments": SEGMENTS}
# OpenAI bills whisper-1 by the second.
BILLED = {"type": "duration", "seconds": 4}
TOKENS = {
    "type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
}  # fmt: skip


def wav(seconds: float = 0.5, rate: int = 8000) -> bytes:
    """A quiet sawtooth."""
    made = io.BytesIO()
    with wave.open(made, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(b"".join(struct.pack("<h", at % 97) for at in range(int(seconds * rate))))
    return made.getvalue()


def form_of(request: Recorded) -> tuple[dict[str, list[str]], Any]:
    """The fields of a form as it arrived, read by the standard library, and its one file."""
    head = f"content-type: {request.header('content-type')}\r\n\r\n".encode()
    fields: dict[str, list[str]] = {}
    file = None
    for part in message_from_bytes(head + request.body, policy=policy.HTTP).iter_parts():  # type: ignore[attr-defined]
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            file = part
        else:
            fields.setdefault(name, []).append(part.get_payload(decode=True).decode())
    return fields, file


def transcribing(request: Recorded) -> Answer:
    """As OpenAI's: what is answered depends on the form that is asked for."""
    fields, _ = form_of(request)
    if fields.get("response_format") == ["verbose_json"]:
        words = {"words": WORDS} if "word" in fields.get("timestamp_granularities[]", []) else {}
        return reply_json({**VERBOSE, **words, "usage": BILLED})
    return reply_json({"text": TEXT, "usage": BILLED})


def speaking(data: bytes = MP3, content_type: str = "audio/mpeg") -> Answer:
    return raw(data, content_type=content_type)


def pieces(*steps: Any, content_type: str = "audio/mpeg") -> Answer:
    """Sound that comes bit by bit, as HTTP chunks; bytes are sent, steps are done."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return Answer(head, [Send(step) if isinstance(step, bytes) else step for step in steps], chunked=True)
