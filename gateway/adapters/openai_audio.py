"""OpenAI's audio routes: POST /audio/speech, whose answer is sound, and forms for transcripts and translations."""

from __future__ import annotations

import base64
import binascii
import math
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import orjson

from gateway.adapters.failures import from_object, from_reply
from gateway.adapters.sse import EventSplitter, EventTooLarge, payload
from gateway.audio import SOUND_TYPES, SpeechRequest, TranscriptionRequest
from gateway.chat import has_too_many_values
from gateway.errors import UpstreamBroken, UpstreamError
from gateway.events import RawChunks, Segment, Sound, TextDelta, Transcript, Usage, Word
from gateway.targets import Target
from gateway.tokens import MAX_TOKENS, carried, count, read_usage
from gateway.upstream import Reply, Upstream, UpstreamStream

# The one that OpenAI's examples have; its route wants one.
USUAL_VOICE = "alloy"
MAX_REFUSAL_BYTES = 64 * 1024
MAX_TRANSCRIPT_BYTES = 32 * 1024 * 1024
# Forms that say times are made here, so that one answer of the provider's is enough for all, with its usage.
SENT_FORMS = {"text": "json", "srt": "verbose_json", "vtt": "verbose_json"}
READ = frozenset(("text", "task", "language", "duration", "segments", "words", "model", "provider"))
# A day; more is nonsense.
MAX_SECONDS = 86_400.0
JSON = "application/json"


class OpenAIAudio:
    """For adapters whose providers have these routes, below `audio_path`."""

    audio_path = "/audio"

    async def speak(
        self, upstream: Upstream, target: Target, request: SpeechRequest
    ) -> AsyncGenerator[Sound | Usage, None]:
        sent = {"voice": USUAL_VOICE, **request.body, "model": target.upstream_model}
        path = f"{self.audio_path}/speech"
        stream = await upstream.open_stream(target, path, orjson.dumps(sent), JSON, accept="*/*")
        if isinstance(stream, Reply):
            raise from_reply(target, stream)
        async for event in sounded(target, stream, SOUND_TYPES[request.format or "mp3"]):
            yield event

    async def transcribe(self, upstream: Upstream, target: Target, request: TranscriptionRequest) -> Transcript:
        kind, body = form(target, request)
        return read_transcript(target, await upstream.call(target, self._path(request), body, kind))

    async def transcribe_stream(
        self, upstream: Upstream, target: Target, request: TranscriptionRequest
    ) -> AsyncGenerator[TextDelta | RawChunks | Transcript, None]:
        kind, body = form(target, request)
        stream = await upstream.open_stream(target, self._path(request), body, kind)
        if isinstance(stream, Reply):
            raise from_reply(target, stream)
        if is_events(stream):
            async for event in passed(target, stream):
                yield event
            return
        # Some models know no streams and answer as if none had been asked for.
        transcript = read_transcript(target, Reply(200, (), await whole(target, stream, MAX_TRANSCRIPT_BYTES)))
        yield TextDelta(transcript.text)
        yield transcript

    def _path(self, request: TranscriptionRequest) -> str:
        return f"{self.audio_path}/{request.operation}"


def is_events(stream: UpstreamStream) -> bool:
    return _kind(stream) == "text/event-stream"


def _kind(stream: UpstreamStream) -> str:
    return (stream.header(b"content-type") or "").partition(";")[0].strip().lower()


async def sounded(target: Target, stream: UpstreamStream, usual: str) -> AsyncGenerator[Sound | Usage, None]:
    """The bytes of an open answer as they come. `usual` is their type where the provider names none.

    Raises UpstreamError, also for an error that came with status 200.
    """
    kind = _kind(stream)
    if kind == "text/event-stream":
        async for event in _sound_events(target, stream, usual):
            yield event
        return
    if kind == JSON or kind.startswith("text/"):
        raise refusal(target, await whole(target, stream, MAX_REFUSAL_BYTES))
    mime_type = kind if kind.startswith("audio/") else usual
    try:
        while data := await stream.read():
            stream.heard()
            yield Sound(data, mime_type)
    except BaseException:
        stream.close()
        raise
    stream.finish()


async def whole(target: Target, stream: UpstreamStream, most: int) -> bytes:
    """All of an open answer. Raises UpstreamError, also when it has more than `most` bytes."""
    found = bytearray()
    try:
        while data := await stream.read():
            stream.heard()
            found += data
            if len(found) > most:
                raise UpstreamBroken(f"{target.provider} sent an answer that is too large.")
    except BaseException:
        stream.close()
        raise
    stream.finish()
    return bytes(found)


