"""POST /v1/messages, /v1/messages/count_tokens, and both under /api/{provider} (Anthropic API reference)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from gateway import relay
from gateway.authentication import Principal, authenticate_scope
from gateway.breaker import breaker
from gateway.chat import ChatRequest
from gateway.errors import GatewayError
from gateway.events import Usage
from gateway.limiter import limiter, limits_of
from gateway.limits import REQUESTS, Limit
from gateway.live import Live, answers
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.anthropic.counting import estimated, prompt_tokens
from gateway.surfaces.anthropic.encoder import MessageStream
from gateway.surfaces.anthropic.errors import error_bytes, error_frame, message_error_headers
from gateway.surfaces.anthropic.parser import parse_messages
from gateway.surfaces.anthropic.reply import MessageReply
from gateway.surfaces.exchange import Exchange, Receive, Scope, Send
from gateway.surfaces.kept import linked
from gateway.surfaces.openai.errors import limit_headers
from gateway.surfaces.pipeline import JSON_HEADERS, Cost, Surface
from gateway.targets import Target
from gateway.upstream import upstream

BETA = b"anthropic-beta"
ESTIMATED = (b"x-gateway-estimated", b"true")


class Messages(Surface):
    name = "messages"
    keep = staticmethod(linked)
    gives_again = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Part of what is asked in this protocol stands in a header.
        said = b",".join(value for name, value in scope["headers"] if name == BETA)
        route = {**scope["url_route"], "kwargs": {**scope["url_route"]["kwargs"], "betas": said}}
        await super().__call__({**scope, "url_route": route}, receive, send)

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        return parse_messages(raw, parameters.get("provider"), parameters["betas"])

    def stream_encoder(self, chat: ChatRequest) -> MessageStream:
        return MessageStream(chat)

    def plain_encoder(self, chat: ChatRequest) -> MessageReply:
        return MessageReply(chat)

    def tell_cost(self, encoder: Any, cost: Cost) -> None:
        encoder.cost = cost

    def error_body(self, error: GatewayError) -> bytes:
        return error_bytes(error)

    def error_headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        return message_error_headers(error)

    def error_frame(self, error: GatewayError) -> bytes:
        return error_frame(error)

    def answer_headers(self, exchange: Exchange, chat: ChatRequest) -> list[tuple[bytes, bytes]]:
        return [*super().answer_headers(exchange, chat), (b"request-id", exchange.scope["g4f.request_id"].encode())]

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        return estimated(chat, chunks)


class CountTokens(Messages):
    """Asks the provider that would answer, where it can count; else says that the number is an estimate.

    Limits of requests hold, so that nobody is asked without end; no usage row is written, for nothing is used.
    """

    name = "count_tokens"

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        return parse_messages(raw, parameters.get("provider"), parameters["betas"], counting=True)

    async def _ask(self, exchange: Exchange) -> None:
        principal = await authenticate_scope(exchange.scope)
        exchange.check_json()
        chat = self.parse(await exchange.body(), exchange.scope["url_route"]["kwargs"])
        targets = targets_of(store.current, chat, principal)
        targets = await self._admitted(exchange, principal, chat, breaker.order(targets))
        with exchange.watched() as watch:
            live = Live(principal, watch.loop, watch.cut, stream=False)
            answers.enter(live)
            try:
                found = await relay.count_tokens(upstream, chat, targets)
            finally:
                answers.leave(live)
        headers = [*JSON_HEADERS, *self.answer_headers(exchange, chat), *([ESTIMATED] if found is None else [])]
        counted = prompt_tokens(chat) if found is None else found
        await exchange.reply(200, headers, orjson.dumps({"input_tokens": counted}))

    async def _admitted(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...]
    ) -> tuple[Target, ...]:
        """The targets whose limits of requests have room. Raises RateLimited."""
        limits = _of_requests(limits_of(principal))
        if limits or store.current.limits_models:
            targets = tuple(replace(target, limits=_of_requests(target.limits)) for target in targets)
            admission, targets = await limiter.admit_somewhere(limits, targets, chat)
            exchange.limit_headers = limit_headers(admission.standings)
        return targets


def _of_requests(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    return tuple(limit for limit in limits if limit.kind == REQUESTS)


messages = Messages()
count_tokens = CountTokens()
