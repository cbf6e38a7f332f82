"""Numbers of tokens as providers report them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.events import Usage

# More than any request can use; beyond it a count is an error of the provider's.
MAX_TOKENS = 10**12


def count(value: Any) -> int | None:
    """A number that may be believed; a provider's nonsense is no number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS else None


def read_usage(value: Any) -> Usage | None:
    """OpenAI's usage object; None when it does not hold what it should."""
    if not isinstance(value, dict):
        return None
    prompt, completion = count(value.get("prompt_tokens")), count(value.get("completion_tokens"))
    if prompt is None and completion is None:
        return None
    cached = value.get("prompt_tokens_details")
    reasoning = value.get("completion_tokens_details")
    return Usage(
        prompt or 0,
        completion or 0,
        count(cached.get("cached_tokens")) if isinstance(cached, dict) else None,
        count(reasoning.get("reasoning_tokens")) if isinstance(reasoning, dict) else None,
    )


def summed(parts: Sequence[Usage]) -> Usage:
    """What several answers have used together."""
    return Usage(
        sum(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
        _known([part.cached_tokens for part in parts]),
        _known([part.reasoning_tokens for part in parts]),
        any(part.estimated for part in parts),
        _known([part.cache_write_tokens for part in parts]),
    )


def _known(counts: Sequence[int | None]) -> int | None:
    found = [value for value in counts if value is not None]
    return sum(found) if found else None
