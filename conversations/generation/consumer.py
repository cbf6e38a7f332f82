"""POST /backend-api/v2/conversation, and the routes by which an answer is followed and stopped from anywhere.

The streams are Server-Sent Events whose ids are the numbers of the answer's events (docs/streaming.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import orjson
from django.conf import settings

from conversations.generation import browser_events as say
from conversations.generation import pictures, rows
from conversations.generation.ask import Ask, conversation_id, named_by, parse
from conversations.generation.browser_events import frame
from conversations.generation.keeper import keeper
from conversations.generation.rows import Begun
from conversations.generation.running import running
from conversations.generation.threads import off_the_loop
from conversations.models import Generation
from conversations.models.conversations import RUNNING
from gateway.authentication import Principal, authenticate_scope
from gateway.errors import GatewayError, NotAuthenticated, ServerStopping, Unavailable
from gateway.live import Live, answers
from gateway.snapshot import store
from gateway.surfaces.exchange import STREAM_HEADERS, Exchange
from gateway.surfaces.multipart import Bounds, is_multipart, read_form
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.errors import method_not_allowed
from gateway.surfaces.openai.parser import decode, ill_typed, missing
from gateway.surfaces.pipeline import JSON_HEADERS, note
from gateway.surfaces.reconnect import reconnect_event
from media import links
from media.errors import MediaError

Parts = list[dict[str, Any]]
# Of the `json` field of a form, which may hold pictures.
MAX_JSON = 32 * 1024 * 1024
POLL_SECONDS = 0.5


class ConversationRoute(OpenAISurface):
    """What its routes have in common: they belong to a user, and each knows its methods."""

    name = "conversation"
    allowed: tuple[str, ...] = ("POST", "OPTIONS")

    async def _tell_methods(self, exchange: Exchange) -> None:
        method, allow = exchange.scope["method"], ", ".join(self.allowed)
        if method == "OPTIONS":
            await exchange.reply(204, [(b"allow", allow.encode())], b"")
        elif method in self.allowed:
            await self._ask(exchange)
        else:
            error = method_not_allowed(method, ", ".join(self.allowed[:-1]))
            note(exchange.scope, error)
            await exchange.reply(405, [*JSON_HEADERS, (b"allow", allow.encode())], self.error_body(error))

    async def _ask(self, exchange: Exchange) -> None:
        principal = await authenticate_scope(exchange.scope)
        if principal.user_id is None:
            raise NotAuthenticated("Conversations belong to a user: send an API key as `Authorization: Bearer KEY`.")
        await self._act(exchange, principal, principal.user_id)

    async def _act(self, exchange: Exchange, principal: Principal, owner: int) -> None:
        raise NotImplementedError

    def error_frame(self, error: GatewayError) -> bytes:
        """Without a number: it is no event of the answer, which goes on."""
        item = say.failure(error)
        return b"event: %b\ndata: %b\n\n" % (item["type"].encode(), orjson.dumps(item))


class Conversation(ConversationRoute):
    """Asks, and follows the answer. Who leaves does not end it."""

    async def _act(self, exchange: Exchange, principal: Principal, owner: int) -> None:
        ask, attachments = await self._read(exchange, owner)
        keys = [value for name, value in exchange.scope["headers"] if name == b"idempotency-key"]
        if keys:
            named_by(ask, keys[-1].decode("latin-1"))
        loop, context = asyncio.get_running_loop(), copy_context()
        request_id, base = exchange.scope["g4f.request_id"], links.base_of(exchange.scope)

        def asked() -> Begun:
            """Its thread has the answer made, so that who has left or is not waited for any more leaves none behind
            that nobody makes."""
            begun = begin(principal, owner, ask, attachments)
            if begun.fresh:
                loop.call_soon_threadsafe(running.begin, begun, ask, principal, request_id, base, context=context)
            return begun

        begun = await off_the_loop(asked)
        headers = [
            *STREAM_HEADERS,
            (b"x-conversation-id", str(begun.conversation).encode()),
            (b"x-message-id", str(begun.message).encode()),
        ]
        if not begun.fresh:
            headers.append((b"idempotent-replayed", b"true"))
        if warnings := ask.warnings:
            headers.append((b"warning", b'299 g4fsite "ignored: %s"' % ", ".join(warnings).encode()))
        await follow(exchange, principal, begun.generation, begun.conversation, begun.message, 0, headers)

    async def _read(self, exchange: Exchange, owner: int) -> tuple[Ask, Parts]:
        """Raises BadRequest, and ClientLeft."""
        kind = exchange.scope["g4f.content_type"]
        if not is_multipart(kind):
            exchange.check_json()
            body = exchange.arrived()
            return parse(decode(await exchange.body() if body is None else body), owner, store.current), []
        with await read_form(kind, exchange.chunks(), Bounds(field_bytes=MAX_JSON)) as form:
            text = form.text("json")
            if text is None:
                raise missing("json")
            ask = parse(decode(text.encode()), owner, store.current)
            ask.digest += await off_the_loop(partial(pictures.digest, form), files=True)
            return ask, await pictures.received(form, owner)


class Stream(ConversationRoute):
    """The answer that is being made in a conversation, or was made last, from any event on."""

    name = "conversation.stream"
    method = "GET"
    allowed = ("GET", "HEAD", "OPTIONS")

    async def _act(self, exchange: Exchange, principal: Principal, owner: int) -> None:
        conversation, message, query = _named(exchange, owner)
        number = _after(exchange, query)
        found = await off_the_loop(partial(rows.find, owner, conversation, message))
        if exchange.scope["method"] == "HEAD":
            await exchange.reply(200, STREAM_HEADERS, b"")
            return
        if await _is_over(found, number):
            # Tells the browser's EventSource not to come back.
            await exchange.reply(204, [(b"cache-control", b"no-store")], b"")
            return
        headers = [*STREAM_HEADERS, (b"x-message-id", str(found.message_id).encode())]
        await follow(exchange, principal, found.pk, conversation, found.message_id, number, headers)


class Stop(ConversationRoute):
    """Stops the answers that are being made in a conversation, wherever they are made."""

    name = "conversation.stop"

    async def _act(self, exchange: Exchange, principal: Principal, owner: int) -> None:
        conversation, message, _ = _named(exchange, owner)
        found = await off_the_loop(partial(rows.request_stop, owner, conversation, message))
        for generation, _ in found:
            running.stop(generation)
        body = orjson.dumps({"stopped": [str(message) for _, message in found]})
        await exchange.reply(200, [*JSON_HEADERS], body)


def begin(principal: Principal, owner: int, ask: Ask, attachments: Parts) -> Begun:
    """In a thread: what is new becomes rows, and only then is anybody asked. Raises GatewayError, MediaError.

    Files that came with it and belong to no message then are dropped.
    """
    files = [*attachments]
    try:
        # Who leaves an answer keeps it going: without a bound it could be thousands.
        most = 0 if principal.is_staff else settings.MAX_STREAMS_PER_KEY
        files += pictures.keep_written(ask.messages, owner, ask.conversation_id)
        begun = rows.begin(owner, ask, files, keeper.worker, most)
    except (GatewayError, MediaError):
        pictures.drop(files, owner)
        raise
    if not begun.fresh:
        pictures.drop(files, owner)
    return begun


def _named(exchange: Exchange, owner: int) -> tuple[UUID, UUID | None, dict[str, list[str]]]:
    """The conversation of the path and the message of the query. Raises BadRequest."""
    query = parse_qs(exchange.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    label = exchange.scope["url_route"]["kwargs"]["conversation"]
    if len(label) > 200:
        raise rows.not_found()
    text = query.get("message_id", [""])[-1]
    try:
        message = UUID(text) if text else None
    except ValueError:
        raise rows.not_found() from None
    return conversation_id(label, owner), message, query


def _after(exchange: Exchange, query: dict[str, list[str]]) -> int:
    """The number of the last event that the caller has. Raises BadRequest."""
    text, param = query.get("after", [""])[-1], "after"
    for name, value in exchange.scope["headers"]:
        if name == b"last-event-id" and value:
            text, param = value.decode("latin-1"), "Last-Event-ID"
    if not text:
        return 0
    if len(text) > 15 or not text.isascii() or not text.isdigit():
        raise ill_typed(param, "the id of an event, a number")
    return int(text)


async def follow(
    exchange: Exchange,
    principal: Principal,
    generation: UUID,
    conversation: UUID,
    message: UUID,
    after: int,
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Sends every event after this number, once and in order, until the answer is over."""
    owner = principal.user_id
    assert owner is not None
    find = partial(rows.find, owner, conversation, message)
    told = after
    with watching(generation):
        try:
            with exchange.watched() as watch, _entered(Live(principal, watch.loop, watch.cut, False)):
                exchange.expect_stream(headers)
                async with aclosing(events_after(generation, after, find)) as events:
                    async for number, data in events:
                        await exchange.write(data)
                        told = number
                await exchange.end_stream(b"")
        except ServerStopping:
            if not exchange.started or exchange.over:
                raise
            await exchange.end_stream(reconnect_event(str(told)))


