"""What runs on this server itself: chats and embeddings from a GGUF file, through llama.cpp's own server; speech.

The engine speaks OpenAI's protocol; what is different is that it may still be reading its file.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

from gateway.adapters import local_speech
from gateway.adapters.calls import lacking
from gateway.adapters.openai_chat import OpenAIChatAdapter
from gateway.adapters.pictures import Drawing
from gateway.audio import SOUND_TYPES, SpeechRequest, TranscriptionRequest
from gateway.calls import CallRequest
from gateway.chat import ChatRequest
from gateway.engines import places
from gateway.engines.places import FAILING, READY
from gateway.errors import NotReady
from gateway.events import Event, Sound, Transcript, Usage
from gateway.pictures import PictureRequest
from gateway.targets import Target
from gateway.upstream import Upstream

LOADING_SECONDS = 2.0
PIECE = 64 * 1024


class LocalAdapter(OpenAIChatAdapter):
    label = "On this server"
    local = True

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        check_ready(target)
        return await super().complete(upstream, target, chat)

    def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        check_ready(target)
        return super().stream(upstream, target, chat)

    async def call(self, upstream: Upstream, target: Target, request: CallRequest) -> Sequence[Event]:
        check_ready(target, request.operation)
        return await super().call(upstream, target, request)

    async def draw(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        raise lacking(target, "pictures")

    def draw_stream(self, upstream: Upstream, target: Target, request: PictureRequest) -> AsyncGenerator[Event, None]:
        raise lacking(target, "pictures")

    async def speak(
        self, upstream: Upstream, target: Target, request: SpeechRequest
    ) -> AsyncGenerator[Sound | Usage, None]:
        data, form = await local_speech.spoken(target, request)
        for at in range(0, len(data), PIECE):
            yield Sound(data[at : at + PIECE], SOUND_TYPES[form])

    async def transcribe(self, upstream: Upstream, target: Target, request: TranscriptionRequest) -> Transcript:
        return await local_speech.heard(target, request)


class LocalCompletionsAdapter(LocalAdapter):
    """llama.cpp's legacy route."""

    path = "/completions"


LocalAdapter.completions = LocalCompletionsAdapter()


def check_ready(target: Target, what: str = "chats") -> None:
    """Raises UpstreamError while the engine cannot answer, and where there is none."""
    if not target.endpoint.base_url:
        raise lacking(target, what)
    place = places.known.get(target.provider_id)
    if place is not None and place.state == FAILING:
        raise NotReady(
            f"{target.provider} could not start its model; it is tried again.",
            code="provider_not_working",
            retry_after=max(1.0, place.retry_at - time.time()),
        )
    if place is None or place.state != READY or not target.credential:
        raise NotReady(f"{target.provider} is still loading its model.", retry_after=LOADING_SECONDS)
