"""Events as OpenAI's bodies: chunks for streams, one completion for plain answers.

Raw events of an OpenAI-compatible provider pass as they are; only what must change is rewritten.
"""

from __future__ import annotations

import os
import time
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
from gateway.nested import rewritten
from gateway.surfaces.openai.errors import error_object
from gateway.surfaces.openai.extras import message_fields
from gateway.tokens import read_usage

DONE = b"data: [DONE]\n\n"


def frame(payload: Any) -> bytes:
    return b"data: " + rewritten(payload) + b"\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body


def priced(body: dict[str, Any], usage: Usage, cost: Callable[[Usage], float | None] | None) -> dict[str, Any]:
    """The usage with what it costs in dollars, if that was asked for. A provider's own figure stands in for a price
    that is not known; without either it is null."""
    if cost is None:
        return body
    dollars = cost(usage)
    return {**body, "cost": body.get("cost") if dollars is None else dollars}


def estimated(chat: ChatRequest, completion_tokens: int) -> Usage:
    """For providers that say nothing: four bytes of the request to a token, chunks for what was answered."""
    size = len(orjson.dumps(chat.body.get("messages")))
    return Usage(max(1, size // 4), completion_tokens, estimated=True)


class ChunkEncoder:
    """Encodes one stream. `usage` holds what was learnt of it once the stream is over."""

    prefix = "chatcmpl"
    # Set where usage is to say what it cost.
    cost: Callable[[Usage], float | None] | None = None

    def __init__(self, chat: ChatRequest) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self._chat = chat
        self._id = f"{self.prefix}-{os.urandom(14).hex()}"
        self._created = int(time.time())
        self._model = chat.model
        self._provider = ""
        self._opened: set[int] = set()
        self._finish: Finished | None = None

    def encode(self, event: Event) -> bytes:
        match event:
            case RawChunks():
                self.chunks += event.data.count(b"\n\n")
                return event.data
            case RawClosing():
                return self._raw_closing(event)
            case Started(provider, model):
                self._provider, self._model = provider, model
                return b""
            case TextDelta(text, index):
                return self._delta(index, {"content": text})
            case ReasoningDelta(text, index):
                return self._delta(index, {"reasoning_content": text})
            case ReasoningSignature() | Citation() | MediaOutput() | Refusal():
                return self._delta(event.index, message_fields(event))
            case ToolCallDelta():
                return self._delta(event.index, {"tool_calls": [_call_delta(event)]})
            case Usage():
                self.usage = event
                return b""
            case Finished():
                return self._held(event)
            case Failed(error):
                return frame(error_object(error))
            case RawReply() | Sound() | Transcript():
                raise TypeError("a plain answer cannot be streamed")
            case _:
                assert_never(event)

    def end(self) -> bytes:
        """The last frames: the finishing chunk with its usage, and the end mark."""
        if self._finish is None:
            return DONE
        usage = self.usage or estimated(self._chat, self.chunks)
        self.usage = usage
        finish = self._chunk(self._finish.index, {}, self._finish.reason)
        self._finish = None
        return self._with_usage(finish, priced(usage_body(usage), usage, self.cost)) + DONE

    def _with_usage(self, finish: dict[str, Any], usage: dict[str, Any]) -> bytes:
        """Apart when the caller asked for it as OpenAI does, else on the finishing chunk."""
        if not self._chat.include_usage:
            return frame({**finish, "usage": usage})
        finish = {key: value for key, value in finish.items() if key != "usage"}
        return frame(finish) + frame({**finish, "choices": [], "usage": usage})

    def _raw_closing(self, event: RawClosing) -> bytes:
        said = event.usage or event.finish
        self.usage = read_usage(said.get("usage") if said else None)
        if event.finish is None:
            # The provider ended without a finishing chunk: nothing is invented but what was asked for.
            return event.usage_bytes + b"\n\n" if event.usage_bytes and self._chat.include_usage else b""
        if self.usage is None:
            self.usage = estimated(self._chat, self.chunks)
        told = said.get("usage") if said and read_usage(said.get("usage")) else usage_body(self.usage)
        if self.cost is not None:
            return self._with_usage(event.finish, priced(told or {}, self.usage, self.cost))
        if self._chat.include_usage and event.usage:
            return event.finish_bytes + b"\n\n" + event.usage_bytes + b"\n\n"
        if not self._chat.include_usage and event.finish.get("usage"):
            return event.finish_bytes + b"\n\n"
        return self._with_usage(event.finish, told or {})

    def _held(self, event: Finished) -> bytes:
        """With several choices each ends apart; only the last end carries the usage."""
        earlier = self._finish
        self._finish = event
        return b"" if earlier is None else frame(self._chunk(earlier.index, {}, earlier.reason))

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        self.chunks += 1
        if index not in self._opened:
            self._opened.add(index)
            delta = {"role": "assistant", **({} if "content" in delta else {"content": None}), **delta}
        return frame(self._chunk(index, delta, None))

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "provider": self._provider,
            "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}],
        }


def _content(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _call_delta(event: ToolCallDelta) -> dict[str, Any]:
    if event.id is None and event.name is None:
        return {"index": event.position, "function": {"arguments": event.arguments}}
    return {
        "index": event.position,
        "id": event.id,
        "type": "function",
        "function": {"name": event.name, "arguments": event.arguments},
    }


class ReplyEncoder:
    """Collects one plain answer."""

    cost: Callable[[Usage], float | None] | None = None

    def __init__(self, chat: ChatRequest) -> None:
        self.usage: Usage | None = None
        self._chat = chat
        self._provider = ""
        self._model = chat.model
        self._raw: bytes | None = None
        self._choices: dict[int, dict[str, Any]] = {}
        self._tokens = 0

    def take(self, event: Event) -> None:
        """Raises the error of a Failed event: nothing was sent yet."""
        match event:
            case RawReply():
                self._raw = self._raw_reply(event.data, event.body)
            case Started():
                self._provider, self._model = event.provider, event.model
            case TextDelta(text, index):
                self._add(index, "content", text)
            case ReasoningDelta(text, index):
                self._add(index, "reasoning_content", text)
            case ReasoningSignature() | Citation() | MediaOutput() | Refusal():
                self._extend(event.index, message_fields(event))
            case ToolCallDelta():
                self._add_call(event)
            case Usage():
                self.usage = event
            case Finished(reason, index):
                self._choice(index)["finish_reason"] = reason
            case Failed(error):
                raise error
            case RawChunks() | RawClosing() | Sound() | Transcript():
                raise TypeError("a stream cannot be collected into a plain answer")
            case _:
                assert_never(event)

    def body(self) -> bytes:
        if self._raw is not None:
            return self._raw
        return orjson.dumps(self._whole())

    def _whole(self) -> dict[str, Any]:
        self.usage = self.usage or estimated(self._chat, self._tokens)
        return {
            "id": f"chatcmpl-{os.urandom(14).hex()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "provider": self._provider,
            "choices": [self._choices[index] for index in sorted(self._choices)],
            "usage": priced(usage_body(self.usage), self.usage, self.cost),
        }

    def _raw_reply(self, data: bytes, body: dict[str, Any]) -> bytes:
        """The provider's bytes with our `provider` spliced in; rewritten only where keys are missing that
        OpenAI's document promises."""
        self.usage = read_usage(body.get("usage"))
        changed = False
        if self.usage is None:
            said = sum(len(_content(choice)) for choice in body["choices"])
            self.usage = estimated(self._chat, max(1, said // 4))
            body["usage"], changed = usage_body(self.usage), True
        if self.cost is not None:
            body["usage"], changed = priced(body["usage"], self.usage, self.cost), True
        for choice in body["choices"]:
            message = choice.get("message")
            if "logprobs" not in choice:
                choice["logprobs"], changed = None, True
            if isinstance(message, dict) and ("refusal" not in message or "content" not in message):
                message.setdefault("refusal", None)
                message.setdefault("content", None)
                changed = True
        if changed:
            return rewritten({**body, "provider": body.get("provider", self._provider)})
        if "provider" in body:
            return data
        start = data.index(b"{") + 1
        return data[:start] + b'"provider":' + orjson.dumps(self._provider) + b"," + data[start:]

    def _choice(self, index: int) -> dict[str, Any]:
        if index not in self._choices:
            message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
            self._choices[index] = {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
        return self._choices[index]

    def _add(self, index: int, key: str, text: str) -> None:
        message = self._choice(index)["message"]
        message[key] = (message.get(key) or "") + text
        self._tokens += 1

    def _extend(self, index: int, fields: dict[str, Any]) -> None:
        message = self._choice(index)["message"]
        for key, value in fields.items():
            message[key] = (message[key] + value) if message.get(key) and not isinstance(value, dict) else value
        self._tokens += 1

    def _add_call(self, event: ToolCallDelta) -> None:
        calls = self._choice(event.index)["message"].setdefault("tool_calls", [])
        self._tokens += 1
        while len(calls) <= event.position:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[event.position]
        call["id"] = event.id or call["id"]
        call["function"]["name"] += event.name or ""
        call["function"]["arguments"] += event.arguments
