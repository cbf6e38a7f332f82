"""What a caller asks: the body of a chat request, checked once at the edge, and a typed view of it.

The canonical form is OpenAI's (`POST /chat/completions`), because most providers take it as it is: such
a request travels as the caller wrote it. Adapters of other protocols read it through `messages()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.events import Citation

LARGE_BYTES = 1024 * 1024
MAX_VALUES = 500_000
MAX_COMMAS = 2_000_000


def has_too_many_values(raw: bytes) -> bool:
    """Whether decoding JSON would make so many objects that the process stands still meanwhile.

    Counts what opens a container and what begins a string in one; neither is common inside of texts, where
    quotes are escaped. Commas are: of those more may come. Bodies that are large because of a text or a picture pass.
    """
    if len(raw) <= LARGE_BYTES:
        return False
    return raw.count(b"[") + raw.count(b"{") + raw.count(b',"') > MAX_VALUES or raw.count(b",") > MAX_COMMAS


# Parts that are looked at before they are sent: not every model takes them, and addresses may be fetched.
MEDIA = frozenset({"image_url", "input_audio", "video_url", "file"})


def has_media(messages: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        isinstance(part, dict) and part.get("type") in MEDIA
        for message in messages
        if isinstance(content := message.get("content"), list)
        for part in content
    )


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """`url` is a data: or http(s) URL."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class AudioPart:
    """`data` is base64; `format` is wav, mp3 and so on."""

    data: str = field(repr=False)
    format: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document. `data` is a data: URL, `id` names a file that the provider already has."""

    data: str = field(repr=False)
    name: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """What an assistant's turn thought, and its provider's signature; `redacted`: `signature` is all there is."""

    text: str
    signature: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class OtherPart:
    """A kind of content that we do not know, kept as it came."""

    type: str
    body: Mapping[str, Any]


Part = TextPart | ImagePart | AudioPart | FilePart | ReasoningPart | OtherPart


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
    # Of a tool's result.
    is_error: bool = False

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """`kind` is text, json_object or json_schema; the rest belongs to the last."""

    kind: str = "text"
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


READING, KEEPING = "reading", "keeping"


@dataclass(frozen=True, slots=True)
class Native:
    """A request in the words of its caller, for adapters of that `protocol`: nothing of it is lost there."""

    protocol: str
    body: Mapping[str, Any] = field(repr=False)
    # Names of what the caller wants of its protocol's previews (`anthropic-beta`).
    betas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preferences:
    """Which providers a caller wants (OpenRouter's `provider` object). Names are in lower case; `only` None: any."""

    order: tuple[str, ...] = ()
    only: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()
    allow_fallbacks: bool = True


@dataclass(frozen=True, slots=True)
class InConversation:
    """The stored conversation that a request goes on with, by the caller's name of it, and the `conversation` that it
    sent, which is told back."""

    id: str
    told: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True)
class ChatRequest:
    """A checked request. `body` is OpenAI's form without the fields that steer the gateway.

    `raw`: the caller speaks OpenAI's chat protocol, so what a provider of that protocol answers may pass as it is.
    `plain`: an adapter takes it as it is; otherwise `gateway.adapted` says who does.
    """

    model: str
    provider: str | None
    stream: bool
    include_usage: bool
    body: Mapping[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()
    raw: bool = True
    native: Native | None = None
    plain: bool = True
    # Asked for or forbidden by the caller; None leaves it to the model's flag.
    emulate_tools: bool | None = None
    # Usage is to say what the answer has cost.
    include_cost: bool = False
    preferences: Preferences | None = None
    # Models that may answer when `model` does not.
    fallbacks: tuple[str, ...] = ()
    # There are parts without a type: texts, and buckets whose content has to come in their place; or addresses to read.
    attached: bool = False
    # Pictures in the answer are stored and told by their addresses; False: they come whole.
    keep_media: bool = True
    # What the caller does not want of kept answers, of READING and KEEPING; whether any are is the operator's choice.
    cache_refused: tuple[str, ...] = ()
    # What to search the web for before the model is asked, and what that found.
    search: str = ""
    citations: tuple[Citation, ...] = ()
    conversation: InConversation | None = None

    def hint(self, name: str) -> Any:
        """What another surface's caller said and OpenAI's chat has no word for; None where nothing was said."""
        return None

    def messages(self) -> tuple[Message, ...]:
        return tuple(_message(item) for item in self.body["messages"])

    def tools(self) -> tuple[Tool, ...]:
        return tuple(
            Tool(
                tool["function"]["name"],
                tool["function"].get("description") or "",
                tool["function"].get("parameters") or {},
                tool["function"].get("strict"),
            )
            for tool in self.body.get("tools") or ()
            if tool.get("type", "function") == "function"
        )

    def tool_choice(self) -> str | None:
        """auto, none, required, or `=NAME` for a tool that must be called; None when nothing was said."""
        choice = self.body.get("tool_choice")
        if isinstance(choice, dict):
            name = (choice.get("function") or {}).get("name")
            return f"={name}" if name else "auto"
        return choice or None

    def answer_format(self) -> AnswerFormat:
        asked = self.body.get("response_format") or {}
        if asked.get("type") != "json_schema":
            return AnswerFormat(asked.get("type") or "text")
        described = asked["json_schema"]
        return AnswerFormat(
            "json_schema", described.get("name") or "", described.get("schema") or {}, described.get("strict")
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
    parts = (*_reasoning(item), *_parts(item.get("content")))
    return Message(item["role"], parts, calls, item.get("tool_call_id"), bool(item.get("is_error")))


def _reasoning(item: Mapping[str, Any]) -> Iterator[Part]:
    """The form in which OpenAI-compatible clients send reasoning back (OpenRouter's `reasoning_details`).

    A signature may come without its text, which then is the message's own reasoning; two such cannot be told apart.
    """
    details = item.get("reasoning_details")
    details = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    bare = sum(detail.get("type") == "reasoning.text" and not detail.get("text") for detail in details)
    said = item.get("reasoning_content") or item.get("reasoning")
    said = said if isinstance(said, str) else ""
    for detail in details:
        if detail.get("type") == "reasoning.encrypted":
            yield ReasoningPart("", str(detail.get("data") or ""), redacted=True)
        elif detail.get("type") == "reasoning.text":
            text = detail.get("text")
            if text or not said or bare == 1:
                yield ReasoningPart(str(text or said), str(detail.get("signature") or ""))


def _parts(content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        yield TextPart(content)
        return
    for part in content or ():
        yield _part(part)


def _part(part: Mapping[str, Any]) -> Part:
    kind = part.get("type") or ("text" if "text" in part else "")
    if kind == "text":
        return TextPart(part["text"])
    if kind == "image_url":
        image = part["image_url"]
        return ImagePart(image["url"], image.get("detail"))
    held = part.get(kind)
    if kind == "input_audio" and isinstance(held, dict):
        return AudioPart(str(held.get("data") or ""), str(held.get("format") or "wav"))
    if kind == "file" and isinstance(held, dict):
        return FilePart(
            str(held.get("file_data") or ""), str(held.get("filename") or ""), str(held.get("file_id") or "")
        )
    return OtherPart(kind, part)
