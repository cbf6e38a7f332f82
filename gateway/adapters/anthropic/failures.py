"""Anthropic's errors, by the type that it names (its API reference, "Errors")."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.adapters.failures import from_reply, masked, waiting
from gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.targets import Target
from gateway.upstream import Reply

TOO_LONG = ("prompt is too long", "exceed context limit", "exceeds the context")
# Sent with 400 though it is the operator's matter.
NO_CREDIT = "credit balance is too low"
REJECTED = {"invalid_request_error": 400, "not_found_error": 404, "request_too_large": 413}
REFUSED = ("authentication_error", "permission_error", "billing_error")


def from_status(target: Target, reply: Reply) -> UpstreamError:
    """The error for an answer whose status is not 200."""
    if reply.status == 529:
        return _overloaded(target, waiting(reply.header(b"retry-after"), reply.header(b"retry-after-ms")))
    kind = from_reply(target, reply)
    if isinstance(kind, UpstreamRejected):
        said = _message(reply.body)
        if NO_CREDIT in said:
            return _refused(target)
        _mark_too_long(kind, said)
    return kind


def from_error(target: Target, error: Any) -> UpstreamError:
    """The error for an `error` object inside an answer that had begun with status 200."""
    kind, said = "", ""
    if isinstance(error, dict):
        kind, said = str(error.get("type") or ""), str(error.get("message") or "")
    if kind == "overloaded_error":
        return _overloaded(target, None)
    if kind == "rate_limit_error":
        return UpstreamLimited(f"{target.provider} is limiting requests.")
    if kind == "timeout_error":
        return UpstreamTimeout(f"{target.provider} timed out.")
    if kind in REFUSED or NO_CREDIT in said:
        return _refused(target)
    if kind in REJECTED:
        text = masked(said, target.credential) or f"{target.provider} refused the request."
        rejected = UpstreamRejected(text, status=REJECTED[kind])
        _mark_too_long(rejected, said)
        return rejected
    return UpstreamBroken(f"{target.provider} reported an error while answering.")


def _overloaded(target: Target, retry_after: float | None) -> UpstreamError:
    return UpstreamBroken(
        f"{target.provider} is overloaded.",
        status=503,
        type="service_unavailable_error",
        code="overloaded",
        retry_after=retry_after,
    )


def _refused(target: Target) -> UpstreamError:
    return UpstreamRefused(f"{target.provider} refused the gateway's credential.", should_retry=False)


def _mark_too_long(error: UpstreamError, said: str) -> None:
    """Clients look for OpenAI's code to shorten what they send."""
    if any(text in said for text in TOO_LONG):
        error.code, error.param = "context_length_exceeded", "messages"


def _message(body: bytes) -> str:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = decoded.get("error") if isinstance(decoded, dict) else None
    return str(error.get("message") or "") if isinstance(error, dict) else ""
