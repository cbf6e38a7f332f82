"""What a caller asks: the body of a chat request, checked once at the edge, and a typed view of it.

The canonical form is OpenAI's (`POST /chat/completions`), because most providers take it as it is: such
a request travels as the caller wrote it. Adapters of other protocols read it through `messages()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

LARGE_BYTES = 1024 * 1024
MAX_VALUES = 500_000


def has_too_many_values(raw: bytes) -> bool:
    """Whether decoding JSON would make so many objects that the process stands still meanwhile.

    Counts what opens a container and what begins a string in one; neither is common inside of texts, where
    quotes are escaped. Bodies that are large because of a text or a picture pass.
    """
    if len(raw) <= LARGE_BYTES:
        return False
    return raw.count(b"[") + raw.count(b"{") + raw.count(b',"') > MAX_VALUES


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """`url` is a data: or http(s) URL."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class OtherPart:
    """A kind of content that we do not know, kept as it came."""

    type: str
    body: Mapping[str, Any]


Part = TextPart | ImagePart | OtherPart


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class ChatRequest:
    """A checked request. `body` is OpenAI's form without the fields that steer the gateway."""

    model: str
    provider: str | None
    stream: bool
    include_usage: bool
    body: Mapping[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def messages(self) -> tuple[Message, ...]:
        return tuple(_message(item) for item in self.body["messages"])

    def tools(self) -> tuple[Tool, ...]:
        return tuple(
            Tool(
                tool["function"]["name"],
                tool["function"].get("description") or "",
                tool["function"].get("parameters") or {},
            )
            for tool in self.body.get("tools") or ()
            if tool.get("type", "function") == "function"
        )

    def stops(self) -> tuple[str, ...]:
        stop = self.body.get("stop")
        return (stop,) if isinstance(stop, str) else tuple(stop or ())

    def max_tokens(self) -> int | None:
        value = self.body.get("max_completion_tokens")
        return value if value is not None else self.body.get("max_tokens")


def _message(item: Mapping[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call.get("id") or "", call["function"]["name"], call["function"].get("arguments") or "")
        for call in item.get("tool_calls") or ()
        if call.get("function")
    )
    return Message(item["role"], tuple(_parts(item.get("content"))), calls, item.get("tool_call_id"))


def _parts(content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        yield TextPart(content)
        return
    for part in content or ():
        kind = part.get("type") or ("text" if "text" in part else "")
        if kind == "text":
            yield TextPart(part["text"])
        elif kind == "image_url":
            image = part["image_url"]
            yield ImagePart(image["url"], image.get("detail"))
        else:
            yield OtherPart(kind, part)
