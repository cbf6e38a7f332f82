"""A provider's refusal, classified: what may be told to the caller, and what only says that it failed."""

from __future__ import annotations

import base64
import email.utils
import math
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

from gateway.errors import (
    ContentRefused,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.targets import Target
from gateway.upstream import Reply

MAX_MESSAGE = 1024
LONGEST_WAIT = 86_400.0
CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
# Fewer characters of a credential in a row are no secret.
PIECE = 8
PERCENT = re.compile(r"%[0-9A-F]{2}")
# A caller sees these statuses with the provider's own words.
PASSED_ON = {400, 404, 409, 413, 415, 422}
# 524 is Cloudflare's: the server behind it was asked, and has not answered within 100 s.
TIMEOUTS = {408, 504, 524}
# Proxies say these of a server that may have done it: 520 is Cloudflare's of an answer that it could not read.
BY_PROXIES = {502, 520}


def seconds(value: str | None) -> float | None:
    """`Retry-After` as seconds from now: a number or an HTTP date; None when it says nothing usable."""
    if not value:
        return None
    try:
        found = float(value)
    except ValueError:
        try:
            found = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(0.0, found), LONGEST_WAIT) if math.isfinite(found) else None


def waiting(whole: str | None, milliseconds: str | None) -> float | None:
    """Seconds until the provider wants to be asked again, by its `Retry-After` and `Retry-After-Ms`."""
    try:
        exactly = float(milliseconds or "") / 1000
    except ValueError:
        exactly = math.nan
    return min(max(0.0, exactly), LONGEST_WAIT) if math.isfinite(exactly) else seconds(whole)


def masked(text: str, credential: str) -> str:
    """One line of at most a kilobyte; every 8 or more characters in a row of the credential are struck out, however
    the provider wrote them: as they are, in base64 (of `name:credential`, say), percent-encoded or in hexadecimal."""
    line = CONTROL.sub(" ", text).strip()[: MAX_MESSAGE * 4]
    if len(credential) >= PIECE:
        pieces = {form[at : at + PIECE] for form in _written(credential) for at in range(len(form) - PIECE + 1)}
        line = _without(line, pieces)
    return line[:MAX_MESSAGE]


def _written(credential: str) -> Iterator[str]:
    """The ways in which a credential may stand in a text."""
    raw = credential.encode()
    yield credential
    for encoded in (quote(credential, safe=""), quote_plus(credential), raw.hex()):
        yield from (encoded, encoded.upper(), PERCENT.sub(lambda found: found[0].lower(), encoded))
    # What stands before it moves it by a byte or two; characters that hold bits of its neighbours are left out.
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        known = whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield from (known, known.replace("+", "-").replace("/", "_"))


def _without(line: str, pieces: set[str]) -> str:
    """The line with what consists of these pieces as three stars."""
    kept, at, hidden = [], 0, 0
    for start in range(len(line) - PIECE + 1):
        if line[start : start + PIECE] in pieces:
            if start > hidden or not hidden:
                kept += [line[at:start], "***"]
            at = hidden = start + PIECE
    return "".join((*kept, line[at:]))


def _error_object(body: bytes) -> dict[str, Any] | None:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    # Gemini's OpenAI-compatible endpoint wraps its errors in a list.
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return None
    error = decoded.get("error", decoded)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def _is_flagged(error: dict[str, Any]) -> bool:
    """OpenRouter's way to say that moderation refused what was asked: a 403, like that of a bad credential."""
    metadata = error.get("metadata")
    return isinstance(metadata, dict) and "flagged_input" in metadata


def _text(value: Any) -> str | None:
    return str(value)[:200] if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def from_reply(target: Target, reply: Reply) -> UpstreamError:
    """The error for an answer whose status is not 200."""
    status, name = reply.status, target.provider
    retry_after = waiting(reply.header(b"retry-after"), reply.header(b"retry-after-ms"))
    error = _error_object(reply.body)
    said = masked(str(error.get("message") or error.get("detail") or ""), target.credential) if error else ""
    if status == 403 and error and _is_flagged(error):
        return ContentRefused(said or f"{name} refused the request by its content policy.")
    if status in (401, 402, 403):
        return UpstreamRefused(f"{name} refused the gateway's credential.", should_retry=False, retry_after=retry_after)
    if status == 429:
        return UpstreamLimited(said or f"{name} is limiting requests.", retry_after=retry_after)
    if status in PASSED_ON:
        kind = UpstreamRejected(said or f"{name} refused the request with status {status}.", status=status)
        if error:
            # The provider's own code stays: clients look for `context_length_exceeded` and the like.
            kind.code = masked(_text(error.get("code")) or "", target.credential) or kind.code
            kind.param = masked(_text(error.get("param")) or "", target.credential) or None
        return kind
    if status in TIMEOUTS:
        return UpstreamTimeout(f"{name} timed out.")
    if 300 <= status < 400:
        redirect = UpstreamBroken(f"{name} answered with a redirect, which is not followed.")
        redirect.unsure = False
        return redirect
    failed = UpstreamBroken(f"{name} failed with status {status}.", retry_after=retry_after)
    # What a server says of itself is to be believed.
    failed.unsure = status in BY_PROXIES
    return failed


def from_object(target: Target, error: Any) -> UpstreamError:
    """The error for an `error` object inside an answer that had begun with status 200."""
    if isinstance(error, dict):
        code, kind = str(error.get("code") or ""), str(error.get("type") or "")
        if "429" in code or "rate_limit" in code + kind:
            return UpstreamLimited(f"{target.provider} is limiting requests.")
        if code in ("400", "413", "422") or kind == "invalid_request_error":
            said = masked(str(error.get("message") or ""), target.credential)
            kind_of = UpstreamRejected(said or f"{target.provider} refused the request.")
            kind_of.code = masked(_text(error.get("code")) or "", target.credential) or kind_of.code
            return kind_of
    return UpstreamBroken(f"{target.provider} reported an error while answering.")
