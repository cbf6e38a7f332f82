"""POST /v1/images/generations and /v1/images/edits, with their older names, and the same under /api/{provider}."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import orjson
from django.conf import settings

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError
from gateway.events import Event, Failed, RawReply, Started, Usage
from gateway.idempotency import HEADER, Asked, Given, enter, key_in
from gateway.limiter import limiter, limits_of
from gateway.limits import REQUESTS
from gateway.nested import rewritten
from gateway.pictures import EXTENSIONS, IMAGES, MAX_INPUTS, Picture, PictureRequest
from gateway.surfaces import idempotent, kept
from gateway.surfaces.exchange import STREAM_HEADERS, Exchange
from gateway.surfaces.multipart import Bounds, is_multipart, read_form
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import priced
from gateway.surfaces.openai.errors import error_object, limit_headers
from gateway.surfaces.openai.picture_parser import (
    inline_picture,
    parse_edit,
    parse_generation,
    picture_of,
    read_form_off_the_loop,
)
from gateway.surfaces.pipeline import JSON_HEADERS, PlainEncoder, StreamEncoder
from gateway.targets import Target
from gateway.usage import Tally
from media.errors import MediaError
from media.fetch import Budget, FetchError, Rules, fetch
from media.links import base_of

Cost = Callable[[Usage], float | None]
# What is kept for another time: a good body, a stream, or the body of an error.
REPLY, STREAM, FAILURE = "reply", "stream", "failure"
# Beside the pictures and the mask a form has few fields.
BOUNDS = partial(Bounds, files=MAX_INPUTS + 1 + 33, fields=1000)


class PictureReply:
    """One body: OpenAI's, with who made it. `url` stands where the caller wants addresses."""

    cost: Cost | None = None

    def __init__(self, request: PictureRequest) -> None:
        self.usage: Usage | None = None
        self.provider = self.model = ""
        self._request = request
        self._body: dict[str, Any] = {}
        # Of files that were kept; None for one that was not.
        self._names: list[str | None] = []
        self._written = b""

    def take(self, event: Event) -> None:
        match event:
            case Started(provider, model):
                self.provider, self.model = provider, model
            case RawReply(_, body):
                self._body = body
            case Usage():
                self.usage = event
            case Failed(error):
                raise error
            case _:
                pass

    @property
    def pictures(self) -> list[str]:
        """In base64."""
        return [item["b64_json"] for item in self._body["data"]]

    def address(self, names: list[str | None], base: str = "") -> None:
        """Puts addresses of files in the place of the pictures; one without is told as a data: URL."""
        self._names = names
        kind = f"image/{self._body.get('output_format') or 'png'}"
        for item, name in zip(self._body["data"], names, strict=True):
            data = item.pop("b64_json")
            item["url"] = kept.address(name, base) or f"data:{kind};base64,{data}"

    def body(self) -> bytes:
        told = self._body.get("usage")
        data = [{name: value for name, value in item.items() if value is not None} for item in self._body["data"]]
        body = {**self._body, "data": data, "model": self.model, "provider": self.provider}
        if self.cost is not None and self.usage is not None:
            body["usage"] = priced(told if isinstance(told, dict) else {}, self.usage, self.cost)
        self._written = rewritten(body)
        return self._written

    def record(self) -> bytes:
        """The body that was written, for another time, when its addresses will be over."""
        return orjson.dumps(self._names) + b"\n" + self._written


def written_again(record: bytes, base: str) -> bytes:
    """The body of a record with new addresses."""
    names, _, body = record.partition(b"\n")
    found = orjson.loads(names)
    if not any(found):
        return body
    again = orjson.loads(body)
    for item, name in zip(again["data"], found, strict=True):
        item["url"] = kept.address(name, base) or item["url"]
    return rewritten(again)


