"""POST /v1/responses and /api/{provider}/responses (OpenAI API reference, "Create a response")."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError
from gateway.events import Usage
from gateway.surfaces.openai.encoder import estimated
from gateway.surfaces.openai.errors import error_bytes, error_headers
from gateway.surfaces.pipeline import Cost, PlainEncoder, StreamEncoder, Surface
from gateway.surfaces.responses import store
from gateway.surfaces.responses.encoder import ResponseCollector, ResponseEncoder, error_fields, frame
from gateway.surfaces.responses.items import Item, references, resolved, with_ids
from gateway.surfaces.responses.parser import ResponsesRequest, parse_response


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
        named = references(asked.items)
        if asked.previous_id or named:
            earlier, found = await store.off_the_loop(partial(_earlier, asked.previous_id, named, principal.user_id))
            chat.say(earlier, resolved(asked.items, found))
        if not chat.body["messages"]:
            raise BadRequest("'input' says nothing.", code="empty_array", param="input")

    async def finished(self, chat: ChatRequest, principal: Principal, encoder: StreamEncoder | PlainEncoder) -> None:
        """Kept before the caller hears that the answer is over, so that it can go on from it at once."""
        asked = cast(ResponsesRequest, chat).asked
        if not asked.store or principal.user_id is None:
            return
        answer = cast("ResponseEncoder | ResponseCollector", encoder).answer
        items, body = with_ids(asked.items, asked.token), answer.response(answer.status)
        await store.off_the_loop(
            partial(store.save, asked.id, principal.user_id, asked.previous_id, asked.created_at, items, body)
        )

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
        earlier += [*turn.input, *turn.response["output"]]
    return earlier, store.items_named(named, user_id) if named else {}


responses = Responses()
