"""OpenAI's error envelope: all four keys, on every error of every path."""

from __future__ import annotations

import math
from typing import Any

import orjson

from gateway.errors import GatewayError

SUPPORTED = (
    "POST /v1/chat/completions, GET /v1/models, GET /v1/models/{id}, GET /v1/providers, GET /v1/providers/{name}, "
    "POST /api/{provider}/chat/completions, GET /api/{provider}/models"
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
    return headers


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