@contextmanager
def watching(generation: UUID) -> Iterator[None]:
    """An answer that nobody watches ends after a while."""
    runner = running.runner(generation)
    if runner is not None:
        runner.enter()
    try:
        yield
    finally:
        if runner is not None:
            runner.leave()


@contextmanager
def _entered(live: Live) -> Iterator[None]:
    """Ends with the caller's right. The stream that counts against a key's limit is the answer's own."""
    answers.enter(live)
    try:
        yield
    finally:
        answers.leave(live)


Find = Callable[[], Generation]


async def events_after(generation: UUID, after: int, find: Find) -> AsyncGenerator[tuple[int, bytes], None]:
    """From this process' log, else from the one that the workers share, else from the database."""
    told = after
    log = running.log(generation)
    if log is not None:
        async with aclosing(log.follow(after)) as frames:
            async for found in frames:
                yield found
        return
    shared = running.shared()
    # Of one that has just begun there may be nothing to read yet.
    if shared is not None and (await _is_running(generation) or await shared.exists(generation)):
        ended = False
        async with aclosing(shared.follow(generation, after, partial(_is_running, generation))) as frames:
            async for number, data in frames:
                told, ended = number, _is_end(data)
                yield number, data
        if ended:
            return
    yield await _last(generation, told, find)


