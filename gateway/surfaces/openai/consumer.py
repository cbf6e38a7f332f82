"""POST /v1/chat/completions and /api/{provider}/chat/completions: the chat path.

An ASGI consumer of its own, mounted in Channels' router: no Django handler, no middleware, no query.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from gateway import relay
from gateway.authentication import authenticate_scope
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, ServerStopping
from gateway.events import Failed
from gateway.limiter import limiter, limits_of
from gateway.live import Live, answers
from gateway.routing import targets_for
from gateway.snapshot import store
from gateway.surfaces.exchange import (
    STREAM_HEADERS,
    ClientLeft,
    Exchange,
    Receive,
    Scope,
    Send,
)
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder, estimated, frame
from gateway.surfaces.openai.errors import error_bytes, error_headers, error_object, limit_headers, method_not_allowed
from gateway.surfaces.openai.parser import parse_chat
from gateway.targets import Target
from gateway.upstream import upstream
from gateway.usage import Tally

log = logging.getLogger(__name__)

JSON_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
CLIENT_CLOSED = 499


async def chat_completions(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    exchange = Exchange(scope, receive, send)
    try:
        await _respond(exchange)
    except GatewayError as error:
        await _refuse(exchange, error)
    except ClientLeft:
        pass


def _note(scope: Scope, error: GatewayError) -> None:
    """One line of log for an answer that failed on the server's side; the caller is told under which id."""
    if error.status >= 500:
        request_id = scope["g4f.request_id"]
        marks = {"request_id": request_id, "path": scope["path"]}
        log.warning("answered %s %s: %s", error.status, error.code, error.message, extra=marks)
        error.named(request_id)


async def _refuse(exchange: Exchange, error: GatewayError) -> None:
    if exchange.over:
        return
    _note(exchange.scope, error)
    if exchange.started:
        await exchange.end_stream(frame(error_object(error)))
        return
    headers = [*JSON_HEADERS, *error_headers(error), *exchange.limit_headers]
    await exchange.reply(error.status, headers, error_bytes(error))


async def _respond(exchange: Exchange) -> None:
    scope = exchange.scope
    if scope["method"] == "OPTIONS":
        await exchange.reply(204, [(b"allow", b"POST, OPTIONS")], b"")
        return
    if scope["method"] != "POST":
        error = method_not_allowed(scope["method"], "POST")
        await exchange.reply(405, [*JSON_HEADERS, (b"allow", b"POST, OPTIONS")], error_bytes(error))
        return
    principal = await authenticate_scope(scope)
    exchange.check_json()
    chat = parse_chat(await exchange.body(), scope["url_route"]["kwargs"].get("provider"))
    targets = targets_for(store.current, chat.model, chat.provider, principal)
    surface = "api.chat" if scope["path"].startswith("/api/") else "v1.chat"
    tally = Tally(scope["g4f.request_id"], principal, chat, surface)
    limits, admission = limits_of(principal), None
    with exchange.watched() as watch:
        live = Live(principal, watch.loop, watch.cut, chat.stream)
        answers.enter(live)
        try:
            if limits:
                admission = await limiter.admit(limits, chat)
                exchange.limit_headers = limit_headers(admission.standings)
            await _answer(exchange, chat, targets, tally)
        finally:
            answers.leave(live)
            # Who leaves before usage is known has used what was estimated, as far as anyone knows.
            if admission is not None and (tally.usage is not None or exchange.cut is None):
                admission.settle(tally.usage)


async def _answer(exchange: Exchange, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally) -> None:
    """Books the request exactly once, however it ends."""
    encoder = ChunkEncoder(chat) if chat.stream else None
    tally.begin(targets[0])
    try:
        if encoder is not None:
            await _stream(exchange, chat, targets, tally, encoder)
        else:
            await _plain(exchange, chat, targets, tally)
    except GatewayError as error:
        _book_partial(tally, encoder, chat)
        tally.end("error", error.status, error)
        raise
    except asyncio.CancelledError:
        _book_partial(tally, encoder, chat)
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


def _book_partial(tally: Tally, encoder: ChunkEncoder | None, chat: ChatRequest) -> None:
    if encoder is not None and tally.usage is None:
        tally.usage = encoder.usage or (estimated(chat, encoder.chunks) if encoder.chunks else None)


def _headers(exchange: Exchange, chat: ChatRequest) -> list[tuple[bytes, bytes]]:
    headers = list(exchange.limit_headers)
    if chat.warnings:
        headers.append((b"warning", b'299 g4fsite "ignored: %s"' % ", ".join(chat.warnings).encode()))
    return headers


async def _plain(exchange: Exchange, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally) -> None:
    encoder = ReplyEncoder(chat)
    for event in await relay.complete(upstream, chat, targets, tally):
        encoder.take(event)
    body = encoder.body()
    tally.usage = encoder.usage
    tally.end("ok", 200)
    await exchange.reply(200, [*JSON_HEADERS, *_headers(exchange, chat)], body)


async def _stream(
    exchange: Exchange, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally, encoder: ChunkEncoder
) -> None:
    exchange.expect_stream([*STREAM_HEADERS, *_headers(exchange, chat)])
    failure: GatewayError | None = None
    async with aclosing(relay.stream(upstream, chat, targets, tally)) as events:
        async for event in events:
            if isinstance(event, Failed):
                failure = event.error
                _note(exchange.scope, failure)
            data = encoder.encode(event)
            if data and not exchange.wrote(data):
                await exchange.write(data)
    if failure is not None:
        _book_partial(tally, encoder, chat)
        tally.end("error", failure.status, failure)
        await exchange.end_stream(b"")
        return
    last = encoder.end()
    tally.usage = encoder.usage
    tally.end("ok", 200)
    await exchange.end_stream(last)
