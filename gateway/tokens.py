"""Numbers of tokens as providers report them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from gateway.errors import UpstreamError
from gateway.events import Usage

# More than any request can use; beyond it a count is an error of the provider's.
MAX_TOKENS = 10**12
Number = TypeVar("Number", int, float)


def count(value: Any) -> int | None:
    """A number that may be believed; a provider's nonsense is no number."""
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def read_usage(value: Any) -> Usage | None:
    """OpenAI's usage object; None when it does not hold what it should."""
    if type(value) is not dict:
        return None
    prompt, completion = value.get("prompt_tokens"), value.get("completion_tokens")
    if type(prompt) is not int or not 0 <= prompt <= MAX_TOKENS:
        prompt = None
    if type(completion) is not int or not 0 <= completion <= MAX_TOKENS:
        completion = None
    if prompt is None and completion is None:
        return None
    cached, reasoning = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    return Usage(
        prompt or 0,
        completion or 0,
        count(cached.get("cached_tokens")) if type(cached) is dict else None,
        count(reasoning.get("reasoning_tokens")) if type(reasoning) is dict else None,
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
        _known([part.characters for part in parts]),
        _known([part.audio_seconds for part in parts]),
        _known([part.images for part in parts]),
        any(part.unmeasured for part in parts),
    )


def carried(error: UpstreamError, parts: Sequence[Usage]) -> None:
    """Gives the error what was used until it happened, beside what it knows of itself."""
    spent = [*parts, *([error.usage] if error.usage else [])]
    error.usage = summed(spent) if spent else None


def _known(counts: Sequence[Number | None]) -> Number | None:
    found = [value for value in counts if value is not None]
    return sum(found) if found else None
