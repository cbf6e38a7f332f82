"""/backend-api/v2/files/{bucket_id} and its stream: files go in as they arrive, their text comes out as it is read.

The frames of the stream are those of g4f's clients: `{"action": "download" | "load" | "refine" | "media" |
"delete_files" | "done"}`, and `{"error": ...}` at an end that is none.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import orjson
from django.conf import settings

from gateway.authentication import Principal, authenticate_scope
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError, NotAllowed, NotAuthenticated
from gateway.limiter import limiter, limits_of
from gateway.live import Live, answers
from gateway.surfaces.exchange import STREAM_HEADERS, Exchange, Scope
from gateway.surfaces.files.reading import Downloaded, Piece, read
from gateway.surfaces.files.threads import reading, storing, turn
from gateway.surfaces.multipart import Bounds, Form, Upload, read_form
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import frame
from gateway.surfaces.openai.errors import limit_headers, method_not_allowed
from gateway.surfaces.pipeline import JSON_HEADERS, note
from media import buckets
from media.buckets import MAX_LABEL, Incoming
from media.models import Bucket, Document

TEXT_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"x-accel-buffering", b"no"),
]
# Between two frames that say how much has been loaded.
LOAD_BYTES = 256 * 1024
ON = ("true", "1", "yes", "on")
# Of the limits that of requests counts: no model reads anything here.
NO_TOKENS = ChatRequest("", None, False, False, {"messages": []})


class Files(OpenAISurface):
    """One bucket: GET, POST, DELETE. Of somebody else's it is the same as of none."""

    name = "files"
    allowed: tuple[str, ...] = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")

    async def _tell_methods(self, exchange: Exchange) -> None:
        method = exchange.scope["method"]
        allow = [(b"allow", ", ".join(self.allowed).encode())]
        if method not in self.allowed:
            error = method_not_allowed(method, ", ".join(self.allowed[:-1]))
            note(exchange.scope, error)
            await exchange.reply(405, [*JSON_HEADERS, *allow], self.error_body(error))
        elif method == "OPTIONS":
            await exchange.reply(204, allow, b"")
        else:
            await self._ask(exchange)

    async def _ask(self, exchange: Exchange) -> None:
        method = exchange.scope["method"]
        principal = await authenticate_scope(exchange.scope)
        if principal.user_id is None:
            raise NotAuthenticated("Files belong to a user: send an API key as `Authorization: Bearer KEY`.")
        label = exchange.scope["url_route"]["kwargs"]["bucket"]
        await self._act(exchange, method, principal, principal.user_id, label)

    async def _act(self, exchange: Exchange, method: str, principal: Principal, owner: int, label: str) -> None:
        admission = await limiter.admit(limits_of(principal), NO_TOKENS)
        exchange.limit_headers = limit_headers(admission.standings)
        admission.settle(None)
        match method:
            case "POST":
                await self._upload(exchange, principal, owner, label)
            case "DELETE":
                await reading(partial(buckets.delete, owner, label))
                await _answer(exchange, {"message": "Bucket deleted successfully"})
            case _:
                await self._read(exchange, principal, owner, label)

    async def _upload(self, exchange: Exchange, principal: Principal, owner: int, label: str) -> None:
        if len(label) > MAX_LABEL or "\x00" in label:
            raise BadRequest(f"A bucket's id has at most {MAX_LABEL} characters.", param="bucket_id")
        kind = exchange.scope["g4f.content_type"]
        with _revocations(principal) as revoked:
            chunks = _while_allowed(exchange.chunks(), revoked)
            form = await read_form(kind, chunks, Bounds(file_bytes=settings.MAX_FILE_BYTES))
        with form:
            files = _incoming(form)
            async with turn(owner):
                added = await storing(partial(buckets.add, owner, label, files))
        await _answer(exchange, {"bucket_id": label, **buckets.listing(added)})

    async def _read(self, exchange: Exchange, principal: Principal, owner: int, label: str) -> None:
        query = parse_qs(exchange.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        drop = query.get("delete_files", [""])[-1].lower() in ON
        if drop:
            _check_origin(exchange.scope, principal)
        refined = bool(query.get("refine_chunks_with_spacy", [""])[-1])
        bucket = await reading(partial(buckets.find, owner, label))
        streamed = self._is_streamed(exchange.scope)
        if exchange.scope["method"] == "HEAD":
            headers = STREAM_HEADERS if streamed else TEXT_HEADERS
            await exchange.reply(200, [*headers, *exchange.limit_headers], b"")
            return
        try:
            with exchange.watched() as watch, _entered(Live(principal, watch.loop, watch.cut, streamed)):
                await (_stream if streamed else _text)(exchange, bucket, refined, drop)
        except GatewayError as error:
            if streamed or not exchange.started:
                raise
            # An error among the words would be taken for words: the connection is cut instead.
            note(exchange.scope, error)
            raise ConnectionAbortedError("the text broke off") from None

    def _is_streamed(self, scope: Scope) -> bool:
        return any(name == b"accept" and b"text/event-stream" in value.lower() for name, value in scope["headers"])


class FilesStream(Files):
    """The same as server-sent events, whatever Accept says."""

    method = "GET"
    allowed = ("GET", "HEAD", "OPTIONS")

    def _is_streamed(self, scope: Scope) -> bool:
        return True


@contextmanager
def _entered(live: Live) -> Iterator[None]:
    """Raises TooManyStreams."""
    answers.enter(live)
    try:
        yield
    finally:
        answers.leave(live)


@contextmanager
def _revocations(principal: Principal) -> Iterator[list[GatewayError]]:
    """Holds the reason as soon as the caller may no longer send. Nobody is cancelled: the body is still being read."""
    revoked: list[GatewayError] = []
    with _entered(Live(principal, asyncio.get_running_loop(), revoked.append, False)):
        yield revoked


async def _while_allowed(
    chunks: AsyncGenerator[bytes, None], revoked: list[GatewayError]
) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        if revoked:
            raise revoked[0]
        yield chunk


def _check_origin(scope: Scope, principal: Principal) -> None:
    """A link on another site must not delete what a signed-in browser's user has. Raises NotAllowed."""
    sites = [value for name, value in scope["headers"] if name == b"sec-fetch-site"]
    if principal.key is None and sites != [b"same-origin"]:
        raise NotAllowed("Files are deleted by pages of this site only.", code="csrf_failed")


def _incoming(form: Form) -> list[Incoming]:
    """Raises BadRequest when there is none."""
    if not form.files:
        raise BadRequest(
            "No file was sent. Send files as parts named 'files'.", code="missing_required_parameter", param="files"
        )
    return [Incoming(upload.filename or _unnamed(upload), upload.file) for upload in form.files]


def _unnamed(upload: Upload) -> str:
    return "file" + (mimetypes.guess_extension(upload.content_type.partition(";")[0].strip()) or "")


async def _answer(exchange: Exchange, body: dict[str, Any]) -> None:
    await exchange.reply(200, [*JSON_HEADERS, *exchange.limit_headers], orjson.dumps(body))


async def _text(exchange: Exchange, bucket: Bucket, refined: bool, drop: bool) -> None:
    async with aclosing(read(bucket, refined)) as progress:
        async for step in progress:
            if isinstance(step, Piece):
                await _send_text(exchange, step.text)
    if drop:
        await storing(partial(buckets.drop_originals, bucket))
    if exchange.started:
        await exchange.end_stream(b"")
    else:
        await exchange.reply(200, [*TEXT_HEADERS, *exchange.limit_headers], b"")


async def _send_text(exchange: Exchange, text: str) -> None:
    if not exchange.started:
        # No comments here, which break the silence of streams of events: this is the text itself.
        exchange.begin([*TEXT_HEADERS, *exchange.limit_headers])
    await exchange.write(text.encode("utf-8", "replace"))


async def _stream(exchange: Exchange, bucket: Bucket, refined: bool, drop: bool) -> None:
    exchange.expect_stream([*STREAM_HEADERS, *exchange.limit_headers])
    try:
        await exchange.end_stream(await _events(exchange, bucket, refined, drop))
    finally:
        exchange.stop_beating()


async def _events(exchange: Exchange, bucket: Bucket, refined: bool, drop: bool) -> bytes:
    """Everything but the last frame, which it gives."""
    size = told = 0
    async with aclosing(read(bucket, refined)) as progress:
        async for step in progress:
            if isinstance(step, Downloaded):
                await exchange.write(frame({"action": "download", "count": step.count}))
                continue
            size += len(step.text.encode("utf-8", "replace"))
            if size - told >= LOAD_BYTES or not told or step.refined:
                told = size
                await exchange.write(frame({"action": "refine" if step.refined else "load", "size": size}))
    if size > told:
        await exchange.write(frame({"action": "load", "size": size}))
    for document in await reading(partial(buckets.documents, bucket)):
        if document.kind == Document.Kind.MEDIA:
            await exchange.write(frame({"action": "media", "filename": document.label}))
    if drop:
        await storing(partial(buckets.drop_originals, bucket))
        await exchange.write(frame({"action": "delete_files"}))
    return frame({"action": "done", "size": size})


files, files_stream = Files(), FilesStream()
