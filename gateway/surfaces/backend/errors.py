"""Errors that only this surface has; the envelope is OpenAI's."""

from __future__ import annotations

from gateway.errors import BadRequest


def quota_unknown(provider: str) -> BadRequest:
    return BadRequest(
        f"{provider} has no quota that could be asked for.", status=404, code="quota_not_supported", param="provider"
    )


def no_usage(date: str) -> BadRequest:
    return BadRequest(f"No usage data found for {date}.", status=404, code="usage_not_found", param="date")


def user_unknown() -> BadRequest:
    """Also of a user whom the caller may not look at."""
    return BadRequest("No such user.", status=404, code="user_not_found", param="user")
