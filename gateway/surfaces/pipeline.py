"""The way of one chat request, the same for every surface: who asks, what, whom to ask, the answer, its row.

An ASGI application of its own, mounted in Channels' router: no Django handler, no middleware, no query.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

from gateway import relay
from gateway.answer_cache import Source
from gateway.answer_cache import answers as kept_answers
from gateway.authentication import Principal, authenticate_scope, principal_by_key
from gateway.breaker import breaker
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, ServerStopping
from gateway.events import Event, Failed, MediaOutput, Usage
from gateway.limiter import limiter, limits_of
from gateway.live import Live, answers
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.exchange import STREAM_HEADERS, ClientLeft, Exchange, Receive, Scope, Send
from gateway.surfaces.openai.errors import limit_headers, method_not_allowed
from gateway.surfaces.searching import Cited
from gateway.targets import Target
from gateway.upstream import upstream
from gateway.usage import Tally

log = logging.getLogger(__name__)

JSON_HEADERS = [*Exchange.plain_headers]
CLIENT_CLOSED = 499
# Dollars for what was used; None while no price is known.
Cost = Callable[[Usage], float | None]


# Instead of `parse`, where a body is not JSON. Raises BadRequest and ClientLeft.
Read = Callable[[Exchange, dict[str, Any]], Awaitable[ChatRequest]]
# After the body was read and a model found: may change the request. Before limits, because what a store adds to the
# messages counts in the estimate; so it must be cheap: what is fetched or converted is attached. Raises GatewayError.
Prepare = Callable[[ChatRequest, Principal], Awaitable[None]]


class StreamEncoder(Protocol):
    """Events as the frames of one stream. `usage` is known once it is over; `chunks` have been sent so far."""

    usage: Usage | None
    chunks: int

    def encode(self, event: Event) -> bytes:
        """May be empty."""

    def end(self) -> bytes:
        """What a whole answer ends with."""


class PlainEncoder(Protocol):
    """Events as one body."""

    usage: Usage | None

    def take(self, event: Event) -> None:
        """Raises the error of a Failed event: nothing was sent yet."""

    def body(self) -> bytes: ...


# Once the whole answer is known, before its last byte is sent. Raises GatewayError.
FinishedHook = Callable[[ChatRequest, Principal, StreamEncoder | PlainEncoder], Awaitable[None]]


# Once a plain answer is known, before its body is made. Raises GatewayError.
CompletedHook = Callable[[Exchange, ChatRequest, Principal, PlainEncoder], Awaitable[None]]


# A picture or a sound in an answer, and who made it: what the caller gets in its place.
KeepHook = Callable[[Exchange, ChatRequest, Principal, Target, MediaOutput], Awaitable[Event]]
# Events that are more than their encoding.
NOTABLE = frozenset((Failed, MediaOutput))


class Surface:
    """One protocol that callers speak. `name` stands in usage rows behind the door's (`v1.chat`).

    `operation` is what a model must be for: chat, or one of `gateway.calls`, whose answers are never streams.
    """

    name: str
    operation = "chat"
    method = "POST"
    read: Read | None = None
    # Whether its answers may be given again: where all that an answer depends on is in its request's body and fields.
    gives_again = False
    # A surface that keeps something between requests has these; the others do not wait for them.
    prepare: Prepare | None = None
    finished: FinishedHook | None = None
    completed: CompletedHook | None = None
    keep: KeepHook | None = None

    def __init__(self) -> None:
        # What a class says is looked up anew each time it is asked for; what an object holds itself is found at once.
        for name in ("operation", "method", "read", "gives_again", "prepare", "finished", "completed", "keep"):
            setattr(self, name, getattr(self, name))

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        """The body, and what the path says. Raises BadRequest."""
        raise NotImplementedError

    async def attach(self, chat: ChatRequest, principal: Principal) -> None:
        """Fetches what a request that is `attached` names, and puts it there. Raises GatewayError."""
        raise NotImplementedError

    def stream_encoder(self, chat: ChatRequest) -> StreamEncoder:
        raise NotImplementedError

    def plain_encoder(self, chat: ChatRequest) -> PlainEncoder:
        raise NotImplementedError

    def tell_cost(self, encoder: Any, cost: Cost) -> None:
        """The caller asked what its answer costs."""
        raise NotImplementedError

    def error_body(self, error: GatewayError) -> bytes:
        raise NotImplementedError

    def error_headers(self, error: GatewayError) -> list[tuple[bytes, bytes]]:
        raise NotImplementedError

    def error_frame(self, error: GatewayError) -> bytes:
        """The last frame of a stream that failed."""
        raise NotImplementedError

    def last_frame(self, error: GatewayError, encoder: StreamEncoder | None) -> bytes:
        """The same, for protocols in which it depends on what was sent before."""
        return self.error_frame(error)

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        """What an answer that broke off after so many chunks has used, as far as anyone knows."""
        raise NotImplementedError

    def answer_headers(self, exchange: Exchange, chat: ChatRequest) -> list[tuple[bytes, bytes]]:
        """What good answers carry beside their type."""
        headers = list(exchange.limit_headers)
        if chat.warnings:
            headers.append((b"warning", b'299 g4fsite "ignored: %s"' % ", ".join(chat.warnings).encode()))
        return headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            if scope["method"] == self.method:
                await self._ask(exchange)
            else:
                await self._tell_methods(exchange)
        except GatewayError as error:
            await self._refuse(exchange, error)
        except ClientLeft:
            pass

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        if exchange.over:
            return
        note(exchange.scope, error)
        if exchange.started:
            await exchange.end_stream(self.last_frame(error, exchange.encoder))
            return
        headers = [*JSON_HEADERS, *self.error_headers(error), *exchange.limit_headers]
        await exchange.reply(error.status, headers, self.error_body(error))

    async def _tell_methods(self, exchange: Exchange) -> None:
        scope, allow = exchange.scope, (b"allow", f"{self.method}, OPTIONS".encode())
        if scope["method"] == "OPTIONS":
            await exchange.reply(204, [allow], b"")
            return
        error = method_not_allowed(scope["method"], self.method)
        note(scope, error)
        await exchange.reply(405, [*JSON_HEADERS, allow], self.error_body(error))

    async def _ask(self, exchange: Exchange) -> None:
        scope = exchange.scope
        principal = principal_by_key(scope) or await authenticate_scope(scope)
        if self.read is None:
            exchange.check_json()
            body = exchange.arrived()
            if body is None:
                body = await exchange.body()
            chat = self.parse(body, scope["url_route"]["kwargs"])
        else:
            chat = await self.read(exchange, scope["url_route"]["kwargs"])
        targets = targets_of(store.current, chat, principal, self.operation)
        if self.prepare is not None:
            await self.prepare(chat, principal)
        door = "api." if scope["path"].startswith("/api/") else "v1."
        tally = Tally(scope["g4f.request_id"], principal, chat, door + self.name)
        if chat.conversation is None:
            await self._serve(exchange, principal, chat, targets, tally)
        else:
            await self._converse(exchange, principal, chat, targets, tally)

    async def _converse(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
    ) -> None:
        """The request names a stored conversation; most surfaces know none."""
        await self._serve(exchange, principal, chat, targets, tally)

    async def _serve(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
    ) -> None:
        limits, admission = limits_of(principal), None
        source: Source = relay
        with exchange.watched() as watch:
            live = Live(principal, watch.loop, watch.cut, chat.stream)
            answers.enter(live)
            try:
                if limits or store.current.attends or chat.attached:
                    known = targets
                    if limits or store.current.limits_models:
                        targets = breaker.order(targets)
                        admission, targets = await limiter.admit_somewhere(limits, targets, chat)
                        exchange.limit_headers = limit_headers(admission.standings)
                    if chat.attached:
                        await self._attach(exchange, chat, principal)
                    if store.current.keeps_answers and self.gives_again:
                        found = await kept_answers.find(principal, chat, known, tally, self.name)
                        if found is not None:
                            source, tally = found.source, found.tally
                            exchange.limit_headers = [*exchange.limit_headers, *found.headers]
                    if chat.citations:
                        source = Cited(source, chat)
                await self._answer(exchange, principal, chat, targets, tally, source)
            finally:
                answers.leave(live)
                if admission is not None:
                    admission.leave()
                # Who leaves before usage is known has used what was estimated, as far as anyone knows.
                if admission is not None and (tally.usage is not None or exchange.cut is None):
                    admission.settle(tally.total())

    async def _attach(self, exchange: Exchange, chat: ChatRequest, principal: Principal) -> None:
        """What limits estimated without it is settled when the answer has ended."""
        if chat.stream:
            exchange.expect_stream([*STREAM_HEADERS, *self.answer_headers(exchange, chat)])
        try:
            await self.attach(chat, principal)
        finally:
            exchange.stop_beating()

    async def _answer(
        self,
        exchange: Exchange,
        principal: Principal,
        chat: ChatRequest,
        targets: tuple[Target, ...],
        tally: Tally,
        source: Source,
    ) -> None:
        """Books the request exactly once, however it ends."""
        encoder = exchange.encoder = self.stream_encoder(chat) if chat.stream else None
        if encoder is not None and chat.include_cost:
            self.tell_cost(encoder, tally.cost)
        tally.begin(targets[0])
        if len(targets) > 1:
            exchange.late_headers = partial(_attempts, tally)
        try:
            if encoder is not None:
                await self._stream(exchange, principal, chat, targets, tally, source, encoder)
            else:
                await self._plain(exchange, principal, chat, targets, tally, source)
        except GatewayError as error:
            self.book_partial(tally, encoder, chat)
            tally.end("error", error.status, error)
            raise
        except asyncio.CancelledError:
            self.book_partial(tally, encoder, chat)
            # Without a reason of the exchange's own it is the server that stops and has waited long enough.
            cut = exchange.cut or ServerStopping()
            if isinstance(cut, ServerStopping):
                tally.end("interrupted", cut.status, cut)
            else:
                tally.end("cancelled", CLIENT_CLOSED)
            raise
        except BaseException:
            tally.end("error", 500)
            raise

    def book_partial(self, tally: Tally, encoder: StreamEncoder | None, chat: ChatRequest) -> None:
        """What an answer has used that did not come to its end."""
        if encoder is not None and tally.usage is None:
            tally.usage = encoder.usage or (self.estimated(chat, encoder.chunks) if encoder.chunks else None)

    async def _plain(
        self,
        exchange: Exchange,
        principal: Principal,
        chat: ChatRequest,
        targets: tuple[Target, ...],
        tally: Tally,
        source: Source,
    ) -> None:
        encoder = self.plain_encoder(chat)
        if chat.include_cost:
            self.tell_cost(encoder, tally.cost)
        events = await source.complete(upstream, chat, targets, tally)
        try:
            for event in events:
                if type(event) is MediaOutput and self.keep is not None and tally.target is not None:
                    event = await self.keep(exchange, chat, principal, tally.target, event)  # noqa: PLW2901
                encoder.take(event)
            if self.completed is not None:
                await self.completed(exchange, chat, principal, encoder)
            body = encoder.body()
        finally:
            tally.usage = encoder.usage
        if self.finished is not None:
            await self.finished(chat, principal, encoder)
        tally.end("ok", 200)
        await exchange.reply(200, [*exchange.plain_headers, *self.answer_headers(exchange, chat)], body)

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
        exchange.expect_stream([*STREAM_HEADERS, *self.answer_headers(exchange, chat)])
        failure: GatewayError | None = None
        async with aclosing(source.stream(upstream, chat, targets, tally)) as events:
            async for event in events:
                if type(event) in NOTABLE:
                    if isinstance(event, Failed):
                        failure = event.error
                        note(exchange.scope, failure)
                    elif isinstance(event, MediaOutput) and self.keep is not None and tally.target is not None:
                        event = await self.keep(exchange, chat, principal, tally.target, event)  # noqa: PLW2901
                data = encoder.encode(event)
                if data and not exchange.wrote(data):
                    await exchange.write(data)
        if failure is not None:
            self.book_partial(tally, encoder, chat)
            tally.end("error", failure.status, failure)
            await exchange.end_stream(b"")
            return
        last = encoder.end()
        tally.usage = encoder.usage
        if self.finished is not None:
            await self.finished(chat, principal, encoder)
        tally.end("ok", 200)
        await exchange.end_stream(last)


def note(scope: Scope, error: GatewayError) -> None:
    """One line of log for an answer that failed on the server's side; the caller is told under which id."""
    error.request_id = request_id = scope["g4f.request_id"]
    if error.status >= 500:
        marks = {"request_id": request_id, "path": scope["path"]}
        log.warning("answered %s %s: %s", error.status, error.code, error.message, extra=marks)
        error.named(request_id)


def _attempts(tally: Tally) -> list[tuple[bytes, bytes]]:
    told = tally.told()
    return [(b"x-gateway-attempts", told.encode("ascii", "replace"))] if told else []
