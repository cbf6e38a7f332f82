"""Gemini's speech and its ear: generateContent that answers with sound, and that is given a recording.

Google's documentation, "Speech generation" and "Audio understanding". Speech comes whole, as bare samples.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from gateway.adapters.translated import decoded, written
from gateway.audio import TIMED, TRANSLATIONS, SpeechRequest, TranscriptionRequest, heard, spoken
from gateway.errors import ContentRefused, UnsupportedParameter, UpstreamBroken, UpstreamError
from gateway.events import Event, Finished, MediaOutput, Sound, TextDelta, Transcript, Usage
from gateway.targets import Target
from gateway.tokens import carried
from gateway.upstream import Reply, Upstream

# What callers of OpenAI's voices get: for each one of Gemini's, always the same.
VOICES = {
    "alloy": "Kore",
    "ash": "Charon",
    "ballad": "Enceladus",
    "cedar": "Algieba",
    "coral": "Aoede",
    "echo": "Iapetus",
    "fable": "Puck",
    "marin": "Sulafat",
    "nova": "Leda",
    "onyx": "Orus",
    "sage": "Despina",
    "shimmer": "Zephyr",
    "verse": "Fenrir",
}
USUAL_VOICE = "Kore"
RATE = re.compile(r"rate=(\d{4,6})")
USUAL_RATE = 24_000
PIECE_BYTES = 64 * 1024
WRITE_DOWN = (
    "Write down exactly what is said in this recording, in the language that is spoken{language}. "
    "Answer with the words alone: no comment, no times, no names of speakers. If nothing is said, answer nothing."
)
TRANSLATE = (
    "Write down in English what is said in this recording. "
    "Answer with the translation alone: no comment, no times, no names of speakers. If nothing is said, answer nothing."
)


class GeminiAudio:
    """For the adapter, which says where models are and reads answers."""

    async def speak(
        self, upstream: Upstream, target: Target, request: SpeechRequest
    ) -> AsyncGenerator[Sound | Usage, None]:
        body = speech_body(target, request)
        events = await self._generated(upstream, target, body)
        usage = _used(events)
        sounds = [event for event in events if isinstance(event, MediaOutput) and event.mime_type.startswith("audio/")]
        try:
            if not sounds:
                raise _silence(target, events)
            found = as_asked(target, request, sounds)
        except UpstreamError as error:
            carried(error, [spoken(request, part) for part in usage])
            raise
        for mime_type, data in found:
            for at in range(0, len(data), PIECE_BYTES):
                yield Sound(data[at : at + PIECE_BYTES], mime_type)
        for part in usage:
            yield part

    async def transcribe(self, upstream: Upstream, target: Target, request: TranscriptionRequest) -> Transcript:
        events = await self._generated(upstream, target, recording_body(target, request))
        text = "".join(event.text for event in events if isinstance(event, TextDelta)).strip()
        transcript = Transcript(text, usage=next(iter(_used(events)), None))
        error: UpstreamError | None = None
        if not text and _is_refused(events):
            error = _silence(target, events)
        elif _ended(events, "length"):
            # What is missing cannot be told from the text.
            error = UpstreamBroken(f"{target.provider} wrote down a part of the recording only: it is too long for it.")
        if error is not None:
            if transcript.usage is not None:
                error.usage = heard(request, transcript)
            raise error
        return transcript

    async def _generated(self, upstream: Upstream, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        reply = await upstream.call(target, self.address(target, "generateContent"), written(target, body))
        if reply.status != 200:
            raise self.failure(target, reply)
        return self.answer(target, decoded(target, reply.body))

    def address(self, target: Target, action: str) -> str:
        raise NotImplementedError

    def failure(self, target: Target, reply: Reply) -> UpstreamError:
        raise NotImplementedError

    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        raise NotImplementedError


def _used(events: Sequence[Event]) -> list[Usage]:
    return [event for event in events if isinstance(event, Usage)]


def _is_refused(events: Sequence[Event]) -> bool:
    return _ended(events, "content_filter")


def _ended(events: Sequence[Event], reason: str) -> bool:
    return any(isinstance(event, Finished) and event.reason == reason for event in events)


def _silence(target: Target, events: Sequence[Event]) -> UpstreamError:
    if _is_refused(events):
        return ContentRefused(f"{target.provider} refused the request by its content policy.")
    return UpstreamBroken(f"{target.provider} sent an answer without sound.")


def speech_body(target: Target, request: SpeechRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter."""
    if request.format not in (None, "wav", "pcm"):
        raise UnsupportedParameter(target.provider, "response_format", "it speaks as wav or pcm.")
    if request.speed != 1:
        raise UnsupportedParameter(target.provider, "speed", "say in 'instructions' how fast to speak.")
    voice = VOICES.get(request.voice.lower(), request.voice) or USUAL_VOICE
    said = f"{request.instructions}:\n{request.text}" if request.instructions else request.text
    speech: dict[str, Any] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    if request.language:
        speech["languageCode"] = request.language
    return {
        "contents": [{"role": "user", "parts": [{"text": said}]}],
        "generationConfig": {"responseModalities": ["AUDIO"], "speechConfig": speech},
    }


def as_asked(target: Target, request: SpeechRequest, sounds: Sequence[MediaOutput]) -> Sequence[tuple[str, bytes]]:
    """The sound, with a head of RIFF where the provider's has none and bare samples were not asked for."""
    try:
        data = b"".join(base64.b64decode(sound.data, validate=True) for sound in sounds)
    except (ValueError, binascii.Error):
        raise UpstreamBroken(f"{target.provider} sent sound that cannot be read.") from None
    if not data:
        raise _silence(target, ())
    kind = sounds[0].mime_type.lower()
    if not kind.startswith(("audio/l16", "audio/pcm")):
        return [(kind.partition(";")[0].strip(), data)]
    if request.format == "pcm":
        return [("audio/pcm", data)]
    found = RATE.search(kind)
    return [("audio/wav", wav_head(len(data), int(found[1]) if found else USUAL_RATE) + data)]


def wav_head(size: int, rate: int) -> bytes:
    """Before so many bytes of one channel of 16-bit samples."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size
    )


def recording_body(target: Target, request: TranscriptionRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter."""
    if request.format in TIMED or request.format == "diarized_json":
        raise UnsupportedParameter(
            target.provider, "response_format", "its transcripts do not say when things were said."
        )
    if request.operation == TRANSLATIONS:
        wanted = TRANSLATE
    else:
        wanted = WRITE_DOWN.format(language=f", which is {request.language!r}" if request.language else "")
    if request.prompt:
        wanted += f"\nThis helps to understand it: {request.prompt}"
    sound = {"mimeType": request.content_type, "data": base64.b64encode(request.sound).decode()}
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"inlineData": sound}, {"text": wanted}]}]}
    if request.body.get("temperature") is not None:
        body["generationConfig"] = {"temperature": request.body["temperature"]}
    return body
