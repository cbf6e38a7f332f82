"""Which adapter serves a request that its protocol does not take as it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from gateway.adapters.audio import Audio
from gateway.adapters.base import Adapter
from gateway.adapters.calls import Calls
from gateway.adapters.over_chat import OverChat
from gateway.adapters.pictures import Pictures
from gateway.audio import SpeechRequest, TranscriptionRequest
from gateway.calls import CallRequest
from gateway.chat import ChatRequest
from gateway.completions import CompletionRequest
from gateway.emulation import emulated
from gateway.events import Event
from gateway.media_parts import with_media
from gateway.pictures import PictureRequest
from gateway.targets import Target
from gateway.upstream import Upstream


def adapted(adapter: Adapter, target: Target, chat: ChatRequest) -> Adapter:
    """For requests or targets that are not `plain`; all others go to their adapter directly."""
    if isinstance(chat, CallRequest):
        return Calls(adapter)
    if isinstance(chat, PictureRequest):
        return Pictures(adapter)
    if isinstance(chat, (SpeechRequest, TranscriptionRequest)):
        return Audio(adapter)
    if isinstance(chat, CompletionRequest):
        native: Adapter | None = getattr(adapter, "completions", None)
        return (
            Native(native) if target.completions and native is not None else OverChat(emulated(adapter, target, chat))
        )
    return with_media(emulated(adapter, target, chat), target, chat)


class Native:
    """Sends a legacy completion as it came."""

    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        assert isinstance(chat, CompletionRequest)
        return await self._adapter.complete(upstream, target, chat.as_sent())

    def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        assert isinstance(chat, CompletionRequest)
        return self._adapter.stream(upstream, target, chat.as_sent())
