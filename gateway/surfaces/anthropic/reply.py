"""Events as one message (Anthropic API reference, "Messages")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

import orjson

from gateway.chat import ChatRequest
from gateway.events import (
    Citation,
    Event,
    Failed,
    Finished,
    MediaOutput,
    RawChunks,
    RawClosing,
    RawReply,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    Sound,
    Started,
    TextDelta,
    ToolCallDelta,
    Transcript,
    Usage,
)
from gateway.nested import object_of
from gateway.surfaces.anthropic.counting import estimated
from gateway.surfaces.anthropic.encoder import (
    Body,
    citation_body,
    ending,
    media_text,
    new_message,
    tool_block,
    usage_body,
    with_cost,
)
from gateway.surfaces.openai.encoder import priced


class MessageReply:
    """Collects one plain answer. With `cost` its usage says what it costs; the protocol itself has no word for that."""

    cost: Callable[[Usage], float | None] | None = None

    def __init__(self, chat: ChatRequest) -> None:
        self.usage: Usage | None = None
        self._chat = chat
        self._model = chat.model
        self._raw: bytes | None = None
        self._blocks: list[Body] = []
        self._calls: dict[int, Body] = {}
        self._finished: Finished | None = None
        self._refused = False
        self._pieces = 0

    def take(self, event: Event) -> None:
        """Raises the error of a Failed event: nothing was sent yet."""
        match event:
            case RawReply(data):
                self._raw = data
            case Started():
                self._model = event.model
            case Usage():
                self.usage = event
            case Finished():
                self._finished = self._finished or event
            case Failed(error):
                raise error
            case RawChunks() | RawClosing() | Sound() | Transcript():
                raise TypeError("a stream cannot be collected into a plain answer")
            case _:
                if event.index == 0:
                    self._add(event)

    def body(self) -> bytes:
        if self._raw is not None:
            self.usage = self.usage or estimated(self._chat, len(self._raw) // 4)
            return self._raw if self.cost is None else with_cost(self._raw, self.usage, self.cost)
        self.usage = self.usage or estimated(self._chat, self._pieces)
        for call in self._calls.values():
            call["input"] = _input(call["input"])
        message = new_message(self._model, priced(usage_body(self.usage), self.usage, self.cost))
        message["content"] = self._blocks
        message |= ending(self._finished, called=bool(self._calls), refused=self._refused)
        return orjson.dumps(message)

    def _add(
        self, event: TextDelta | ReasoningDelta | ReasoningSignature | Citation | MediaOutput | Refusal | ToolCallDelta
    ) -> None:
        self._pieces += 1
        match event:
            case TextDelta(text):
                self._text(text)
            case ReasoningDelta(text):
                self._thinking()["thinking"] += text
            case ReasoningSignature(data, True):
                self._blocks.append({"type": "redacted_thinking", "data": data})
            case ReasoningSignature(data):
                self._thinking()["signature"] = data
            case Citation():
                block = self._block("text", {"type": "text", "text": ""})
                block.setdefault("citations", []).append(citation_body(event))
            case MediaOutput():
                self._text(media_text(event))
            case Refusal(text):
                self._refused = True
                self._text(text)
            case ToolCallDelta():
                self._call(event)
            case _:
                assert_never(event)

    def _text(self, text: str) -> None:
        self._block("text", {"type": "text", "text": ""})["text"] += text

    def _thinking(self) -> Body:
        """The block under way; a signature has ended the one before."""
        last = self._blocks[-1] if self._blocks else {}
        if last.get("type") != "thinking" or last["signature"]:
            self._blocks.append({"type": "thinking", "thinking": "", "signature": ""})
        return self._blocks[-1]

    def _block(self, kind: str, new: Body) -> Body:
        if not self._blocks or self._blocks[-1]["type"] != kind:
            self._blocks.append(new)
        return self._blocks[-1]

    def _call(self, event: ToolCallDelta) -> None:
        call = self._calls.get(event.position)
        if call is None:
            call = self._calls[event.position] = {**tool_block(event), "input": ""}
            self._blocks.append(call)
        call["input"] += event.arguments


def _input(arguments: str) -> Any:
    """A call must hold an object; what a model wrote badly is kept in one."""
    found = object_of(arguments)
    return {"arguments": arguments} if found is None else found
