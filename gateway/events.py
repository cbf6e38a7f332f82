"""What a model says back: a closed union of values that adapters emit and surfaces encode.

Adding a case here makes the type checker point at every encoder that must learn it. Nobody changes one after it
was made; they are not frozen because that doubles the price of making them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class ReasoningSignature:
    """Ends a piece of reasoning: what its provider wants back with it. `redacted`: `data` is all there is of it."""

    data: str
    redacted: bool = False
    index: int = 0


@dataclass(slots=True)
class Citation:
    """A source of the answer. `start` and `end` count characters of the answer's text where that is known."""

    url: str
    title: str = ""
    start: int | None = None
    end: int | None = None
    index: int = 0


@dataclass(slots=True)
class MediaOutput:
    """A picture or a sound that was made; `data` is base64."""

    mime_type: str
    data: str = field(repr=False)
    index: int = 0


@dataclass(slots=True)
class Refusal:
    """The model's own words for not answering."""

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
    """Cached tokens, read and written, are part of the prompt's; reasoning tokens are part of the completion's."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    cache_write_tokens: int | None = None
    # Of text that was spoken, and of sound that was heard.
    characters: int | None = None
    audio_seconds: float | None = None
    # Pictures that were made.
    images: int | None = None
    # There was sound of which nobody knows how long it is.
    unmeasured: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(slots=True)
class Finished:
    """`reason` is OpenAI's word: stop, length, tool_calls, content_filter. `stop`: the sequence that ended it."""

    reason: str
    index: int = 0
    stop: str | None = None


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


@dataclass(slots=True)
class Sound:
    """A piece of speech as bytes, at least one; the first piece's type counts for all."""

    data: bytes = field(repr=False)
    mime_type: str


@dataclass(slots=True)
class Segment:
    """What was said from `start` to `end`, in seconds. `more` is what OpenAI's segments have beside, or nothing."""

    text: str
    start: float
    end: float
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Word:
    text: str
    start: float
    end: float


@dataclass(slots=True)
class Transcript:
    """A recording as text. None: unknown. `duration` is in seconds; `more` is what a provider's answer has beside."""

    text: str
    language: str | None = None
    duration: float | None = None
    segments: Sequence[Segment] | None = None
    words: Sequence[Word] | None = None
    usage: Usage | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


Event = (
    Started
    | TextDelta
    | ReasoningDelta
    | ReasoningSignature
    | Citation
    | MediaOutput
    | Refusal
    | ToolCallDelta
    | Usage
    | Finished
    | Failed
    | RawChunks
    | RawClosing
    | RawReply
    | Sound
    | Transcript
)
