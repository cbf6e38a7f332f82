"""POST /v1/audio/transcriptions and /v1/audio/translations (OpenAI API reference), also under /api/{provider}."""

from __future__ import annotations

from typing import Any

from gateway.audio import TRANSCRIPTIONS, TRANSLATIONS, TranscriptionRequest
from gateway.chat import ChatRequest
from gateway.events import Usage
from gateway.surfaces.audio.parser import FORM_BOUNDS, parse_transcription
from gateway.surfaces.audio.transcripts import TranscriptEncoder, TranscriptStreamEncoder
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.multipart import read_form
from gateway.surfaces.openai.consumer import OpenAISurface

TEXT_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
# Like OpenAI's, all of these are plain text.
TEXT_FORMS = ("text", "srt", "vtt")


class Transcriptions(OpenAISurface):
    def __init__(self, operation: str) -> None:
        self.name = self.operation = operation

    async def read(self, exchange: Exchange, parameters: dict[str, Any]) -> ChatRequest:
        chunks = exchange.chunks()
        with await read_form(exchange.scope["g4f.content_type"], chunks, FORM_BOUNDS) as form:
            request = await parse_transcription(form, self.operation, parameters.get("provider"))
        if request.format in TEXT_FORMS:
            exchange.plain_headers = TEXT_HEADERS
        return request

    def stream_encoder(self, chat: ChatRequest) -> TranscriptStreamEncoder:
        return TranscriptStreamEncoder(chat)

    def plain_encoder(self, chat: ChatRequest) -> TranscriptEncoder:
        return TranscriptEncoder(chat)

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        """The caller left: the whole recording was sent all the same."""
        assert isinstance(chat, TranscriptionRequest)
        return Usage(len(chat.prompt) // 4, chunks, estimated=True, audio_seconds=chat.seconds)


transcriptions, translations = Transcriptions(TRANSCRIPTIONS), Transcriptions(TRANSLATIONS)
