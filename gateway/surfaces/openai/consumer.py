"""POST /v1/chat/completions and /api/{provider}/chat/completions (OpenAI API reference, "Create chat completion")."""

from __future__ import annotations

from typing import Any

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import GatewayError
from gateway.events import Usage
from gateway.surfaces.kept import linked
from gateway.surfaces.openai.attachments import attach
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder, estimated, frame
from gateway.surfaces.openai.errors import error_bytes, error_headers, error_object
from gateway.surfaces.openai.parser import parse_chat
from gateway.surfaces.pipeline import Cost, Surface
from gateway.surfaces.searching import search


class OpenAISurface(Surface):
    """What all routes of OpenAI's have in common: how they say that something went wrong."""

    def tell_cost(self, encoder: Any, cost: Cost) -> None:
        encoder.cost = cost

    def error_body(self, error: GatewayError) -> bytes:
        return error_bytes(error)

    def error_headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        return error_headers(error)

    def error_frame(self, error: GatewayError) -> bytes:
        return frame(error_object(error))

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        return estimated(chat, chunks)


class ChatCompletions(OpenAISurface):
    name = "chat"
    keep = staticmethod(linked)
    gives_again = True

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        return parse_chat(raw, parameters.get("provider"))

    async def attach(self, chat: ChatRequest, principal: Principal) -> None:
        await attach(chat, principal)
        if chat.search:
            await search(chat, principal)

    def stream_encoder(self, chat: ChatRequest) -> ChunkEncoder:
        return ChunkEncoder(chat)

    def plain_encoder(self, chat: ChatRequest) -> ReplyEncoder:
        return ReplyEncoder(chat)


chat_completions = ChatCompletions()
