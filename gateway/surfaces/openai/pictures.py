"""POST /v1/images/generations and /v1/images/edits, with their older names, and the same under /api/{provider}."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from django.conf import settings

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError
from gateway.events import Event, Failed, RawReply, Started, Usage
from gateway.nested import rewritten
from gateway.pictures import EXTENSIONS, IMAGES, MAX_INPUTS, Picture, PictureRequest
from gateway.surfaces import kept
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.multipart import Bounds, is_multipart, read_form
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import priced
from gateway.surfaces.openai.errors import error_object
from gateway.surfaces.openai.picture_parser import (
    inline_picture,
    parse_edit,
    parse_generation,
    picture_of,
    read_form_off_the_loop,
)
from gateway.surfaces.pipeline import PlainEncoder, StreamEncoder
from gateway.usage import Tally
from media.errors import MediaError
from media.fetch import Budget, FetchError, Rules, fetch
from media.links import base_of

Cost = Callable[[Usage], float | None]
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

    def address(self, urls: list[str | None]) -> None:
        """Puts addresses in the place of the pictures; one without is told as a data: URL."""
        kind = f"image/{self._body.get('output_format') or 'png'}"
        for item, url in zip(self._body["data"], urls, strict=True):
            data = item.pop("b64_json")
            item["url"] = url or f"data:{kind};base64,{data}"

    def body(self) -> bytes:
        told = self._body.get("usage")
        data = [{name: value for name, value in item.items() if value is not None} for item in self._body["data"]]
        body = {**self._body, "data": data, "model": self.model, "provider": self.provider}
        if self.cost is not None and self.usage is not None:
            body["usage"] = priced(told if isinstance(told, dict) else {}, self.usage, self.cost)
        return rewritten(body)


class PictureStream:
    """OpenAI's typed events. Pictures come as base64, whatever was asked: the events have no word for addresses."""

    cost: Cost | None = None

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
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
                return before if self._last is body else before + frame(body)
            case Usage():
                self.usage = event
                return self._closing()
            case Failed(error):
                return self._closing() + frame({"type": "error", **error_object(error)})
            case _:
                return b""

    def end(self) -> bytes:
        return self._closing()

    def _closing(self) -> bytes:
        last, self._last = self._last, None
        if last is None:
            return b""
        if self.cost is not None and self.usage is not None:
            told = last.get("usage")
            last = {**last, "usage": priced(told if isinstance(told, dict) else {}, self.usage, self.cost)}
        return frame(last)


def frame(body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(body.get("type") or "message").encode(), rewritten(body))


class Images(OpenAISurface):
    """Pictures from a text."""

    name = operation = IMAGES

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> PictureRequest:
        return parse_generation(raw, parameters.get("provider"))

    def stream_encoder(self, chat: ChatRequest) -> PictureStream:
        return PictureStream()

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
        reply.address(await kept.addresses(pictures, about))

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
        provider = parameters.get("provider")
        if not is_multipart(exchange.scope["g4f.content_type"]):
            exchange.check_json()
            request = parse_edit(await exchange.body(), provider)
            request.base = base_of(exchange.scope)
            request.attached = True
            return request
        with await read_form(exchange.scope["g4f.content_type"], exchange.chunks(), BOUNDS()) as form:
            return await read_form_off_the_loop(form, provider)

    async def attach(self, chat: ChatRequest, principal: Principal) -> None:
        """What is behind addresses is read once it is known that somebody may be asked."""
        request = cast(PictureRequest, chat)
        request.pictures, request.mask = await _gathered(request)


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