class PictureStream:
    """OpenAI's typed events. Pictures come as base64, whatever was asked: the events have no word for addresses."""

    cost: Cost | None = None

    def __init__(self, *, records: bool = False) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        # The frames that end something, for whoever asks again: what was seen before them is not.
        self._records = records
        self._ends: list[bytes] = []
        self.failed = False
        # Pictures that came to their end.
        self.made = 0
        # The end of the last picture, while it waits for what it is to say of its cost.
        self._last: dict[str, Any] | None = None

    def encode(self, event: Event) -> bytes:
        match event:
            case RawReply(_, body):
                self.chunks += 1
                ends = str(body.get("type")).endswith(".completed")
                self.made += ends
                before, self._last = self._closing(), body if ends and self.cost is not None else None
                return before if self._last is body else before + self._frame(body, ends=ends)
            case Usage():
                self.usage = event
                return self._closing()
            case Failed(error):
                self.failed = True
                return self._closing() + self._frame({"type": "error", **error_object(error)}, ends=True)
            case _:
                return b""

    def end(self) -> bytes:
        return self._closing()

    def record(self) -> bytes:
        return b"".join(self._ends)

    def _frame(self, body: dict[str, Any], *, ends: bool) -> bytes:
        data = frame(body)
        if ends and self._records:
            self._ends.append(data)
        return data

    def _closing(self) -> bytes:
        last, self._last = self._last, None
        if last is None:
            return b""
        if self.cost is not None and self.usage is not None:
            told = last.get("usage")
            last = {**last, "usage": priced(told if isinstance(told, dict) else {}, self.usage, self.cost)}
        return self._frame(last, ends=True)


def frame(body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(body.get("type") or "message").encode(), rewritten(body))


class Images(OpenAISurface):
    """Pictures from a text."""

    name = operation = IMAGES

    async def read(self, exchange: Exchange, parameters: dict[str, Any]) -> ChatRequest:
        key = key_in(exchange.scope["headers"])
        exchange.check_json()
        return await self._keyed(key, await exchange.body(), parameters)

    async def _keyed(self, key: str | None, raw: bytes, parameters: dict[str, Any]) -> PictureRequest:
        request = self.parse(raw, parameters)
        if key is not None:
            request.key, request.digest = key, await idempotent.of_json(raw, _where(parameters))
        return request

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> PictureRequest:
        return parse_generation(raw, parameters.get("provider"))

    async def _serve(
        self, exchange: Exchange, principal: Principal, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
    ) -> None:
        request = cast(PictureRequest, chat)
        if not request.key:
            await super()._serve(exchange, principal, chat, targets, tally)
        elif principal.user_id is None:
            # Callers without a user are different people who cannot be told apart.
            request.warnings = (*request.warnings, HEADER)
            await super()._serve(exchange, principal, chat, targets, tally)
        else:
            found = await enter(Asked(principal.user_id, self.name, request.key, request.digest))
            if isinstance(found, Given):
                await self._count(exchange, principal, request)
                await self._give_again(exchange, request, found)
                return
            async with found as request.claim:
                await self._serve_once(exchange, principal, request, targets, tally)

    async def _serve_once(
        self,
        exchange: Exchange,
        principal: Principal,
        request: PictureRequest,
        targets: tuple[Target, ...],
        tally: Tally,
    ) -> None:
        """To its end, also when the caller is gone: it may come back for it with the key."""
        exchange.stays = True
        try:
            await super()._serve(exchange, principal, request, targets, tally)
        except GatewayError as error:
            await self._keep_failure(exchange, request, tally, error)
            raise
        stream = exchange.encoder
        if isinstance(stream, PictureStream) and stream.failed:
            await self._keep_failure(exchange, request, tally, None)

    async def _keep_failure(
        self, exchange: Exchange, request: PictureRequest, tally: Tally, error: GatewayError | None
    ) -> None:
        """Only what may have been paid is not done again; `error` None: the stream has it."""
        paid = tally.unsure or tally.total() is not None
        if request.claim is None or not paid or exchange.cut is not None:
            return
        if exchange.started:
            last = self.error_frame(error) if error is not None else b""
            await request.claim.keep(200, STREAM, exchange.encoder.record() + last)
        elif error is not None:
            error.should_retry = False
            if error.status >= 500:
                error.named(exchange.scope["g4f.request_id"])
            await request.claim.keep(error.status, FAILURE, self.error_body(error))

    async def finished(self, chat: ChatRequest, principal: Principal, encoder: StreamEncoder | PlainEncoder) -> None:
        request = cast(PictureRequest, chat)
        if request.claim is None:
            return
        if isinstance(encoder, PictureStream):
            await request.claim.keep(200, STREAM, encoder.record())
        else:
            await request.claim.keep(200, REPLY, cast(PictureReply, encoder).record())

    async def _count(self, exchange: Exchange, principal: Principal, request: PictureRequest) -> None:
        """A request is one, whatever it is answered with; tokens are not used for it. Raises RateLimited."""
        limits = [limit for limit in limits_of(principal) if limit.kind == REQUESTS]
        if limits:
            exchange.limit_headers = limit_headers((await limiter.admit(limits, request)).standings)

    async def _give_again(self, exchange: Exchange, request: PictureRequest, given: Given) -> None:
        headers = self.answer_headers(exchange, request)
        if given.kind == REPLY:
            body = written_again(given.body, base_of(exchange.scope))
            await idempotent.give_again(exchange, given, [*JSON_HEADERS, *headers], body)
        else:
            form = STREAM_HEADERS if given.kind == STREAM else JSON_HEADERS
            await idempotent.give_again(exchange, given, [*form, *headers])

    def stream_encoder(self, chat: ChatRequest) -> PictureStream:
        return PictureStream(records=cast(PictureRequest, chat).claim is not None)

    def plain_encoder(self, chat: ChatRequest) -> PictureReply:
        return PictureReply(cast(PictureRequest, chat))

    async def completed(
        self, exchange: Exchange, chat: ChatRequest, principal: Principal, encoder: PlainEncoder
    ) -> None:
        """Keeps what was made and tells where; nothing is kept of what is handed over whole."""
        request, reply = cast(PictureRequest, chat), cast(PictureReply, encoder)
        if request.form == "b64_json":
            return
        pictures = reply.pictures
        if principal.user_id is None or not request.keep_media:
            reply.address([None] * len(pictures))
            return
        base = base_of(exchange.scope)
        about = kept.About(principal.user_id, base, request.prompt, reply.provider, reply.model)
        reply.address(await kept.names(pictures, about), base)

    def error_frame(self, error: GatewayError) -> bytes:
        return frame({"type": "error", **error_object(error)})

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        # Who saw a part of a picture has had one made.
        return Usage(cast(PictureRequest, chat).estimated_tokens(), 0, estimated=True, images=1)

    def book_partial(self, tally: Tally, encoder: StreamEncoder | None, chat: ChatRequest) -> None:
        super().book_partial(tally, encoder, chat)
        if isinstance(encoder, PictureStream) and encoder.usage is None and tally.usage is not None:
            tally.usage.images = max(1, encoder.made)


