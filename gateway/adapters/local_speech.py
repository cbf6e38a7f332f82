"""Speech by espeak-ng and its recognition by pocketsphinx on this server: what OpenAI's fields mean to them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.audio import TRANSLATIONS, SpeechRequest, TranscriptionRequest
from gateway.engines import voices
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamRejected, UpstreamTimeout
from gateway.events import Segment, Transcript, Word
from gateway.targets import Target

FORMATS = ("mp3", "opus", "flac", "wav", "pcm")
READABLE = frozenset(("audio/wav", "audio/mp3", "audio/ogg", "audio/flac", "audio/aiff"))
# espeak-ng speaks 80 to 450 words a minute, usually 175.
SLOWEST, FASTEST = 0.46, 2.57
ENGLISH = "it knows English only."
USUAL_LANGUAGE = "en-us"
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,3}\Z")
VOICE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,3}(?:\+[A-Za-z0-9_]{1,32})?\Z")
# OpenAI's names, which its clients always send, as variants of a language's voice.
VARIANTS = {
    "alloy": "",
    "ash": "m3",
    "ballad": "m4",
    "cedar": "m7",
    "coral": "f1",
    "echo": "m1",
    "fable": "m5",
    "marin": "f2",
    "nova": "f3",
    "onyx": "m2",
    "sage": "f4",
    "shimmer": "f5",
    "verse": "m6",
}
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def voice_of(target: Target, request: SpeechRequest) -> str:
    """espeak-ng's `LANGUAGE` or `LANGUAGE+VARIANT`. Raises UnsupportedParameter."""
    language = request.language or USUAL_LANGUAGE
    if not LANGUAGE.match(language):
        raise UnsupportedParameter(target.provider, "language", "a code such as de or pt-BR is expected.")
    if request.voice.lower() in ("", *VARIANTS):
        variant = VARIANTS.get(request.voice.lower(), "")
        return f"{language}+{variant}" if variant else language
    if not VOICE.match(request.voice):
        known = ", ".join(VARIANTS)
        raise UnsupportedParameter(target.provider, "voice", f"there are {known}, and languages such as de or fr+f2.")
    return request.voice


async def spoken(target: Target, request: SpeechRequest) -> tuple[bytes, str]:
    """The sound and its format. Raises UpstreamError."""
    form = request.format or "mp3"
    if form not in FORMATS:
        raise UnsupportedParameter(target.provider, "response_format", f"it gives {', '.join(FORMATS)}.")
    if not SLOWEST <= request.speed <= FASTEST:
        raise UnsupportedParameter(target.provider, "speed", f"it speaks at {SLOWEST} to {FASTEST}.")
    text = CONTROL.sub(" ", request.text)
    wanted = {"do": "speak", "text": text, "voice": voice_of(target, request), "speed": request.speed, "format": form}
    return await _run(target, wanted), form


async def heard(target: Target, request: TranscriptionRequest) -> Transcript:
    """Raises UpstreamError."""
    if request.content_type not in READABLE:
        raise UpstreamRejected(f"{target.provider} reads wav, mp3, ogg, flac and aiff only.", param="file")
    if request.language and request.language.lower().partition("-")[0] not in ("en", "english"):
        # In English there is nothing to translate: the transcript is the translation, as at OpenAI.
        only = "it translates nothing, it only writes down English." if request.operation == TRANSLATIONS else ENGLISH
        raise UnsupportedParameter(target.provider, "language", only)
    found = orjson.loads(await _run(target, {"do": "listen"}, request.sound))
    segments = [Segment(item["text"], item["start"], item["end"]) for item in found["segments"]]
    words = [Word(item["text"], item["start"], item["end"]) for item in found["words"]]
    text = " ".join(segment.text for segment in segments)
    return Transcript(text, "english", found["duration"], segments, words)


async def _run(target: Target, wanted: Mapping[str, Any], data: bytes = b"") -> bytes:
    try:
        async with asyncio.timeout(target.endpoint.timeouts.total):
            return await voices.run(wanted, data)
    except TimeoutError:
        raise UpstreamTimeout(f"{target.provider} did not finish in time.") from None
    except voices.Refused as refusal:
        raise UpstreamRejected(f"{target.provider}: {refusal}", param=refusal.param) from None
    except (voices.Broken, OSError):
        raise UpstreamBroken(f"{target.provider} failed, or its libraries are not installed.") from None
