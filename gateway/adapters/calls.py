"""What adapters share for requests that are no chats: vectors as OpenAI's body, in the form that was asked for."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway.adapters.base import Adapter
from gateway.calls import EMBEDDINGS, CallRequest
from gateway.chat import ChatRequest
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamRejected
from gateway.events import Event, RawReply, Usage
from gateway.targets import Target
from gateway.tokens import count
from gateway.upstream import Upstream


class Calling(Protocol):
    """An adapter whose protocol has OpenAI's routes beside chat."""

    async def call(self, upstream: Upstream, target: Target, request: CallRequest) -> Sequence[Event]:
        """A RawReply in the canonical form, and Usage. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector for each input, in their order. `tokens` is what the provider counted, if it did."""

    vectors: Sequence[Sequence[float]]
    tokens: int | None = None


class Embedding(Protocol):
    """An adapter whose protocol has embeddings in a form of its own."""

    async def embed(self, upstream: Upstream, target: Target, request: CallRequest) -> Embedded:
        """Reads `request.inputs()` and `request.body["dimensions"]`. Raises UpstreamError."""


class Calls:
    """An adapter's answers to calls, in the place of its chats."""

    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter: Any = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        assert isinstance(chat, CallRequest)
        if hasattr(self._adapter, "call"):
            calling: Calling = self._adapter
            return await calling.call(upstream, target, chat)
        if chat.operation == EMBEDDINGS and hasattr(self._adapter, "embed"):
            embedding: Embedding = self._adapter
            return embeddings_of(target, chat, await embedding.embed(upstream, target, chat))
        raise lacking(target, chat.operation)

    def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Any:
        raise TypeError("a call is never streamed")


def lacking(target: Target, operation: str) -> UpstreamRejected:
    return UpstreamRejected(f"{target.provider} offers no {operation}.", code="unsupported_operation", param="model")


def texts_of(target: Target, request: CallRequest) -> list[str]:
    """The inputs, for protocols that know texts alone. Raises UnsupportedParameter for tokens."""
    inputs = request.inputs()
    if not all(isinstance(item, str) for item in inputs):
        raise UnsupportedParameter(target.provider, "input", "tokens cannot be embedded, send texts.")
    return list(inputs)


def vectors_of(target: Target, found: Any, expected: int) -> list[list[float]]:
    """What a provider sent as vectors, checked. Raises UpstreamBroken unless it is one for each input."""
    vectors = found if isinstance(found, list) else []
    if len(vectors) != expected or not all(isinstance(vector, list) and vector for vector in vectors):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a list of embeddings.")
    return vectors


def embeddings_of(target: Target, request: CallRequest, found: Embedded) -> Sequence[Event]:
    tokens = found.tokens
    usage = Usage(request.estimated_tokens() if tokens is None else tokens, 0, estimated=tokens is None)
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(found.vectors)]
    body = {"object": "list", "data": data, "model": target.public_id, "usage": usage_body(usage)}
    shaped(target, request, body)
    return RawReply(orjson.dumps(body), body), usage


def usage_body(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}


def used(request: CallRequest, body: Mapping[str, Any]) -> Usage:
    """OpenAI's and Jina's usage, else an estimate."""
    said = body.get("usage")
    if isinstance(said, dict):
        prompt, total = count(said.get("prompt_tokens")), count(said.get("total_tokens"))
        tokens = prompt if prompt is not None else total
        if tokens is not None:
            return Usage(tokens, 0)
    return Usage(request.estimated_tokens(), 0, estimated=True)


def shaped(target: Target, request: CallRequest, body: dict[str, Any]) -> bool:
    """Brings the vectors into the order of the inputs and the form that was asked for; True when that changed them.

    Raises UpstreamBroken unless there is one for each input.
    """
    items = body.get("data")
    if not isinstance(items, list) or len(items) != len(request.inputs()) or not all(map(_is_item, items)):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a list of embeddings.")
    changed = _ordered(target, items)
    encode = _base64 if request.body.get("encoding_format") == "base64" else _floats
    for item in items:
        try:
            vector = encode(item["embedding"])
        except (TypeError, ValueError, OverflowError, binascii.Error):
            raise UpstreamBroken(f"{target.provider} sent an embedding that cannot be read.") from None
        if vector is not item["embedding"]:
            item["embedding"], changed = vector, True
        changed = item.setdefault("object", "embedding") != "embedding" or changed
    return changed


def _is_item(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("embedding"), (list, str))


def _ordered(target: Target, items: list[dict[str, Any]]) -> bool:
    places = [item.get("index") for item in items]
    expected = list(range(len(items)))
    if places == expected:
        return False
    if all(place is None for place in places):
        for place, item in enumerate(items):
            item["index"] = place
        return True
    if any(type(place) is not int for place in places) or sorted(places) != expected:  # type: ignore[type-var]
        raise UpstreamBroken(f"{target.provider} sent embeddings whose order cannot be told.")
    items.sort(key=lambda item: item["index"])
    return True


def _base64(vector: Any) -> str:
    """32-bit floats, the lowest byte first."""
    if isinstance(vector, str):
        array("f", base64.b64decode(vector, validate=True))
        return vector
    packed = array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()


def _floats(vector: Any) -> list[float]:
    if isinstance(vector, str):
        packed = array("f", base64.b64decode(vector, validate=True))
        if sys.byteorder == "big":
            packed.byteswap()
        return packed.tolist()
    # Raises TypeError for what is no number, ten times as fast as looking at each.
    array("d", vector)
    return vector  # type: ignore[no-any-return]
