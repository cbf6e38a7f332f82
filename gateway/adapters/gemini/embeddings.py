"""Gemini's vectors (ai.google.dev/api/embeddings, models.batchEmbedContents)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.adapters.calls import Embedded, texts_of, vectors_of
from gateway.adapters.gemini.failures import refusal
from gateway.adapters.translated import decoded, written
from gateway.calls import CallRequest
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Usage
from gateway.targets import Target
from gateway.tokens import carried, count
from gateway.upstream import Upstream

# It takes no more texts at once.
BATCH = 100
# What callers may say in Google's words, and what it must be.
OWN = {"task_type": "taskType", "title": "title"}


def resource(target: Target) -> str:
    """The model as Google names it in paths."""
    model = quote(target.upstream_model, safe="/-._~:@")
    return model if "/" in model else f"models/{model}"


async def embedded_texts(upstream: Upstream, target: Target, request: CallRequest) -> Embedded:
    """A hundred texts at a time. Raises UpstreamError, which knows what was used before it."""
    texts, options = texts_of(target, request), _options(request)
    name = target.upstream_model if "/" in target.upstream_model else f"models/{target.upstream_model}"
    vectors: list[list[float]] = []
    counted: list[int | None] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        asked = [{"model": name, "content": {"parts": [{"text": text}]}, **options} for text in batch]
        try:
            found = await _asked(upstream, target, {"requests": asked})
            vectors += vectors_of(target, _values(target, found), len(batch))
        except UpstreamError as error:
            carried(error, [Usage(tokens, 0) for tokens in counted if tokens])
            raise
        said = found.get("usageMetadata")
        counted.append(count(said.get("promptTokenCount")) if isinstance(said, dict) else None)
    tokens = [number for number in counted if number is not None]
    return Embedded(vectors, sum(tokens) if len(tokens) == len(counted) else None)


def _options(request: CallRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, theirs in OWN.items():
        value = request.body.get(name)
        if value is not None and not isinstance(value, str):
            raise UpstreamRejected(f"Invalid type for '{name}': expected a string.", code="invalid_type", param=name)
        if value:
            found[theirs] = value
    if request.body.get("dimensions") is not None:
        found["outputDimensionality"] = request.body["dimensions"]
    return found


async def _asked(upstream: Upstream, target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    reply = await upstream.call(target, f"/{resource(target)}:batchEmbedContents", written(target, body))
    if reply.status != 200:
        raise refusal(target, reply)
    return decoded(target, reply.body)


def _values(target: Target, found: Mapping[str, Any]) -> list[Any]:
    items = found.get("embeddings")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a list of embeddings.")
    return [item.get("values") for item in items]
