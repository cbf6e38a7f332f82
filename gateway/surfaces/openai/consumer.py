"""POST /v1/chat/completions and /api/{provider}/chat/completions (OpenAI API reference, "Create chat completion")."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.answer_cache import Replaying
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.contexts import Around, Turn, contexts
from gateway.errors import GatewayError, ServerStopping
from gateway.events import Usage
from gateway.idempotency import key_in
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.idempotent import REPLAYED
from gateway.surfaces.kept import linked
from gateway.surfaces.openai.attachments import attach
from gateway.surfaces.openai.conversing import TellingChunks, TellingReply, named
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder, estimated, frame
from gateway.surfaces.openai.errors import error_bytes, error_headers, error_object
from gateway.surfaces.openai.parser import chat_of, decode, merged, parse_chat, say
from gateway.surfaces.pipeline import Cost, PlainEncoder, StreamEncoder, Surface
from gateway.surfaces.searching import search
from gateway.targets import Target
from gateway.usage import Tally
from media import links

# Fields that have an effect where a conversation is kept.
HEARD = ("conversation_id", "conversation")


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

    async def _converse(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
    ) -> None:
        open_turn = contexts.open_turn
        if open_turn is None or principal.user_id is None:
            await self._serve(exchange, principal, chat, targets, tally)
            return
        key = key_in(exchange.scope["headers"])
        # A caller with a key may come back for the answer: it is made to its end.
        exchange.stays = key is not None
        turn = await open_turn(chat, principal, Around(key, links.base_of(exchange.scope)))
        chat.warnings = tuple(name for name in chat.warnings if name not in HEARD)
        try:
            say(chat, turn.messages)
        except BaseException as error:
            # With what was said before it may be more than a request may have.
            await turn.ended(error)
            raise
        # What is kept is read from the events, which bytes as they came are not.
        chat.raw = False
        await InConversation(turn).serve(exchange, principal, chat, targets, tally)


class InConversation(ChatCompletions):
    """One request that goes on with a stored conversation. Its answer depends on more than its body."""

    gives_again = False

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self._turn = turn

    def stream_encoder(self, chat: ChatRequest) -> ChunkEncoder:
        return TellingChunks(chat, self._turn)

    def plain_encoder(self, chat: ChatRequest) -> ReplyEncoder:
        return TellingReply(chat, self._turn)

    def answer_headers(self, exchange: Exchange, chat: ChatRequest) -> list[tuple[bytes, bytes]]:
        told = self._turn.told()
        ids = [(f"x-{name}-id".encode(), str(told[f"{name}_id"]).encode()) for name in ("conversation", "message")]
        again = [REPLAYED] if self._turn.given is not None else []
        return [*super().answer_headers(exchange, chat), *ids, *again]

    async def finished(self, chat: ChatRequest, principal: Principal, encoder: StreamEncoder | PlainEncoder) -> None:
        """Kept before the caller hears that the answer is over, so that it can go on from it at once."""
        await self._turn.done(encoder.usage)

    async def serve(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
    ) -> None:
        turn, task = self._turn, asyncio.current_task()
        assert task is not None, "a request has a task"
        if turn.given is not None:
            given = Replaying(list(turn.given))
            await self._answer(exchange, principal, chat, targets, tally.replayed(targets[0]), given)
            return

        def stop(reason: GatewayError) -> None:
            if exchange.cut is None and not exchange.over:
                exchange.cut = reason
                task.cancel()

        turn.begun(stop, tally.cost)
        failure: BaseException | None = None
        try:
            await self._serve(exchange, principal, chat, targets, tally)
        except asyncio.CancelledError:
            failure = ServerStopping()
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            await turn.ended(failure)


class ByPath(ChatCompletions):
    """The same with the conversation in the path, which counts before the body's."""

    gives_again = False

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        body = decode(raw)
        chat = chat_of(body, parameters["provider"])
        chat.conversation = named(parameters["conversation_id"], merged(body).get("conversation"))
        return chat


chat_completions = ChatCompletions()
chat_by_path = ByPath()
