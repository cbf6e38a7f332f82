"""Anthropic's error envelope: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.surfaces.openai.errors import error_headers

PATH = re.compile(r"/(?:v1|api/[^/]+(?:/v1)?)/messages(?:/count_tokens)?/?\Z")
TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(error: GatewayError) -> str:
    if error.code == "overloaded":
        return "overloaded_error"
    return TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")


def error_object(error: GatewayError) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": error_type(error), "message": error.message},
        "request_id": error.request_id or None,
    }


def error_bytes(error: GatewayError) -> bytes:
    return orjson.dumps(error_object(error))


def error_frame(error: GatewayError) -> bytes:
    return b"event: error\ndata: " + error_bytes(error) + b"\n\n"


def message_error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """OpenAI's, which Anthropic's clients read too, and the id under its own name."""
    headers = error_headers(error)
    return [*headers, (b"request-id", error.request_id.encode())] if error.request_id else headers


def speaks_anthropic(path: str) -> bool:
    """Whether callers of this path expect Anthropic's envelope."""
    return PATH.match(path) is not None
