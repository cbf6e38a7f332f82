"""What a model says back: a closed union of values that adapters emit and surfaces encode.

Adding a case here makes the type checker point at every encoder that must learn it. Nobody changes one after it
was made; they are not frozen because that doubles the price of making them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.errors import GatewayError


@dataclass(slots=True)
class Started:
    """The first event of an answer: who gives it, and under which name of the model."""

    provider: str
    model: str


@dataclass(slots=True)
class TextDelta:
    text: str
    index: int = 0


@dataclass(slots=True)
class ReasoningDelta:
    text: str
    index: int = 0


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of a call; `id` and `name` come with the first piece of each `position`."""

    position: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    index: int = 0


@dataclass(slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(slots=True)
class Finished:
    reason: str
    index: int = 0


@dataclass(slots=True)
class Failed:
    """The answer broke off after the caller had seen some of it."""

    error: GatewayError


@dataclass(slots=True)
class RawChunks:
    """Whole SSE events as an OpenAI-compatible provider sent them, checked, ready to be forwarded."""

    data: bytes


@dataclass(slots=True)
class RawClosing:
    """The held-back end of a raw stream: the finishing chunk, and what the provider said of usage.

    `finish` and `usage` are decoded chunks, because they are what may have to be rewritten.
    """

    finish: dict[str, Any] | None
    finish_bytes: bytes
    usage: dict[str, Any] | None
    usage_bytes: bytes


@dataclass(slots=True)
class RawReply:
    """A whole plain answer of an OpenAI-compatible provider: its bytes and what they decode to."""

    data: bytes
    body: dict[str, Any] = field(repr=False)


Event = (
    Started | TextDelta | ReasoningDelta | ToolCallDelta | Usage | Finished | Failed | RawChunks | RawClosing | RawReply
)
