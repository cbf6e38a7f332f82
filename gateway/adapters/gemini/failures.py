"""Google's errors (google.rpc.Status as JSON): classified by their status string, not by the number of HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.adapters.failures import LONGEST_WAIT, from_reply, masked, waiting
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

# By code for errors that name no status.
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
REJECTED = {"INVALID_ARGUMENT": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404}
# A precondition is the account's: its region or its billing.
REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION"}
TOO_LONG = "exceeds the maximum number of tokens"


def refusal(target: Target, reply: Reply) -> UpstreamError:
    """The error for an answer whose status is not 200."""
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        body = None
    # A stream that was never begun holds its error in a list.
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not _status(error):
        return from_reply(target, reply)
    after = waiting(reply.header(b"retry-after"), reply.header(b"retry-after-ms"))
    failed = from_error(target, error, retry_after=after)
    # What a server says of itself is to be believed; that it took too long says nothing.
    failed.unsure = isinstance(failed, UpstreamTimeout)
    return failed


def from_error(target: Target, error: Any, retry_after: float | None = None) -> UpstreamError:
    """The error for an `error` object, whether it came with a status of HTTP or within a stream."""
    name = target.provider
    if not isinstance(error, dict):
        return UpstreamBroken(f"{name} reported an error while answering.")
    status, said = _status(error), masked(str(error.get("message") or ""), target.credential)
    wait = _delay(error) if retry_after is None else retry_after
    if status in REFUSED or _reason(error) == "API_KEY_INVALID":
        return UpstreamRefused(f"{name} refused the gateway's credential.", should_retry=False, retry_after=wait)
    if status == "RESOURCE_EXHAUSTED":
        return UpstreamLimited(said or f"{name} is limiting requests.", retry_after=wait)
    if status in REJECTED and TOO_LONG in said:
        return UpstreamRejected(said, code="context_length_exceeded", param="messages")
    if status in REJECTED:
        return UpstreamRejected(said or f"{name} refused the request.", status=REJECTED[status])
    if status == "DEADLINE_EXCEEDED":
        return UpstreamTimeout(f"{name} timed out.")
    return UpstreamBroken(f"{name} failed ({status or 'no status'}).", retry_after=wait)


def _status(error: Mapping[str, Any]) -> str:
    """One of Google's words; empty when it says none that could be one."""
    said = error.get("status")
    if isinstance(said, str) and said.isascii() and said.replace("_", "").isalpha():
        return said[:40].upper()
    code = error.get("code")
    return STATUSES.get(code, "") if isinstance(code, int) else ""


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    yield from (item for item in (details if isinstance(details, list) else ()) if isinstance(item, dict))


def _reason(error: Mapping[str, Any]) -> str:
    return next((str(item["reason"]) for item in _details(error) if item.get("reason")), "")


def _delay(error: Mapping[str, Any]) -> float | None:
    """Seconds of `RetryInfo`, which says `37s` or `1.5s`."""
    for item in _details(error):
        text = item.get("retryDelay")
        if isinstance(text, str) and text.endswith("s"):
            try:
                found = float(text[:-1])
            except ValueError:
                continue
            return min(max(0.0, found), LONGEST_WAIT) if math.isfinite(found) else None
    return None
