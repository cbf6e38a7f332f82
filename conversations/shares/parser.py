"""Checks what callers say of a share beside its copy. Every function raises BadRequest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from conversations.models import SharedChat
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import ill_typed

MAX_MOMENT = 2**53
MAX_SECONDS = 10 * 366 * 24 * 3600


def updated_of(body: Mapping[str, Any]) -> int | None:
    value = body.get("updated")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ill_typed("updated", "an integer")
    if not 0 <= value <= MAX_MOMENT:
        raise BadRequest("'updated' must be milliseconds since 1970.", param="updated")
    return int(value)


def options_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """`visibility` and `expires_at` as far as they were said; `expires_in` is seconds from now."""
    found: dict[str, Any] = {}
    if "visibility" in body:
        if body["visibility"] not in SharedChat.Visibility.values:
            wanted = ", ".join(SharedChat.Visibility.values)
            raise BadRequest(f"Invalid value for 'visibility': expected one of {wanted}.", param="visibility")
        found["visibility"] = body["visibility"]
    if "expires_in" in body:
        found["expires_at"] = _from_now(body["expires_in"])
    elif "expires_at" in body:
        found["expires_at"] = _moment(body["expires_at"])
    return found


def _from_now(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ill_typed("expires_in", "an integer or null")
    if not 1 <= value <= MAX_SECONDS:
        raise BadRequest(f"'expires_in' must be from 1 to {MAX_SECONDS} seconds.", param="expires_in")
    return timezone.now() + timedelta(seconds=value)


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ill_typed("expires_at", "an ISO 8601 time or null")
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest("'expires_at' must be an ISO 8601 time.", param="expires_at") from None
