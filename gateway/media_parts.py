"""Pictures and sounds of a request: refused for models that take none, told by their bytes, and fetched where a
provider is to get bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from gateway.adapters import ADAPTERS
from gateway.adapters.base import Adapter, CountsTokens
from gateway.adapters.inputs import embedded, inlined, is_web, retyped, shown_type
from gateway.chat import ChatRequest
from gateway.errors import UnsupportedParameter, UpstreamRejected
from gateway.events import Event
from gateway.targets import Target
from gateway.upstream import Upstream
from media.kinds import AUDIO, IMAGES, MORE_IMAGES, PDF, TEXTS, VIDEOS

# The flag of a model without which a part cannot be sent there, and what people call such a part.
NEEDS = {"image_url": ("vision", "pictures"), "input_audio": ("audio", "sounds")}
# What may stand behind an address. Whether the provider takes it is for the provider to say.
FETCHED = {
    "image_url": IMAGES | MORE_IMAGES,
    "video_url": VIDEOS,
    "file": IMAGES | MORE_IMAGES | TEXTS | AUDIO | VIDEOS | {PDF},
}
# Anthropic's blocks with an address in them, as the parts that are fetched alike.
BLOCKS = {"image": ("image_url", "url"), "document": ("file", "file_data")}


def with_media(adapter: Adapter, target: Target, chat: ChatRequest) -> Adapter:
    """The adapter itself where there is nothing to fetch or to set right. Raises UnsupportedParameter for what the
    model takes not, and UpstreamRejected for data that is no picture and no sound."""
    if chat.plain:
        return adapter
    addresses = False
    for at, kind, part in _parts(chat):
        flag, name = NEEDS.get(kind, ("", ""))
        if flag in target.lacks:
            raise UnsupportedParameter(target.provider, at, f"the model takes no {name}.")
        addresses = addresses or _has_address(part.get(kind))
    if getattr(ADAPTERS[target.adapter], "takes_bytes", False):
        # It looks at all of them itself.
        return adapter
    if retyped(chat) is chat and not (target.fetches and addresses):
        return adapter
    return CountingFilled(adapter) if isinstance(adapter, CountsTokens) else Filled(adapter)


def _parts(chat: ChatRequest) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for number, message in enumerate(chat.body["messages"]):
        content = message.get("content")
        for position, part in enumerate(content if isinstance(content, list) else ()):
            yield f"messages[{number}].content[{position}]", str(part.get("type")), part


def _has_address(held: Any) -> bool:
    return isinstance(held, dict) and any(isinstance(value, str) and is_web(value) for value in held.values())


class Filled:
    """Puts the bytes in the place of their addresses, and their types beside them, before anything is sent."""

    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        return await self._adapter.complete(upstream, target, await filled(target, chat))

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        chat = await filled(target, chat)
        async with aclosing(self._adapter.stream(upstream, target, chat)) as events:
            async for event in events:
                yield event


class CountingFilled(Filled):
    async def count_tokens(self, upstream: Upstream, target: Target, chat: ChatRequest) -> int:
        assert isinstance(self._adapter, CountsTokens)
        return await self._adapter.count_tokens(upstream, target, await filled(target, chat))


async def filled(target: Target, chat: ChatRequest) -> ChatRequest:
    """Raises UpstreamRejected for what cannot be fetched or is of no such kind."""
    native = chat.native
    if native is not None and native.protocol == target.adapter:
        body = {**native.body, "messages": _retyped(native.body["messages"])}
        if target.fetches:
            body = await _filled(chat, body)
        return replace(chat, native=replace(native, body=body))
    chat = retyped(chat)
    return await inlined(chat, FETCHED, keep=_stays) if target.fetches else chat


def _stays(value: str) -> bool:
    """What the request holds itself goes as it came."""
    return not is_web(value)


async def _filled(chat: ChatRequest, body: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's body with the bytes of its pictures and documents."""
    found = list(dict.fromkeys(_addresses(body["messages"])))
    parts = [{"type": kind, kind: {field: url}} for kind, field, url in found]
    asked = replace(chat, body={"messages": [{"role": "user", "content": parts}]})
    try:
        parts = (await inlined(asked, FETCHED, keep=_stays)).body["messages"][0]["content"]
    except UpstreamRejected as error:
        # The place is one of our own list, of which the caller knows nothing.
        raise UpstreamRejected(
            f"A file cannot be fetched: {error.message.partition(': ')[2]}", code=error.code
        ) from None
    sources = {url: _source(part[kind][field]) for (kind, field, url), part in zip(found, parts, strict=True)}
    return {**body, "messages": _replaced(body["messages"], sources)}


def _source(url: str) -> dict[str, Any]:
    held = embedded(url)
    assert held is not None, "what was fetched is a data: URL"
    return {"type": "base64", "media_type": held.mime_type, "data": held.data}


def _addresses(value: Any) -> Iterator[tuple[str, str, str]]:
    """Of blocks, and of those inside of results."""
    if isinstance(value, list):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, dict):
        url = _url(value)
        if url:
            yield (*BLOCKS[value["type"]], url)
        yield from _addresses(value.get("content"))


def _url(block: Mapping[str, Any]) -> str:
    source = block.get("source") if block.get("type") in BLOCKS else None
    url = source.get("url") if isinstance(source, dict) and source.get("type") == "url" else None
    return url if isinstance(url, str) and is_web(url) else ""


def _replaced(value: Any, sources: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_replaced(item, sources) for item in value]
    if not isinstance(value, dict):
        return value
    url = _url(value)
    if url:
        return {**value, "source": sources[url]}
    return {**value, "content": _replaced(value["content"], sources)} if "content" in value else value


def _retyped(value: Any) -> Any:
    """Anthropic's blocks with the type that a picture's bytes show; what is no picture was refused before."""
    if isinstance(value, list):
        return [_retyped(item) for item in value]
    if not isinstance(value, dict):
        return value
    source = value.get("source")
    if value.get("type") == "image" and isinstance(source, dict) and source.get("type") == "base64":
        return {**value, "source": {**source, **_shown(source.get("data"))}}
    return {**value, "content": _retyped(value["content"])} if "content" in value else value


def _shown(data: Any) -> dict[str, str]:
    try:
        kind = shown_type(data) if isinstance(data, str) else None
    except ValueError:
        kind = None
    return {"media_type": kind} if kind else {}
