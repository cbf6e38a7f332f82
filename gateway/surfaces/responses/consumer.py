"""POST /v1/responses and /api/{provider}/responses (OpenAI API reference, "Create a response")."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Any, cast

import orjson

from gateway.answer_cache import Source
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError
from gateway.events import Usage
from gateway.surfaces.exchange import STREAM_HEADERS, Exchange
from gateway.surfaces.openai.encoder import estimated
from gateway.surfaces.openai.errors import error_bytes, error_headers
from gateway.surfaces.pipeline import Cost, PlainEncoder, StreamEncoder, Surface
from gateway.surfaces.responses import store
from gateway.surfaces.responses.background import Job, background
from gateway.surfaces.responses.encoder import ResponseCollector, ResponseEncoder, error_fields, frame, shown
from gateway.surfaces.responses.items import Item, references, resolved, with_ids
from gateway.surfaces.responses.parser import ResponsesRequest, parse_response
from gateway.targets import Target
from gateway.usage import Tally


class Responses(Surface):
    name = "responses"
    gives_again = True

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        return parse_response(raw, parameters.get("provider"))

    async def prepare(self, chat: ChatRequest, principal: Principal) -> None:
        """What was said before comes from the store; most requests need nothing of it."""
        chat = cast(ResponsesRequest, chat)
        asked = chat.asked
        chat.asked = asked.kept(asked.store and store.enabled() and principal.user_id is not None)
        if asked.background and not chat.asked.store:
            raise BadRequest(
                "A response in the background must be stored: it needs `store`, a user and a retention time.",
                param="background",
            )
        named = references(asked.items)
        if asked.previous_id or named:
            earlier, found = await store.off_the_loop(partial(_earlier, asked.previous_id, named, principal.user_id))
            chat.say(earlier, resolved(asked.items, found))
        if not chat.body["messages"]:
            raise BadRequest("'input' says nothing.", code="empty_array", param="input")

    async def finished(self, chat: ChatRequest, principal: Principal, encoder: StreamEncoder | PlainEncoder) -> None:
        """Kept before the caller hears that the answer is over, so that it can go on from it at once."""
        asked = cast(ResponsesRequest, chat).asked
        if not asked.store or principal.user_id is None or asked.background:
            return
        answer = cast("ResponseEncoder | ResponseCollector", encoder).answer
        items, body = with_ids(asked.items, asked.token), answer.response(answer.status)
        await store.off_the_loop(
            partial(store.save, asked.id, principal.user_id, asked.previous_id, asked.created_at, items, body)
        )

    async def _serve(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
    ) -> None:
        if not cast(ResponsesRequest, chat).asked.background:
            await super()._serve(exchange, principal, chat, targets, tally)
            return
        streamed, chat.stream = chat.stream, True
        job = Job(exchange.scope, cast(ResponsesRequest, chat), principal, streamed=streamed)
        await background.start(job, partial(super()._serve, job, principal, chat, targets, tally))
        exchange.limit_headers = job.limit_headers
        headers = self.answer_headers(exchange, chat)
        if not streamed:
            shown_now = orjson.dumps(shown(job.response("in_progress"), cast(ResponsesRequest, chat).asked.encrypted))
            await exchange.reply(200, [*exchange.plain_headers, *headers], shown_now)
            return
        with exchange.watched():
            exchange.expect_stream([*STREAM_HEADERS, *headers])
            async with aclosing(job.follow()) as frames:
                async for data in frames:
                    await exchange.write(data)
            await exchange.end_stream(b"")

    async def _answer(
        self,
        exchange: Exchange,
        principal: Principal,
        chat: ChatRequest,
        targets: tuple[Target, ...],
        tally: Tally,
        source: Source,
    ) -> None:
        if isinstance(exchange, Job):
            await background.begun(exchange)
        await super()._answer(exchange, principal, chat, targets, tally, source)

    def stream_encoder(self, chat: ChatRequest) -> ResponseEncoder:
        return ResponseEncoder(cast(ResponsesRequest, chat))

    def plain_encoder(self, chat: ChatRequest) -> ResponseCollector:
        return ResponseCollector(cast(ResponsesRequest, chat))

    def tell_cost(self, encoder: Any, cost: Cost) -> None:
        encoder.answer.cost = cost

    def error_body(self, error: GatewayError) -> bytes:
        return error_bytes(error)

    def error_headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        return error_headers(error)

    def error_frame(self, error: GatewayError) -> bytes:
        return frame("error", 0, error_fields(error))

    def last_frame(self, error: GatewayError, encoder: StreamEncoder | None) -> bytes:
        return encoder.error(error) if isinstance(encoder, ResponseEncoder) else self.error_frame(error)

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        return estimated(chat, chunks)


def _earlier(previous_id: str, named: list[str], user_id: int | None) -> tuple[list[Item], dict[str, Item]]:
    """The items of the conversation so far, and those that are referred to. Raises BadRequest."""
    earlier: list[Item] = []
    turns = store.conversation(previous_id, user_id) if previous_id else []
    # One that was deleted or purged from the middle leaves a conversation of which nobody knows the beginning.
    if previous_id and (not turns or turns[0].previous_id):
        gone = turns[0].previous_id if turns else previous_id
        raise BadRequest(
            f"Previous response with id {gone[:100]!r} not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    for turn in turns:
        if turn.response.get("status") == store.RUNNING:
            raise BadRequest(
                f"Response with id {turn.id!r} is still being made.",
                code="response_not_finished",
                param="previous_response_id",
            )
        earlier += [*turn.input, *turn.response["output"]]
    return earlier, store.items_named(named, user_id) if named else {}


responses = Responses()
