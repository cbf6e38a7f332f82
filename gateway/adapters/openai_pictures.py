"""OpenAI's routes for pictures (POST /images/generations, /images/edits) at the servers that have them."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import orjson

from gateway.adapters.failures import from_object, from_reply
from gateway.adapters.openai_audio import is_events, whole
from gateway.adapters.pictures import Drawing, Drawn, NotStreamed, completed, fetched, picture_of, read_usage
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import AnswerReader, Records, decoded, relayed, written
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Event, RawReply, Usage
from gateway.pictures import Picture, PictureRequest
from gateway.targets import Target
from gateway.tokens import carried
from gateway.upstream import Reply, Upstream
from gateway.upstream.connection import MAX_REPLY_BYTES

GENERATIONS, EDITS = "/images/generations", "/images/edits"
# They always give base64, and refuse the field that asks for it.
ALWAYS_BASE64 = ("gpt-image", "chatgpt-image")
NO_ROUTE = (404, 405)
# In a refusal: the fields that make a stream of an answer.
STREAMING = re.compile(rb"\bstream\b|streaming|partial_images", re.IGNORECASE)
MAX_REFUSING = 1000
# Models that were found to refuse the field, by their row's id.
_refusing: set[int] = set()


class PictureSplitter(EventSplitter):
    """A picture comes whole in one event."""

    max_bytes = 48 * 1024 * 1024


class NoRoute(UpstreamRejected):
    """The server has no such route, as far as its answer tells."""


async def draw(upstream: Upstream, target: Target, request: PictureRequest, below: str = "") -> Drawing:
    """The routes lie `below` the base URL.

    Raises UpstreamError; NoRoute where pictures may have to be asked for in another way.
    """
    reply = await upstream.call(target, *_sent(target, request, below, base64=_knows_base64(target)))
    if reply.status in (400, 422) and b"response_format" in reply.body and _knows_base64(target):
        if len(_refusing) < MAX_REFUSING:
            _refusing.add(target.model_id)
        reply = await upstream.call(target, *_sent(target, request, below, base64=False))
    if reply.status != 200:
        raise _refusal(target, reply)
    return await _drawing(upstream, target, reply.body)


async def _drawing(upstream: Upstream, target: Target, reply: bytes) -> Drawing:
    """Raises UpstreamError, with what was paid for pictures that cannot be had."""
    body = decoded(target, reply)
    if body.get("error"):
        raise from_object(target, body["error"])
    items = body.get("data")
    usage = read_usage(body.get("usage"))
    try:
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise UpstreamBroken(f"{target.provider} sent an answer without pictures.")
        pictures = [await _picture(upstream, target, item) for item in items]
    except UpstreamError as error:
        carried(error, [usage] if usage is not None else [])
        raise
    return Drawing(pictures, usage, {name: value for name, value in body.items() if name != "data"})


async def draw_stream(upstream: Upstream, target: Target, request: PictureRequest) -> AsyncGenerator[Event, None]:
    """The typed events of a provider that shows its pictures while they are made. Raises UpstreamError, and NotStreamed
    where pictures may have to be asked for in another way."""
    stream = await upstream.open_stream(target, *_sent(target, request, "", base64=False, stream=True))
    if isinstance(stream, Reply):
        refused = _refusal(target, stream)
        if isinstance(refused, NoRoute) or (stream.status in (400, 422) and STREAMING.search(stream.body)):
            raise NotStreamed from refused
        raise refused
    if not is_events(stream):
        # Servers that know no streams of pictures answer as if none had been asked for.
        drawing = await _drawing(upstream, target, await whole(target, stream, MAX_REPLY_BYTES))
        for event in completed(request, drawing):
            yield event
        return
    async for event in relayed(stream, Records(target, TypedEvents(target), PictureSplitter())):
        yield event


class TypedEvents(AnswerReader):
    """Over at the connection's end, which the last picture must have come before."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._made = 0
        self._usage: Usage | None = None

    def take(self, name: str, data: Mapping[str, Any]) -> list[Event]:
        kind = str(data.get("type") or name)
        if kind == "error" or data.get("error"):
            raise from_object(self.target, data.get("error") or data)
        if not kind.startswith(("image_generation.", "image_edit.")):
            return []
        picture_of(self.target, data["b64_json"])
        if kind.endswith(".completed"):
            self._made += 1
            told = read_usage(data.get("usage"))
            # Of several pictures each event tells the sum so far.
            self._usage = told or self._usage
        return [RawReply(b"", {**data, "type": kind})]

    def end(self) -> list[Event]:
        if not self._made:
            super().end()
        usage = self._usage or Usage(0, 0, estimated=True)
        usage.images = self._made
        return [usage]


def _knows_base64(target: Target) -> bool:
    return target.model_id not in _refusing and not target.upstream_model.rpartition("/")[2].startswith(ALWAYS_BASE64)


def _refusal(target: Target, reply: Reply) -> Exception:
    error = from_reply(target, reply)
    if reply.status in NO_ROUTE and b"model_not_found" not in reply.body:
        return NoRoute(error.message, status=error.status, code=error.code, param=error.param)
    return error


def _sent(
    target: Target, request: PictureRequest, below: str, *, base64: bool, stream: bool = False
) -> tuple[str, bytes, str]:
    """Path, body and its type, empty for JSON."""
    body: dict[str, Any] = {**request.body, "model": target.upstream_model}
    if base64:
        body["response_format"] = "b64_json"
    if stream:
        body["stream"] = True
    else:
        # How many are to be seen before the end: a word of streams alone.
        body.pop("partial_images", None)
    if not request.pictures:
        return below + GENERATIONS, written(target, body), ""
    boundary = os.urandom(24).hex()
    data = b"".join(_parts(body, request, boundary)) + f"--{boundary}--\r\n".encode()
    return below + EDITS, data, f"multipart/form-data; boundary={boundary}"


def _parts(body: Mapping[str, Any], request: PictureRequest, boundary: str) -> Iterator[bytes]:
    for name, value in body.items():
        for text in value if isinstance(value, list) else [value]:
            label = f"{name}[]" if isinstance(value, list) else name
            yield _part(boundary, label, "", "") + _text(text) + b"\r\n"
    several = len(request.pictures) > 1
    for at, picture in enumerate(request.pictures):
        yield _file(boundary, "image[]" if several else "image", f"image-{at + 1}", picture)
    if request.mask is not None:
        yield _file(boundary, "mask", "mask", request.mask)


def _text(value: Any) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else orjson.dumps(value)


def _file(boundary: str, name: str, stem: str, picture: Picture) -> bytes:
    return _part(boundary, name, f"{stem}.{picture.extension}", picture.mime_type) + picture.data + b"\r\n"


def _part(boundary: str, name: str, filename: str, content_type: str) -> bytes:
    """A caller may name a field as it likes; what would end the header is escaped as browsers do."""
    safe = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    file = f'; filename="{filename}"' if filename else ""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{safe}"{file}\r\n{kind}\r\n'.encode(
        "utf-8", "replace"
    )


async def _picture(upstream: Upstream, target: Target, item: Mapping[str, Any]) -> Drawn:
    said = item.get("revised_prompt")
    revised = said if isinstance(said, str) else ""
    if isinstance(item.get("b64_json"), str) and item["b64_json"]:
        return picture_of(target, item["b64_json"], revised)
    if isinstance(item.get("url"), str) and item["url"]:
        return await fetched(upstream, target, item["url"], revised)
    raise UpstreamBroken(f"{target.provider} sent an answer without pictures.")
