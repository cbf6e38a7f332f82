"""What adapters share for pictures: results of any form as OpenAI's body, and pictures asked for in a chat."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from django.conf import settings

from gateway.adapters.base import Adapter
from gateway.adapters.calls import lacking
from gateway.chat import ChatRequest
from gateway.errors import ContentRefused, UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Event, Finished, MediaOutput, RawReply, TextDelta, Usage
from gateway.pictures import EXTENSIONS, PictureRequest
from gateway.targets import Target
from gateway.tokens import carried, count, summed
from gateway.upstream import Upstream
from media.fetch import FetchError, Rules, fetch
from media.kinds import kind_of

# How many requests one caller's request becomes at a time, at providers that draw one picture each.
AT_ONCE = 4
URL_SAFE = bytes.maketrans(b"-_", b"+/")
MAX_TOLD = 300
# Those that models of chats draw in.
RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture: `data` is base64 of a PNG, JPEG, WebP or GIF."""

    data: str = field(repr=False)
    mime_type: str
    revised_prompt: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """An answer. `usage` is what the provider counted, `told` what its body says beside the pictures."""

    pictures: Sequence[Drawn]
    usage: Usage | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


class Draws(Protocol):
    """An adapter whose protocol has pictures."""

    async def draw(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        """At least one picture. Raises UpstreamError."""


class StreamsPictures(Protocol):
    """One that can also show them while they are made."""

    def draw_stream(self, upstream: Upstream, target: Target, request: PictureRequest) -> AsyncGenerator[Event, None]:
        """OpenAI's typed events as RawReply each, and Usage. Raises UpstreamError, and NotStreamed before the first."""


class NotStreamed(Exception):
    """This target shows no pictures while they are made; nothing was paid, and it may draw all the same."""


class Pictures:
    """An adapter's pictures, in the place of its chats."""

    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter: Any = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        assert isinstance(chat, PictureRequest)
        drawing = await self._drawn(upstream, target, chat)
        return RawReply(b"", _body(drawing)), _used(chat, drawing)

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        """Where the provider shows nothing before the end, there is only the end."""
        assert isinstance(chat, PictureRequest)
        if hasattr(self._adapter, "draw_stream"):
            streaming: StreamsPictures = self._adapter
            try:
                async with aclosing(streaming.draw_stream(upstream, target, chat)) as events:
                    async for event in events:
                        yield event
            except NotStreamed:
                pass
            else:
                return
        for event in completed(chat, await self._drawn(upstream, target, chat)):
            yield event

    async def _drawn(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        if not hasattr(self._adapter, "draw"):
            raise lacking(target, "pictures")
        drawing: Draws = self._adapter
        return await drawing.draw(upstream, target, request)


def completed(request: PictureRequest, drawing: Drawing) -> Sequence[Event]:
    """The typed events that end a stream, one for each picture, and what was used."""
    usage = _used(request, drawing)
    kind = "image_edit.completed" if request.pictures else "image_generation.completed"
    size = request.size()
    told = {
        "size": f"{size[0]}x{size[1]}" if size else "auto",
        "quality": request.body.get("quality") or "auto",
        "background": request.body.get("background") or "auto",
        **{name: drawing.told[name] for name in ("size", "quality", "background") if drawing.told.get(name)},
    }
    said = drawing.told.get("usage")
    events = [
        RawReply(
            b"",
            {
                "type": kind,
                "b64_json": picture.data,
                "created_at": int(time.time()),
                **told,
                "output_format": picture.mime_type.partition("/")[2],
                "usage": said if isinstance(said, dict) else usage_body(usage),
            },
        )
        for picture in drawing.pictures
    ]
    return *events, usage


def usage_body(usage: Usage) -> dict[str, Any]:
    """In the form that OpenAI has for pictures."""
    return {
        "total_tokens": usage.total_tokens,
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "input_tokens_details": {"text_tokens": usage.prompt_tokens, "image_tokens": 0},
    }


def read_usage(value: Any) -> Usage | None:
    """OpenAI's usage of pictures; None when it does not hold what it should."""
    if not isinstance(value, dict):
        return None
    asked, given = count(value.get("input_tokens")), count(value.get("output_tokens"))
    if asked is None:
        asked = count(value.get("prompt_tokens"))
    if given is None:
        given = count(value.get("completion_tokens"))
    return None if asked is None and given is None else Usage(asked or 0, given or 0)


def _used(request: PictureRequest, drawing: Drawing) -> Usage:
    made = len(drawing.pictures)
    if drawing.usage is None:
        return Usage(request.estimated_tokens(), 0, estimated=True, images=made)
    return replace(drawing.usage, images=made)


def _body(drawing: Drawing) -> dict[str, Any]:
    created = drawing.told.get("created")
    body: dict[str, Any] = {
        "created": created if type(created) is int else int(time.time()),
        "data": [_item(picture) for picture in drawing.pictures],
        "output_format": drawing.pictures[0].mime_type.partition("/")[2],
    }
    body |= {
        name: value for name, value in drawing.told.items() if value is not None and name not in ("created", "data")
    }
    if body["output_format"] not in ("png", "webp", "jpeg"):
        del body["output_format"]
    if drawing.usage is not None and not isinstance(body.get("usage"), dict):
        body["usage"] = usage_body(drawing.usage)
    return body


def _item(picture: Drawn) -> dict[str, Any]:
    item = {"b64_json": picture.data}
    return {**item, "revised_prompt": picture.revised_prompt} if picture.revised_prompt else item


def picture_of(target: Target, data: str, revised_prompt: str = "") -> Drawn:
    """Base64, bare or as a data: URL, if it begins as a picture does. Raises UpstreamBroken."""
    if data[:5].lower() == "data:":
        data = data.partition(",")[2]
    if "\n" in data or "-" in data or "_" in data or len(data) % 4:
        # As some servers write it.
        raw = data.encode("ascii", "replace").translate(URL_SAFE, b" \t\r\n").rstrip(b"=")
        data = (raw + b"=" * (-len(raw) % 4)).decode()
    try:
        kind = kind_of(binascii.a2b_base64(data[:88], strict_mode=True))
    except (binascii.Error, ValueError):
        kind = None
    if kind not in EXTENSIONS:
        raise UpstreamBroken(f"{target.provider} sent a picture that cannot be read.")
    return Drawn(data, kind, revised_prompt)


def picture_from(target: Target, data: bytes, revised_prompt: str = "") -> Drawn:
    """Bytes, if they begin as a picture does. Raises UpstreamBroken."""
    kind = kind_of(data[:64])
    if kind not in EXTENSIONS:
        raise UpstreamBroken(f"{target.provider} sent a picture that cannot be read.")
    return Drawn(base64.b64encode(data).decode(), kind, revised_prompt)


async def fetched(upstream: Upstream, target: Target, url: str, revised_prompt: str = "") -> Drawn:
    """The picture at an address that a provider gave. Raises UpstreamError.

    Its own server is read as it is always read; every other one as a stranger's.
    """
    if url[:5].lower() == "data:":
        return picture_of(target, url, revised_prompt)
    own = await upstream.get_own(target, url)
    if own is not None:
        if own.status != 200:
            raise UpstreamBroken(f"{target.provider} made a picture that cannot be fetched (status {own.status}).")
        return picture_from(target, own.body, revised_prompt)
    rules = Rules(
        ports=settings.FETCH_PORTS,
        max_bytes=settings.MAX_FILE_BYTES,
        seconds=settings.FETCH_SECONDS,
        private_hosts=settings.FETCH_PRIVATE_HOSTS,
    )
    try:
        found = await fetch(url, EXTENSIONS, rules)
    except FetchError as error:
        raise UpstreamBroken(f"{target.provider} made a picture that cannot be fetched: {error.message}") from None
    return picture_from(target, found.data, revised_prompt)


async def repeated(request: PictureRequest, once: Callable[[int], Awaitable[Drawing]]) -> Drawing:
    """As many pictures as were asked for, of a provider that draws fewer at a time; `once` is told how many it has
    been asked before. Raises UpstreamError, with what the others used."""
    gate, done = asyncio.Semaphore(AT_ONCE), {}

    async def one(number: int) -> None:
        async with gate:
            done[number] = await once(number)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(request.count):
                group.create_task(one(number))
    except ExceptionGroup as failed:
        error = failed.exceptions[0]
        if isinstance(error, UpstreamError):
            carried(error, [_used(request, drawing) for drawing in done.values()])
        raise error from None
    found = [done[number] for number in range(request.count)]
    used = [drawing.usage for drawing in found if drawing.usage is not None]
    pictures = [picture for drawing in found for picture in drawing.pictures]
    told = found[0].told
    if len(found) > 1:
        # What was used is said of all together.
        told = {name: value for name, value in told.items() if name != "usage"}
    return Drawing(pictures, summed(used) if used else None, told)


async def drawn_in_chat(
    adapter: Adapter, upstream: Upstream, target: Target, request: PictureRequest, more: Mapping[str, Any]
) -> Drawing:
    """Asks a model that draws in its answers. `more` are fields of the chat's body. Raises UpstreamError."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}]
    given = [*request.pictures, *([request.mask] if request.mask else [])]
    for picture in given:
        data = base64.b64encode(picture.data).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:{picture.mime_type};base64,{data}"}})
    if request.mask:
        parts.append({"type": "text", "text": "The last picture is a mask: change only what is transparent in it."})
    body = {"messages": [{"role": "user", "content": parts}], "modalities": ["text", "image"], **more}
    chat = ChatRequest(request.model, None, False, False, body, raw=False)
    events = await adapter.complete(upstream, target, chat)
    usage = next((event for event in events if isinstance(event, Usage)), None)
    made = [event for event in events if isinstance(event, MediaOutput) and event.mime_type.startswith("image/")]
    if not made:
        error = _none_made(target, events)
        error.usage = usage
        raise error
    try:
        return Drawing([picture_of(target, event.data) for event in made], usage)
    except UpstreamBroken as error:
        error.usage = usage
        raise


def nearest(request: PictureRequest, ratios: Sequence[str]) -> str | None:
    """Of these, such as 16:9, the one that is most like what was asked for; None when nothing was."""
    asked = request.ratio()
    if asked is None:
        return None
    wanted = math.log(asked[0] / asked[1])
    return min(ratios, key=lambda ratio: abs(math.log(_quotient(ratio)) - wanted))


def _quotient(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)


def image_config(request: PictureRequest) -> dict[str, Any]:
    """The fields of a chat that say how a picture is to be (OpenRouter's form)."""
    config = {"aspect_ratio": nearest(request, RATIOS), "image_size": resolution(request)}
    said = {name: value for name, value in config.items() if value}
    seed = request.body.get("seed")
    return {**({"image_config": said} if said else {}), **({"seed": seed} if seed is not None else {})}


def resolution(request: PictureRequest) -> str | None:
    """1K, 2K or 4K, where the caller said one of them."""
    said = str(request.body.get("resolution") or request.body.get("size") or "").upper()
    return said if said in ("1K", "2K", "4K") else None


def _none_made(target: Target, events: Sequence[Event]) -> UpstreamError:
    """The model answered without a picture: refused, or in words."""
    said = " ".join("".join(event.text for event in events if isinstance(event, TextDelta)).split())[:MAX_TOLD]
    if any(isinstance(event, Finished) and event.reason == "content_filter" for event in events):
        return ContentRefused(f"{target.provider} refused to make this picture.{f' {said}' if said else ''}")
    told = f" It said: {said}" if said else ""
    return UpstreamRejected(f"The model {target.public_id!r} made no picture.{told}", code="no_picture", param="prompt")
