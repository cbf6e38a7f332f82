"""POST /v1/audio/speech and /api/{provider}/audio/speech (OpenAI API reference, "Create speech").

The answer is the sound as it comes: no byte of ours is between the provider's.
"""

from __future__ import annotations

import base64
import re
from contextlib import aclosing
from typing import Any

from gateway.answer_cache import Source
from gateway.audio import SPEECH, SpeechRequest, spoken
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import GatewayError
from gateway.events import Event, Failed, Sound, Usage
from gateway.surfaces.audio.parser import parse_speech
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import frame, priced
from gateway.surfaces.openai.errors import error_object
from gateway.surfaces.pipeline import Cost, StreamEncoder, note
from gateway.targets import Target
from gateway.upstream import upstream
from gateway.usage import Tally

# A provider's word goes into a header.
SOUND_TYPE = re.compile(r"audio/[a-z0-9.+-]{1,40}\Z")


class SoundEncoder:
    """Bytes as they come. `mime_type` is known with the first of them."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.mime_type = ""

    def encode(self, event: Event) -> bytes:
        match event:
            case Sound(data, mime_type):
                if not self.mime_type:
                    self.mime_type = mime_type if SOUND_TYPE.match(mime_type) else "application/octet-stream"
                self.chunks += 1
                return data
            case Usage():
                self.usage = event
            case _:
                pass
        return b""

    def end(self) -> bytes:
        return b""


class SoundEventEncoder(SoundEncoder):
    """`stream_format: sse`: pieces in base64, and an event that ends them."""

    cost: Cost | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Failed):
            return frame(error_object(event.error))
        data = super().encode(event)
        return frame({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()}) if data else b""

    def end(self) -> bytes:
        used = self.usage or Usage(0, 0)
        tokens = {"input_tokens": used.prompt_tokens, "output_tokens": used.completion_tokens}
        told = priced({**tokens, "total_tokens": used.total_tokens}, used, self.cost)
        return frame({"type": "speech.audio.done", "usage": told})


class Speech(OpenAISurface):
    name = operation = SPEECH

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> SpeechRequest:
        return parse_speech(raw, parameters.get("provider"))

    def stream_encoder(self, chat: ChatRequest) -> SoundEncoder:
        assert isinstance(chat, SpeechRequest)
        return SoundEventEncoder() if chat.as_events else SoundEncoder()

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        assert isinstance(chat, SpeechRequest)
        return spoken(chat)

    def sound_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        if exchange.started and not exchange.over and not isinstance(exchange.encoder, SoundEventEncoder):
            # There is no word for it in a sound. The edge cuts the connection, so that nobody takes a part for all.
            raise error
        await super()._refuse(exchange, error)

    async def _stream(
        self,
        exchange: Exchange,
        principal: Principal,
        chat: ChatRequest,
        targets: tuple[Target, ...],
        tally: Tally,
        source: Source,
        encoder: StreamEncoder,
    ) -> None:
        if not isinstance(encoder, SoundEncoder) or isinstance(encoder, SoundEventEncoder):
            await super()._stream(exchange, principal, chat, targets, tally, source, encoder)
            return
        async with aclosing(source.stream(upstream, chat, targets, tally)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    note(exchange.scope, event.error)
                    raise event.error
                data = encoder.encode(event)
                if not data:
                    continue
                if not exchange.started:
                    kind = (b"content-type", encoder.mime_type.encode())
                    exchange.begin([kind, *self.sound_headers(), *self.answer_headers(exchange, chat)])
                if not exchange.wrote(data):
                    await exchange.write(data)
        tally.usage = encoder.usage
        tally.end("ok", 200)
        await exchange.end_stream(b"")


speech = Speech()