def _is_end(data: bytes) -> bool:
    return data.rfind(b"\n\nevent: end\n") >= 0 or data.startswith(b"event: end\n")


async def _is_over(found: Generation, number: int) -> bool:
    """Whether this was its last event. The row knows the least number that it can have."""
    log = running.log(found.pk)
    if log is not None:
        return log.ended and number >= log.seq
    if found.state in RUNNING or not 0 < found.seq <= number:
        return False
    shared = running.shared()
    return shared is None or number >= await shared.last(found.pk)


async def _is_running(generation: UUID) -> bool:
    """While nobody can say, it is taken to be."""
    try:
        return await off_the_loop(partial(rows.is_running, generation))
    except Unavailable:
        return True


async def _last(generation: UUID, told: int, find: Find) -> tuple[int, bytes]:
    """The answer as it is kept, once it is over: there is no log of it any more, or none that can be reached."""
    while await _is_running(generation):  # noqa: ASYNC110 - another process moves the row
        await asyncio.sleep(POLL_SECONDS)
    row = await off_the_loop(find)
    # Who is cut off between the two has not seen the end.
    number = max(told + 1, row.seq)
    return number, frame(number - 1, rows.snapshot(row)) + frame(number, rows.ended(row.state))


ask, stream, stop = Conversation(), Stream(), Stop()
