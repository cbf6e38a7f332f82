"""What adapters may do beside chat: speak a text, and write down what a recording says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from gateway.adapters.base import Adapter
from gateway.adapters.calls import lacking
from gateway.audio import SPEECH, TIMED, SpeechRequest, TranscriptionRequest, heard, spoken
from gateway.chat import ChatRequest
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamError
from gateway.events import Event, Sound, TextDelta, Transcript, Usage
from gateway.targets import Target
from gateway.tokens import carried
from gateway.upstream import Upstream


class Speaking(Protocol):
    """An adapter whose protocol has speech."""

    def speak(self, upstream: Upstream, target: Target, request: SpeechRequest) -> AsyncGenerator[Sound | Usage, None]:
        """The sound as it comes, then tokens where the provider counts any. Characters are counted elsewhere.

        Raises UpstreamError; UnsupportedParameter, before anything is sent, for what cannot be said: a
        `response_format`, a `speed`.
        """


class Transcribing(Protocol):
    """An adapter whose protocol takes recordings."""

    async def transcribe(self, upstream: Upstream, target: Target, request: TranscriptionRequest) -> Transcript:
        """The whole text. `request.operation` says whether it is to be in English. Segments and words are filled
        where they are known, whatever form was asked for. Raises UpstreamError."""


class TranscribingPiecewise(Protocol):
    """An adapter that can also give the text as it is heard."""

    def transcribe_stream(
        self, upstream: Upstream, target: Target, request: TranscriptionRequest
    ) -> AsyncGenerator[TextDelta | Transcript, None]:
        """Pieces of the text, then all of it. Raises UpstreamError."""


class Audio:
    """An adapter's answers to requests for sound, in the place of its chats."""

    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter: Any = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        assert isinstance(chat, TranscriptionRequest)
        transcript = await self._transcribing(target, chat).transcribe(upstream, target, chat)
        usage = heard(chat, transcript)
        try:
            return timed(target, chat, transcript), usage
        except UpstreamError as error:
            carried(error, [usage])
            raise

    def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        if isinstance(chat, SpeechRequest):
            return self._speech(upstream, target, chat)
        assert isinstance(chat, TranscriptionRequest)
        return self._pieces(upstream, target, chat)

    async def _speech(self, upstream: Upstream, target: Target, request: SpeechRequest) -> AsyncGenerator[Event, None]:
        if not hasattr(self._adapter, "speak"):
            raise lacking(target, SPEECH)
        speaking: Speaking = self._adapter
        usage: Usage | None = None
        silent = True
        async with aclosing(speaking.speak(upstream, target, request)) as events:
            async for event in events:
                if isinstance(event, Usage):
                    usage = event
                elif event.data:
                    silent = False
                    yield event
        if silent:
            error = UpstreamBroken(f"{target.provider} gave no sound.")
            error.usage = None if usage is None else spoken(request, usage)
            raise error
        yield spoken(request, usage)

    async def _pieces(
        self, upstream: Upstream, target: Target, request: TranscriptionRequest
    ) -> AsyncGenerator[Event, None]:
        transcribing = self._transcribing(target, request)
        if not hasattr(transcribing, "transcribe_stream"):
            transcript = await transcribing.transcribe(upstream, target, request)
            yield TextDelta(transcript.text)
            yield transcript
            yield heard(request, transcript)
            return
        piecewise: TranscribingPiecewise = transcribing
        async with aclosing(piecewise.transcribe_stream(upstream, target, request)) as events:
            async for event in events:
                yield event
                if isinstance(event, Transcript):
                    yield heard(request, event)

    def _transcribing(self, target: Target, request: TranscriptionRequest) -> Any:
        if not hasattr(self._adapter, "transcribe"):
            raise lacking(target, request.operation)
        return self._adapter


def timed(target: Target, request: TranscriptionRequest, transcript: Transcript) -> Transcript:
    """Raises UnsupportedParameter where the form that was asked for says times, and none are known."""
    if request.format in TIMED and transcript.segments is None and transcript.words is None:
        raise UnsupportedParameter(
            target.provider, "response_format", "its transcripts do not say when things were said."
        )
    words_asked = request.format == "verbose_json" and "word" in request.granularities
    if words_asked and transcript.words is None:
        raise UnsupportedParameter(target.provider, "timestamp_granularities", "it does not say when words were said.")
    return transcript
