"""OpenAI's error envelope: all four keys, on every error of every path."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import orjson

from gateway.errors import GatewayError, RateLimited
from gateway.limits import Standing

SUPPORTED = (
    "POST /v1/chat/completions, GET /v1/models, GET /v1/models/{id}, GET /v1/providers, GET /v1/providers/{name}, "
    "POST /v1/completions, POST /v1/embeddings, POST /v1/moderations, POST /v1/rerank, "
    "POST /v1/images/generations (also /v1/images/generate and /v1/media/generate), POST /v1/images/edits, "
    "POST /v1/responses, POST /v1/upload_cookies, "
    "POST /v1/audio/speech, POST /v1/audio/transcriptions, POST /v1/audio/translations, "
    "GET and DELETE /v1/responses/{id}, GET /v1/responses/{id}/input_items, POST /v1/messages, "
    "POST /v1/messages/count_tokens, and the POST routes under /api/{provider}/, GET /api/{provider}/models; "
    "for pages, under /backend-api/v2/: conversation, conversations, prompts, chat, memory, files, create, synthesize, "
    "models, providers, quota, version, usage, stats, log, upload_cookies, me"
)


def error_object(error: GatewayError) -> dict[str, Any]:
    return {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code},
    }


def error_bytes(error: GatewayError) -> bytes:
    return orjson.dumps(error_object(error), option=orjson.OPT_NON_STR_KEYS)


def error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """What official clients act upon: when to come back, whether at all, and how to sign in."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after * 1000)))
    elif error.status == 503 and error.should_retry is not False:
        headers.append((b"retry-after", b"1"))
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, RateLimited):
        headers.extend(limit_headers(error.standings))
    return headers


def limit_headers(standings: Iterable[Standing]) -> list[tuple[bytes, bytes]]:
    """`x-ratelimit-limit-requests` and its like: OpenAI's names, with times such as `12ms`, `1s` and `6m0s`.

    Nobody knows when a stream ends, so for those there is no reset.
    """
    headers = []
    for standing in standings:
        kind = standing.limit.kind.encode()
        headers.append((b"x-ratelimit-limit-" + kind, b"%d" % standing.limit.amount))
        headers.append((b"x-ratelimit-remaining-" + kind, b"%d" % standing.remaining))
        if not standing.limit.is_place:
            headers.append((b"x-ratelimit-reset-" + kind, duration(standing.reset).encode()))
    return headers


def duration(seconds: float) -> str:
    milliseconds = max(0, math.ceil(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"


def unknown_url(method: str, path: str) -> GatewayError:
    shown = path if len(path) <= 200 else path[:197] + "..."
    return GatewayError(
        f"Invalid URL ({method} {shown}). This server supports: {SUPPORTED}.",
        status=404,
        type="invalid_request_error",
        code="unknown_url",
    )


def method_not_allowed(method: str, allowed: str) -> GatewayError:
    return GatewayError(
        f"Method {method} is not allowed here; use {allowed}.",
        status=405,
        type="invalid_request_error",
        code="method_not_supported",
    )