def refusal(target: Target, body: bytes) -> UpstreamError:
    """The error in an answer that should have been sound."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict) and found.get("error"):
        return from_object(target, found["error"])
    return UpstreamBroken(f"{target.provider} sent an answer that is no sound.")


async def _events(target: Target, stream: UpstreamStream) -> AsyncGenerator[tuple[bytes, dict[str, Any]], None]:
    """Each event of a stream: its data as it came, and decoded. Raises UpstreamError."""
    splitter = EventSplitter()
    try:
        ended = False
        while not ended:
            data = await stream.read()
            ended = not data
            for event in splitter.feed(data) if data else splitter.end():
                sent = payload(event)[1]
                if sent.startswith(b"[DONE]"):
                    ended = True
                    break
                if sent:
                    decoded = _decoded(target, sent)
                    stream.heard()
                    yield sent, decoded
    except EventTooLarge:
        stream.close()
        raise UpstreamBroken(f"{target.provider} sent an event that is too large.") from None
    except BaseException:
        stream.close()
        raise
    stream.finish()


def _decoded(target: Target, data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UpstreamBroken(f"{target.provider} sent an event that is not JSON.") from None
    if not isinstance(body, dict):
        raise UpstreamBroken(f"{target.provider} sent an event that is not an object.")
    if body.get("error"):
        raise from_object(target, body["error"])
    return body


async def _sound_events(target: Target, stream: UpstreamStream, mime_type: str) -> AsyncGenerator[Sound | Usage, None]:
    """`stream_format: sse`: pieces in base64, then what they cost."""
    over = False
    async for _, event in _events(target, stream):
        if event.get("type") == "speech.audio.delta":
            yield Sound(_base64(target, event.get("audio")), mime_type)
        elif event.get("type") == "speech.audio.done":
            over = True
            usage = read_tokens(event.get("usage"))
            if usage is not None:
                yield usage
    if not over:
        raise UpstreamBroken(f"{target.provider} broke off its answer.")


def _base64(target: Target, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UpstreamBroken(f"{target.provider} sent sound that cannot be read.") from None


async def passed(target: Target, stream: UpstreamStream) -> AsyncGenerator[RawChunks | Transcript, None]:
    """The events of a transcript as they came, and the transcript of the last one."""
    over = False
    async for data, event in _events(target, stream):
        lines = data.replace(b"\n", b"")
        yield RawChunks(b"data: " + lines + b"\n\n")
        if event.get("type") == "transcript.text.done":
            over = True
            yield _transcript(target, {"text": event.get("text")}, read_tokens(event.get("usage")), event.get("usage"))
    if not over:
        raise UpstreamBroken(f"{target.provider} broke off its answer.")


def form(target: Target, request: TranscriptionRequest) -> tuple[str, bytes]:
    """The request as multipart/form-data (RFC 7578): its Content-Type, and the body.

    The boundary is made for this request alone, so that nothing in it can have known it.
    """
    boundary = f"g4fsite-{os.urandom(18).hex()}"
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode() + value.encode() + b"\r\n"
        for name, value in fields(target, request)
    ]
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{request.file_name}"\r\n'
        f"content-type: {request.content_type}\r\n\r\n"
    )
    body = b"".join([*parts, head.encode(), request.sound, f"\r\n--{boundary}--\r\n".encode()])
    return f"multipart/form-data; boundary={boundary}", body


def fields(target: Target, request: TranscriptionRequest) -> Iterator[tuple[str, str]]:
    """What stands beside the file; names were checked by the parser."""
    yield "model", target.upstream_model
    sent = dict(request.body)
    if "response_format" in sent:
        sent["response_format"] = SENT_FORMS.get(request.format, request.format)
    for name, value in sent.items():
        if isinstance(value, list):
            yield from ((f"{name}[]", _said(item)) for item in value)
        else:
            yield name, _said(value)
    if request.stream:
        yield "stream", "true"


def _said(value: Any) -> str:
    """As the text of a form."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else orjson.dumps(value).decode()


def read_transcript(target: Target, reply: Reply) -> Transcript:
    """Raises UpstreamError unless the answer is one."""
    if reply.status != 200:
        raise from_reply(target, reply)
    if has_too_many_values(reply.body):
        raise UpstreamBroken(f"{target.provider} sent an answer with too many values.")
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        raise UpstreamBroken(f"{target.provider} sent an answer that is not JSON.") from None
    if not isinstance(body, dict):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not an object.")
    if body.get("error"):
        raise from_object(target, body["error"])
    return transcript_of(target, body)


def transcript_of(target: Target, body: Mapping[str, Any]) -> Transcript:
    """Raises UpstreamBroken, with the tokens that were counted all the same."""
    usage = read_tokens(body.get("usage"))
    try:
        return _transcript(target, body, usage, body.get("usage"))
    except UpstreamBroken as error:
        carried(error, [usage] if usage is not None else [])
        raise


def _transcript(target: Target, body: Mapping[str, Any], usage: Usage | None, told: Any) -> Transcript:
    text, language = body.get("text"), body.get("language")
    if not isinstance(text, str):
        raise UpstreamBroken(f"{target.provider} sent an answer that is no transcript.")
    try:
        segments, words = _segments(body.get("segments")), _words(body.get("words"))
    except (KeyError, TypeError, ValueError):
        raise UpstreamBroken(f"{target.provider} sent a transcript whose times cannot be read.") from None
    duration = _seconds(body.get("duration"))
    if usage is None and duration is None:
        duration = _billed(told)
    return Transcript(
        text,
        language if isinstance(language, str) else None,
        duration,
        segments,
        words,
        usage,
        {name: value for name, value in body.items() if name not in READ and value is not None},
    )


def _segments(found: Any) -> list[Segment] | None:
    """Raises KeyError, TypeError or ValueError."""
    if not isinstance(found, list):
        return None
    return [Segment(_text(item["text"]), _time(item["start"]), _time(item["end"]), item) for item in found]


def _words(found: Any) -> list[Word] | None:
    if not isinstance(found, list):
        return None
    return [Word(_text(item["word"]), _time(item["start"]), _time(item["end"])) for item in found]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _time(value: Any) -> float:
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError
    return seconds


def _seconds(value: Any) -> float | None:
    """A number, or the text of one, as OpenAI's older answers have it."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= MAX_SECONDS else None


def _billed(usage: Any) -> float | None:
    return _seconds(usage.get("seconds")) if isinstance(usage, dict) and usage.get("type") == "duration" else None


def read_tokens(value: Any) -> Usage | None:
    """The tokens of the audio routes (`input_tokens`), or of the others; None where it holds none."""
    if not isinstance(value, dict):
        return None
    given, made = count(value.get("input_tokens")), count(value.get("output_tokens"))
    if given is None and made is None:
        return read_usage(value)
    return Usage(min(given or 0, MAX_TOKENS), min(made or 0, MAX_TOKENS))