class Edits(Images):
    """Pictures from pictures and a text."""

    name = "images.edits"

    async def read(self, exchange: Exchange, parameters: dict[str, Any]) -> ChatRequest:
        if not is_multipart(exchange.scope["g4f.content_type"]):
            request = cast(PictureRequest, await super().read(exchange, parameters))
            request.base = base_of(exchange.scope)
            request.attached = True
            return request
        key = key_in(exchange.scope["headers"])
        with await read_form(exchange.scope["g4f.content_type"], exchange.chunks(), BOUNDS()) as form:
            request = await read_form_off_the_loop(form, parameters.get("provider"))
            if key is not None:
                # What a file is called goes nowhere.
                request.key, request.digest = key, await idempotent.of_form(form, _where(parameters), lambda _: "")
            return request

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> PictureRequest:
        return parse_edit(raw, parameters.get("provider"))

    async def attach(self, chat: ChatRequest, principal: Principal) -> None:
        """What is behind addresses is read once it is known that somebody may be asked."""
        request = cast(PictureRequest, chat)
        request.pictures, request.mask = await _gathered(request)


def _where(parameters: dict[str, Any]) -> str:
    return str(parameters.get("provider") or "").lower()


async def _gathered(request: PictureRequest) -> tuple[tuple[Picture, ...], Picture | None]:
    """The pictures behind the addresses of a request, one after the other. Raises BadRequest."""
    most, found = int(settings.MAX_FILE_BYTES), []
    budget = Budget(settings.FETCH_MAX_BYTES * 2)
    for at, url in enumerate(request.sources):
        is_mask = request.masked and at == len(request.sources) - 1
        param = "mask.image_url" if is_mask else f"images[{at}].image_url"
        found.append(await _picture(url, request.base, param, most, budget))
    if request.masked:
        return tuple(found[:-1]), found[-1]
    return tuple(found), None


async def _picture(url: str, base: str, param: str, most: int, budget: Budget) -> Picture:
    inline = inline_picture(url, param, most)
    if inline is not None:
        return inline
    rules = Rules(
        ports=settings.FETCH_PORTS,
        max_bytes=min(most, settings.FETCH_MAX_BYTES),
        seconds=settings.FETCH_SECONDS,
        private_hosts=settings.FETCH_PRIVATE_HOSTS,
    )
    try:
        ours = await kept.own(url, base, most)
        data = ours if ours is not None else (await fetch(url, EXTENSIONS, rules, budget)).data
    except (MediaError, FetchError) as error:
        raise BadRequest(f"Invalid '{param}': {error.message}", code="invalid_image_url", param=param) from None
    return picture_of(data, param)


images, edits = Images(), Edits()
