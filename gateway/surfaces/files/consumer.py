"""/backend-api/v2/files/{bucket_id} and its stream: files go in as they arrive, their text comes out as it is read.

The frames of the stream are those of g4f's clients: `{"action": "download" | "load" | "refine" | "media" |
"delete_files" | "done"}`, and `{"error": ...}` at an end that is none.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import orjson
from django.conf import settings

from gateway.authentication import Principal, authenticate_scope
from gateway.errors import BadRequest, GatewayError, NotAllowed, NotAuthenticated
from gateway.idempotency import Asked, Given, enter, key_in
from gateway.limiter import limiter, limits_of
from gateway.live import Live, answers
from gateway.surfaces import idempotent
from gateway.surfaces.exchange import STREAM_HEADERS, Exchange, Scope
from gateway.surfaces.files.listening import Listener
from gateway.surfaces.files.reading import Downloaded, Listening, Piece, Progress, read
from gateway.surfaces.files.threads import reading, storing, turn
from gateway.surfaces.multipart import Bounds, Form, Upload, read_form
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import frame
from gateway.surfaces.openai.errors import limit_headers, method_not_allowed
from gateway.surfaces.pipeline import JSON_HEADERS, note
from gateway.surfaces.throttle import NO_TOKENS
from media import buckets
from media.buckets import MAX_LABEL, Added, Incoming
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
STREAM = replace(NO_TOKENS, stream=True)
# As BCP 47 has it: `de`, `en-US`.
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,3}\Z")
Pieces = AsyncGenerator[Progress, None]


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
        streamed = method == "GET" and self._is_streamed(exchange.scope)
        admission = await limiter.admit(limits_of(principal), STREAM if streamed else NO_TOKENS)
        exchange.limit_headers = limit_headers(admission.standings)
        admission.settle(None)
        try:
            match method:
                case "POST":
                    await self._upload(exchange, principal, owner, label)
                case "DELETE":
                    await reading(partial(buckets.delete, owner, label))
                    await _answer(exchange, b'{"message":"Bucket deleted successfully"}')
                case _:
                    await self._read(exchange, principal, owner, label)
        finally:
            admission.leave()

    async def _upload(self, exchange: Exchange, principal: Principal, owner: int, label: str) -> None:
        if len(label) > MAX_LABEL or "\x00" in label:
            raise BadRequest(f"A bucket's id has at most {MAX_LABEL} characters.", param="bucket_id")
        spoken = _spoken(exchange.scope)
        kind, key = exchange.scope["g4f.content_type"], key_in(exchange.scope["headers"])
        with _revocations(principal) as revoked:
            chunks = _while_allowed(exchange.chunks(), revoked)
            form = await read_form(kind, chunks, Bounds(file_bytes=settings.MAX_FILE_BYTES))
        with form:
            files = _incoming(form)
            if key is None:
                await _answer(exchange, await _stored(principal, owner, label, files, spoken))
                return
            asked = Asked(owner, self.name, key, await idempotent.of_form(form, [label, spoken], _label))
            found = await enter(asked)
            if isinstance(found, Given):
                await idempotent.give_again(exchange, found, [*JSON_HEADERS, *exchange.limit_headers])
                return
            async with found as claim:
                body = await _stored(principal, owner, label, files, spoken)
                await claim.keep(200, "reply", body)
                await _answer(exchange, body)

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
                pieces = read(bucket, Listener(principal), refined)
                await (_stream if streamed else _text)(exchange, bucket, pieces, drop)
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


def _spoken(scope: Scope) -> str:
    """What is spoken in the recordings; empty when nothing was said of it. Raises BadRequest."""
    said = next((value for name, value in scope["headers"] if name == b"x-recognition-language"), b"")
    language = said.decode("latin-1").strip()
    if language.lower() in ("", "auto"):
        return ""
    if not LANGUAGE.match(language):
        raise BadRequest(
            "x-recognition-language is not a language such as de or en-US.", param="x-recognition-language"
        )
    return language


async def _listened(listener: Listener, added: Added) -> None:
    """Writes recordings down while there is time, so that the answer has what is said in them."""
    waiting = [
        one for one in added.documents if one.kind == Document.Kind.MEDIA and one.state == Document.State.WAITING
    ]
    if not waiting:
        return
    await listener.write_down_within(buckets.READING_SECONDS, waiting[0].bucket, waiting)
    fresh = await reading(lambda: {one.pk: buckets.fresh(one) or one for one in waiting})
    added.documents = [fresh.get(one.pk, one) for one in added.documents]


def _incoming(form: Form) -> list[Incoming]:
    """Raises BadRequest when there is none."""
    if not form.files:
        raise BadRequest(
            "No file was sent. Send files as parts named 'files'.", code="missing_required_parameter", param="files"
        )
    return [Incoming(_label(upload), upload.file) for upload in form.files]


def _label(upload: Upload) -> str:
    kind = upload.content_type.partition(";")[0].strip()
    return upload.filename or "file" + (mimetypes.guess_extension(kind) or "")


async def _stored(principal: Principal, owner: int, label: str, files: list[Incoming], spoken: str) -> bytes:
    """`spoken`: in which language. What stands in the answer of it."""
    listener = Listener(principal)
    async with turn(owner):
        added = await storing(partial(buckets.add, owner, label, files, None if listener.tired else spoken))
    await _listened(listener, added)
    return orjson.dumps({"bucket_id": label, **await reading(partial(buckets.listing, added))})


async def _answer(exchange: Exchange, body: bytes) -> None:
    await exchange.reply(200, [*JSON_HEADERS, *exchange.limit_headers], body)


async def _text(exchange: Exchange, bucket: Bucket, pieces: Pieces, drop: bool) -> None:
    async with aclosing(pieces) as progress:
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


async def _stream(exchange: Exchange, bucket: Bucket, pieces: Pieces, drop: bool) -> None:
    exchange.expect_stream([*STREAM_HEADERS, *exchange.limit_headers])
    try:
        await exchange.end_stream(await _events(exchange, bucket, pieces, drop))
    finally:
        exchange.stop_beating()


async def _events(exchange: Exchange, bucket: Bucket, pieces: Pieces, drop: bool) -> bytes:
    """Everything but the last frame, which it gives."""
    size = told = 0
    async with aclosing(pieces) as progress:
        async for step in progress:
            if not isinstance(step, Piece):
                await exchange.write(frame(_told(step)))
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


def _told(step: Downloaded | Listening) -> dict[str, Any]:
    if isinstance(step, Listening):
        return {"action": "transcribe", "filename": step.label}
    return {"action": "download", "count": step.count}


files, files_stream = Files(), FilesStream()
