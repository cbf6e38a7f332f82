"""POST /v1/audio/transcriptions and /v1/audio/translations (OpenAI API reference), also under /api/{provider}."""

from __future__ import annotations

from typing import Any

from gateway.audio import TRANSCRIPTIONS, TRANSLATIONS, TranscriptionRequest
from gateway.authentication import Principal, authenticate_scope
from gateway.chat import ChatRequest
from gateway.events import Usage
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.audio import documents
from gateway.surfaces.audio.parser import FORM_BOUNDS, TEXT_FORMS, parse_transcription
from gateway.surfaces.audio.transcripts import TranscriptEncoder, TranscriptStreamEncoder
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.multipart import Form, read_form
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.pipeline import JSON_HEADERS
from gateway.usage import Tally

TEXT_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


class Transcriptions(OpenAISurface):
    def __init__(self, operation: str) -> None:
        self.name = self.operation = operation

    async def _ask(self, exchange: Exchange) -> None:
        scope = exchange.scope
        principal = await authenticate_scope(scope)
        parameters = scope["url_route"]["kwargs"]
        with await read_form(scope["g4f.content_type"], exchange.chunks(), FORM_BOUNDS) as form:
            if self.operation == TRANSCRIPTIONS and documents.is_asked(documents.provider_of(form, parameters)):
                await self._convert(exchange, principal, form)
                return
            request = await parse_transcription(form, self.operation, parameters.get("provider"))
        if request.format in TEXT_FORMS:
            exchange.plain_headers = TEXT_HEADERS
        targets = targets_of(store.current, request, principal, self.operation)
        door = "api." if scope["path"].startswith("/api/") else "v1."
        tally = Tally(scope["g4f.request_id"], principal, request, door + self.name)
        await self._serve(exchange, principal, request, targets, tally)

    async def _convert(self, exchange: Exchange, principal: Principal, form: Form) -> None:
        answer, wanted = await documents.converted(exchange, principal, form)
        headers = TEXT_HEADERS if wanted == "text" else JSON_HEADERS
        await exchange.reply(200, [*headers, *exchange.limit_headers], documents.told(answer, wanted))

    def stream_encoder(self, chat: ChatRequest) -> TranscriptStreamEncoder:
        return TranscriptStreamEncoder(chat)

    def plain_encoder(self, chat: ChatRequest) -> TranscriptEncoder:
        return TranscriptEncoder(chat)

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        """The caller left: the whole recording was sent all the same."""
        assert isinstance(chat, TranscriptionRequest)
        length: dict[str, Any] = {"audio_seconds": chat.seconds, "unmeasured": chat.seconds is None}
        return Usage(len(chat.prompt) // 4, chunks, estimated=True, **length)


transcriptions, translations = Transcriptions(TRANSCRIPTIONS), Transcriptions(TRANSLATIONS)
