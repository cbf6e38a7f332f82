"""A transcript in the form that was asked for: OpenAI's JSON, its events, plain text, SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson

from gateway.audio import TRANSLATIONS, TranscriptionRequest
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken
from gateway.events import Event, Failed, RawChunks, Segment, Started, TextDelta, Transcript, Usage, Word
from gateway.surfaces.openai.encoder import frame, priced
from gateway.surfaces.openai.errors import error_object

Cost = Callable[[Usage], float | None]
DONE = "transcript.text.done"
# A line that is made of words ends after so many characters or seconds, or before a pause.
LINE_CHARACTERS = 80
LINE_SECONDS = 7.0
PAUSE_SECONDS = 0.8
# OpenAI's document wants these of every segment; a provider that has no such numbers gets none made up but these.
SEGMENT = {
    "seek": 0,
    "tokens": [],
    "temperature": 0.0,
    "avg_logprob": 0.0,
    "compression_ratio": 1.0,
    "no_speech_prob": 0.0,
}


class TranscriptEncoder:
    """One whole transcript."""

    cost: Cost | None = None

    def __init__(self, request: ChatRequest) -> None:
        assert isinstance(request, TranscriptionRequest)
        self.usage: Usage | None = None
        self._request = request
        self._transcript: Transcript | None = None
        self._who: dict[str, str] = {}

    def take(self, event: Event) -> None:
        match event:
            case Started(provider, model):
                self._who = {"model": model, "provider": provider}
            case Transcript():
                self._transcript = event
            case Usage():
                self.usage = event
            case Failed(error):
                raise error
            case _:
                pass

    def body(self) -> bytes:
        transcript, form = self._transcript, self._request.format
        if transcript is None:
            raise UpstreamBroken("The provider gave no transcript.")
        match form:
            case "text":
                return f"{transcript.text.strip()}\n".encode()
            case "srt":
                return srt(cues(transcript)).encode()
            case "vtt":
                return vtt(cues(transcript)).encode()
        return orjson.dumps(self._json(transcript))

    def _json(self, transcript: Transcript) -> dict[str, Any]:
        match self._request.format:
            case "verbose_json":
                body = verbose(self._request, transcript)
            case "diarized_json":
                body = diarized(transcript)
            case _:
                body = {"text": transcript.text}
        return with_cost({**transcript.more, **body, **self._who}, self.usage, self.cost)


def with_cost(body: dict[str, Any], usage: Usage | None, cost: Cost | None) -> dict[str, Any]:
    """The body, whose usage says what it cost where that was asked."""
    if cost is None or usage is None:
        return body
    told = body.get("usage")
    return {**body, "usage": priced(told if isinstance(told, dict) else usage_body(usage), usage, cost)}


def usage_body(usage: Usage) -> dict[str, Any]:
    """In one of the two forms that OpenAI has for transcripts; empty where nothing was counted."""
    if not usage.estimated:
        tokens = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
        return {"type": "tokens", **tokens, "total_tokens": usage.total_tokens}
    return {} if usage.audio_seconds is None else {"type": "duration", "seconds": usage.audio_seconds}


def verbose(request: TranscriptionRequest, transcript: Transcript) -> dict[str, Any]:
    spoken = "english" if request.operation == TRANSLATIONS else request.language
    body: dict[str, Any] = {
        "task": "translate" if request.operation == TRANSLATIONS else "transcribe",
        "language": transcript.language or spoken or "unknown",
        "duration": _duration(request, transcript),
        "text": transcript.text,
    }
    if "segment" in request.granularities or transcript.words is None:
        body["segments"] = [
            {"id": at, **SEGMENT, **segment.more, "start": segment.start, "end": segment.end, "text": segment.text}
            for at, segment in enumerate(cues(transcript))
        ]
    if "word" in request.granularities and transcript.words is not None:
        body["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in transcript.words]
    return body


def diarized(transcript: Transcript) -> dict[str, Any]:
    segments = [
        {**segment.more, "start": segment.start, "end": segment.end, "text": segment.text}
        for segment in transcript.segments or ()
    ]
    return {"task": "transcribe", "duration": transcript.duration or 0.0, "text": transcript.text, "segments": segments}


def _duration(request: TranscriptionRequest, transcript: Transcript) -> float:
    if transcript.duration is not None:
        return transcript.duration
    last = max((cue.end for cue in cues(transcript)), default=0.0)
    return request.seconds if request.seconds is not None else last


def cues(transcript: Transcript) -> Sequence[Segment]:
    """What was said when, in pieces that fit on a screen where only words are known."""
    if transcript.segments is not None:
        return transcript.segments
    return [_line(words) for words in _lines(transcript.words or ())]


def _lines(words: Iterable[Word]) -> Iterator[list[Word]]:
    line: list[Word] = []
    for word in words:
        if line and _is_full(line, word):
            yield line
            line = []
        line.append(word)
    if line:
        yield line


def _is_full(line: list[Word], word: Word) -> bool:
    length = sum(len(item.text) + 1 for item in line) + len(word.text)
    too_long = length > LINE_CHARACTERS or word.end - line[0].start > LINE_SECONDS
    return too_long or word.start - line[-1].end > PAUSE_SECONDS


def _line(words: Sequence[Word]) -> Segment:
    return Segment(" ".join(word.text.strip() for word in words), words[0].start, words[-1].end)


def srt(lines: Iterable[Segment]) -> str:
    return "".join(
        f"{number}\n{_clock(line.start, ',')} --> {_clock(line.end, ',')}\n{_shown(line.text)}\n\n"
        for number, line in enumerate(lines, 1)
    )


def vtt(lines: Iterable[Segment]) -> str:
    shown = (f"{_clock(line.start, '.')} --> {_clock(line.end, '.')}\n{_shown(line.text)}\n\n" for line in lines)
    return "WEBVTT\n\n" + "".join(shown)


def _shown(text: str) -> str:
    """On one line: an empty one or an arrow would end the cue or begin another."""
    return " ".join(text.split()).replace("-->", "->")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


class TranscriptStreamEncoder:
    """OpenAI's events. A provider's own pass as they are; of others they are made."""

    cost: Cost | None = None

    def __init__(self, request: ChatRequest) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self._passes = False
        self._who: dict[str, str] = {}
        # The last event, while it waits for what it is to say of its cost.
        self._last: dict[str, Any] | None = None

    def encode(self, event: Event) -> bytes:
        match event:
            case Started(provider, model):
                self._who = {"model": model, "provider": provider}
            case RawChunks(data):
                self._passes = True
                self.chunks += 1
                return data if self.cost is None else self._unless_last(data)
            case TextDelta(text):
                self.chunks += 1
                return frame({"type": "transcript.text.delta", "delta": text})
            case Transcript() if not self._passes:
                self._last = {**event.more, "type": DONE, "text": event.text, **self._who}
            case Usage():
                self.usage = event
                return self._closing()
            case Failed(error):
                return frame(error_object(error))
            case _:
                pass
        return b""

    def end(self) -> bytes:
        return self._closing()

    def _unless_last(self, data: bytes) -> bytes:
        event = orjson.loads(data.removeprefix(b"data: "))
        if event.get("type") != DONE:
            return data
        self._last = event
        return b""

    def _closing(self) -> bytes:
        last, self._last = self._last, None
        return b"" if last is None else frame(with_cost(last, self.usage, self.cost))
