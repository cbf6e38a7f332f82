"""Google's Gemini API (ai.google.dev/api): generateContent, and streamGenerateContent as server-sent events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.adapters.calls import Embedded
from gateway.adapters.gemini.answer import GeminiReader
from gateway.adapters.gemini.audio import GeminiAudio
from gateway.adapters.gemini.embeddings import embedded_texts, resource
from gateway.adapters.gemini.failures import refusal
from gateway.adapters.gemini.pictures import imagen_answer, imagen_body, is_imagen
from gateway.adapters.gemini.request import ACCEPTED, is_googles, wire_body
from gateway.adapters.inputs import inlined
from gateway.adapters.pictures import Drawing, drawn_in_chat, image_config, repeated
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import TranslatedAdapter, decoded, written
from gateway.calls import CallRequest
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken, UpstreamError
from gateway.events import Event
from gateway.pictures import PictureRequest
from gateway.targets import Target
from gateway.upstream import Reply, Upstream


class PictureSplitter(EventSplitter):
    """A picture comes whole in one event."""

    max_bytes = 48 * 1024 * 1024


class GeminiAdapter(GeminiAudio, TranslatedAdapter):
    label = "Google Gemini"
    splitter = PictureSplitter
    takes_bytes = True

    async def draw(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        if is_imagen(target.upstream_model):
            reply = await upstream.call(
                target, self.address(target, "predict"), written(target, imagen_body(target, request))
            )
            if reply.status != 200:
                raise self.failure(target, reply)
            return imagen_answer(target, request, decoded(target, reply.body))
        more = image_config(request)
        return await repeated(request, lambda _: drawn_in_chat(self, upstream, target, request, more))

    def path(self, target: Target, chat: ChatRequest) -> str:
        return self.address(target, "streamGenerateContent?alt=sse" if chat.stream else "generateContent")

    def address(self, target: Target, action: str) -> str:
        return f"/{resource(target)}:{action}"

    async def prepared(self, upstream: Upstream, target: Target, chat: ChatRequest) -> ChatRequest:
        return await inlined(chat, ACCEPTED, keep=is_googles)

    def body(self, target: Target, chat: ChatRequest) -> Mapping[str, Any]:
        return wire_body(target, chat)

    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        reader = GeminiReader(target)
        try:
            return [*reader.take("", body), *reader.end()]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise UpstreamBroken(f"{target.provider} sent an answer that cannot be read.") from None

    def reader(self, target: Target) -> GeminiReader:
        return GeminiReader(target)

    def failure(self, target: Target, reply: Reply) -> UpstreamError:
        return refusal(target, reply)

    async def embed(self, upstream: Upstream, target: Target, request: CallRequest) -> Embedded:
        return await embedded_texts(upstream, target, request)
