"""Events as Anthropic's stream (its API reference, "Streaming Messages"). `reply.py` makes whole messages.

Blocks follow one another: one is closed before the next begins. What a provider of this protocol sent passes as it is.
"""

from __future__ import annotations

import os
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
from gateway.surfaces.anthropic.counting import estimated, prompt_tokens
from gateway.surfaces.anthropic.errors import error_frame
from gateway.surfaces.openai.encoder import priced

Body = dict[str, Any]
# The frame that says what was used.
ENDING = b"event: message_delta\n"

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def frame(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def usage_body(usage: Usage) -> Body:
    """Anthropic counts what was read from and written to its cache beside the input, not in it."""
    read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    body: Body = {
        "input_tokens": max(0, usage.prompt_tokens - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens is not None:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body


def ending(finished: Finished | None, *, called: bool, refused: bool) -> Body:
    """`stop_reason` and `stop_sequence`. Some servers say `stop` after calls of tools."""
    reason = REASONS.get(finished.reason if finished else "stop", "end_turn")
    if finished is not None and finished.stop is not None and reason == "end_turn":
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
    if called and reason == "end_turn":
        reason = "tool_use"
    elif refused and reason == "end_turn":
        reason = "refusal"
    return {"stop_reason": reason, "stop_sequence": None}


def new_message(model: str, usage: Body) -> Body:
    return {
        "id": f"msg_{os.urandom(12).hex()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def citation_body(event: Citation) -> Body:
    return {
        "type": "web_search_result_location",
        "url": event.url,
        "title": event.title,
        "cited_text": "",
        "encrypted_index": "",
    }


def media_text(event: MediaOutput) -> str:
    """The protocol has no block for what was made; as Markdown people see it."""
    mark = "!" if event.mime_type.startswith("image/") else ""
    return f"{mark}[{event.mime_type.partition('/')[0]}](data:{event.mime_type};base64,{event.data})"


def tool_block(event: ToolCallDelta) -> Body:
    call_id = event.id or f"toolu_{os.urandom(12).hex()}"
    return {"type": "tool_use", "id": call_id, "name": event.name or "", "input": {}}


def with_cost(data: bytes, usage: Usage, cost: Callable[[Usage], float | None]) -> bytes:
    """A provider's own object whose usage says what it costs as well."""
    body = orjson.loads(data)
    said = body.get("usage")
    body["usage"] = priced(said if isinstance(said, dict) else usage_body(usage), usage, cost)
    return rewritten(body)


class MessageStream:
    """Encodes one stream. `usage` holds what was learnt of it once the stream is over."""

    cost: Callable[[Usage], float | None] | None = None

    def __init__(self, chat: ChatRequest) -> None:
        self.usage: Usage | None = None
        # The last frames of a provider's own, while what they cost is to be added.
        self._held = b""
        self.chunks = 0
        self._chat = chat
        self._model = chat.model
        self._begun = False
        self._raw = False
        self._index = -1
        self._open = ""
        self._finished: Finished | None = None
        self._refused = False
        self._calls = _Calls()

    def encode(self, event: Event) -> bytes:
        match event:
            case RawChunks(data):
                self._raw = True
                self.chunks += data.count(b"\n\n")
                return data if self.cost is None else self._before_the_end(data)
            case Started():
                self._model = event.model
                return b""
            case Usage():
                self.usage = event
                return b""
            case Finished():
                self._finished = self._finished or event
                return b""
            case Failed(error):
                return error_frame(error)
            case RawClosing() | RawReply() | Sound() | Transcript():
                raise TypeError("these are no part of a stream in this protocol")
            case _:
                # One answer is all this protocol knows.
                return self._content(event) if event.index == 0 else b""

    def end(self) -> bytes:
        """The last frames of a whole answer."""
        if self._raw:
            return self._held and self._priced_end()
        self.usage = self.usage or estimated(self._chat, self.chunks)
        last = self._start() + self._close()
        delta = ending(self._finished, called=self._calls.seen, refused=self._refused)
        return last + frame("message_delta", delta=delta, usage=self._usage()) + frame("message_stop")

    def _usage(self) -> Body:
        assert self.usage is not None
        return priced(usage_body(self.usage), self.usage, self.cost)

    def _before_the_end(self, data: bytes) -> bytes:
        """What comes before the frames that tell of usage."""
        at = -1 if self._held else data.find(ENDING)
        if at < 0 and not self._held:
            return data
        self._held += data[max(at, 0) :]
        return data[: max(at, 0)]

    def _priced_end(self) -> bytes:
        usage = self.usage or estimated(self._chat, self.chunks)
        assert self.cost is not None
        first, _, rest = self._held.partition(b"\n\n")
        head, _, data = first.partition(b"\ndata: ")
        return head + b"\ndata: " + with_cost(data, usage, self.cost) + b"\n\n" + rest

    def _content(
        self, event: TextDelta | ReasoningDelta | ReasoningSignature | Citation | MediaOutput | Refusal | ToolCallDelta
    ) -> bytes:
        self.chunks += 1
        head = self._start()
        match event:
            case TextDelta(text):
                return head + self._text(text)
            case ReasoningDelta(text):
                return head + self._opened("thinking", _THINKING) + self._delta("thinking_delta", thinking=text)
            case ReasoningSignature(data, redacted):
                return head + self._signature(data, redacted=redacted)
            case Citation():
                opened = self._opened("text", _TEXT)
                return head + opened + self._delta("citations_delta", citation=citation_body(event))
            case MediaOutput():
                return head + self._text(media_text(event))
            case Refusal(text):
                self._refused = True
                return head + self._text(text)
            case ToolCallDelta():
                return head + b"".join(self._called(piece) for piece in self._calls.take(event))
            case _:
                assert_never(event)

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        # What the prompt counts to is only known at the end of most answers.
        usage = self.usage or Usage(prompt_tokens(self._chat), 0)
        return frame("message_start", message=new_message(self._model, usage_body(usage))) + frame("ping")

    def _text(self, text: str) -> bytes:
        return self._opened("text", _TEXT) + self._delta("text_delta", text=text)

    def _signature(self, data: str, *, redacted: bool) -> bytes:
        if redacted:
            block = {"type": "redacted_thinking", "data": data}
            return self._close() + self._opened("redacted_thinking", block) + self._close()
        opened = self._opened("thinking", _THINKING)
        return opened + self._delta("signature_delta", signature=data) + self._close()

    def _called(self, event: ToolCallDelta) -> bytes:
        kind = f"call {event.position}"
        opened = b"" if self._open == kind else self._opened(kind, tool_block(event))
        return opened + (self._delta("input_json_delta", partial_json=event.arguments) if event.arguments else b"")

    def _opened(self, kind: str, block: Body) -> bytes:
        """Makes sure that a block of this kind is the open one."""
        if self._open == kind:
            return b""
        closed = self._close() if not kind.startswith("call ") else self._stopped()
        self._index, self._open = self._index + 1, kind
        return closed + frame("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        """Ends the open block, and the calls that waited for it."""
        waiting = b"".join(self._called(piece) for piece in self._calls.rest())
        return waiting + self._stopped()

    def _stopped(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return frame("content_block_stop", index=self._index)

    def _delta(self, kind: str, **fields: Any) -> bytes:
        return frame("content_block_delta", index=self._index, delta={"type": kind, **fields})


_TEXT: Body = {"type": "text", "text": ""}
_THINKING: Body = {"type": "thinking", "thinking": "", "signature": ""}


class _Calls:
    """Puts calls that were written side by side in a row: one waits until the one before is whole."""

    def __init__(self) -> None:
        self.seen = False
        self._current = -1
        self._arguments = ""
        self._waiting: dict[int, list[ToolCallDelta]] = {}

    def take(self, event: ToolCallDelta) -> list[ToolCallDelta]:
        """What may go out now."""
        self.seen = True
        if event.position != self._current:
            if self._current >= 0 and (self._waiting or not _is_whole(self._arguments)):
                self._waiting.setdefault(event.position, []).append(event)
                return []
            self._current, self._arguments = event.position, ""
        self._arguments += event.arguments
        return [event]

    def rest(self) -> list[ToolCallDelta]:
        """What still waits, call by call; another call begins anew afterwards."""
        waiting, self._waiting = self._waiting, {}
        self._current = -1
        return [piece for pieces in waiting.values() for piece in pieces]


def _is_whole(arguments: str) -> bool:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True
