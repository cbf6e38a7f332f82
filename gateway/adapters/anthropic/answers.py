"""Anthropic's messages and stream events (its API reference, "Streaming Messages") as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.adapters.anthropic.failures import from_error
from gateway.adapters.translated import AnswerReader
from gateway.errors import UpstreamBroken
from gateway.events import (
    Citation,
    Event,
    Finished,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.targets import Target
from gateway.tokens import count

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
USAGE_FIELDS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def read_answer(target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
    """The events of a whole message. Raises UpstreamError."""
    blocks = body.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a message.")
    events = MessageEvents(target)
    found: list[Event] = []
    try:
        for index, block in enumerate(blocks):
            found.extend(events.opened(index, block))
            found.extend(events.closed(index))
        found.extend(events.told(body, body.get("usage")))
    except (TypeError, ValueError, AttributeError):
        raise UpstreamBroken(f"{target.provider} sent an answer that cannot be read.") from None
    return [*found, *events.ending()]


class _Block:
    """A content block under way. `said` tells whether its arguments or its signature have come."""

    def __init__(self, kind: str, start: int) -> None:
        self.kind = kind
        self.start = start
        self.position = 0
        self.said = False
        self.signature = ""
        self.citations: list[Mapping[str, Any]] = []


class MessageEvents(AnswerReader):
    """The events of one stream. Blocks of server tools and whatever else we do not know are passed over."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._blocks: dict[Any, _Block] = {}
        self._usage: dict[str, int] = {}
        self._reasoning: int | None = None
        self._reason = ""
        self._stop: str | None = None
        self._calls = 0
        self._characters = 0

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        match data.get("type") or name:
            case "content_block_delta":
                return self._delta(data.get("index"), data["delta"])
            case "content_block_start":
                return list(self.opened(data.get("index"), data["content_block"]))
            case "content_block_stop":
                return list(self.closed(data.get("index")))
            case "message_start":
                self._count((data.get("message") or {}).get("usage"))
            case "message_delta":
                return self.told(data.get("delta") or {}, data.get("usage"))
            case "message_stop":
                self.done = True
                return self.ending()
            case "error":
                raise from_error(self.target, data.get("error"))
        return ()

    def end(self) -> Sequence[Event]:
        return self.ending() if self._reason else super().end()

    def opened(self, index: Any, block: Mapping[str, Any]) -> Iterator[Event]:
        """A block that begins; in a plain answer all of it."""
        kind = str(block.get("type") or "")
        current = self._blocks[index] = _Block(kind, self._characters)
        if kind == "text":
            current.citations.extend(_objects(block.get("citations")))
            yield from self._text(block.get("text"))
        elif kind == "thinking":
            current.signature = _string(block.get("signature"))
            yield from _reasoning(block.get("thinking"))
        elif kind == "redacted_thinking":
            yield ReasoningSignature(_string(block.get("data")), redacted=True)
        elif kind == "tool_use":
            current.position, self._calls = self._calls, self._calls + 1
            yield ToolCallDelta(current.position, _string(block.get("id")), _string(block.get("name")))
            if block.get("input"):
                current.said = True
                yield ToolCallDelta(current.position, arguments=orjson.dumps(block["input"]).decode())

    def closed(self, index: Any) -> Iterator[Event]:
        current = self._blocks.pop(index, None)
        if current is None:
            return
        if current.kind == "thinking" and current.signature:
            yield ReasoningSignature(current.signature)
        elif current.kind == "tool_use" and not current.said:
            # A call without arguments is an empty object to everybody else.
            yield ToolCallDelta(current.position, arguments="{}")
        for source in current.citations:
            yield _citation(source, current.start, self._characters)

    def told(self, message: Mapping[str, Any], usage: Any) -> Sequence[Event]:
        """Why the message ended, and what it used."""
        self._count(usage)
        self._reason = _string(message.get("stop_reason")) or self._reason
        self._stop = _string(message.get("stop_sequence")) or None
        details = message.get("stop_details")
        if isinstance(details, dict) and _string(details.get("explanation")):
            return [Refusal(details["explanation"])]
        return ()

    def ending(self) -> Sequence[Event]:
        usage = self.usage()
        finished = Finished(REASONS.get(self._reason, "stop"), stop=self._stop)
        return [usage, finished] if usage else [finished]

    def usage(self) -> Usage | None:
        if "input_tokens" not in self._usage and "output_tokens" not in self._usage:
            return None
        read, written = (self._usage.get(name) for name in USAGE_FIELDS[2:])
        prompt = self._usage.get("input_tokens", 0) + (read or 0) + (written or 0)
        return Usage(
            prompt, self._usage.get("output_tokens", 0), read, self._reasoning, cache_write_tokens=written or None
        )

    def _count(self, said: Any) -> None:
        """Numbers are totals so far: a later one replaces an earlier one, and silence does not."""
        if not isinstance(said, dict):
            return
        for name in USAGE_FIELDS:
            number = count(said.get(name))
            if number is not None:
                self._usage[name] = number
        details = said.get("output_tokens_details")
        if isinstance(details, dict):
            self._reasoning = count(details.get("thinking_tokens"))

    def _delta(self, index: Any, delta: Mapping[str, Any]) -> Sequence[Event]:
        kind = delta.get("type")
        if kind == "text_delta":
            return list(self._text(delta.get("text")))
        current = self._blocks.get(index)
        if kind == "thinking_delta":
            return list(_reasoning(delta.get("thinking")))
        if current is None:
            return ()
        if kind == "input_json_delta" and current.kind == "tool_use":
            piece = _string(delta.get("partial_json"))
            current.said = current.said or bool(piece)
            return [ToolCallDelta(current.position, arguments=piece)] if piece else ()
        if kind == "signature_delta":
            current.signature += _string(delta.get("signature"))
        elif kind == "citations_delta":
            current.citations.extend(_objects([delta.get("citation")]))
        return ()

    def _text(self, text: Any) -> Iterator[Event]:
        if isinstance(text, str) and text:
            self._characters += len(text)
            yield TextDelta(text)


def _reasoning(text: Any) -> Iterator[Event]:
    if isinstance(text, str) and text:
        yield ReasoningDelta(text)


def _citation(source: Mapping[str, Any], start: int, end: int) -> Citation:
    """A page of the web, a search result, or (without an address) a document of the request."""
    url = _string(source.get("url")) or _string(source.get("source"))
    return Citation(url, _string(source.get("title")) or _string(source.get("document_title")), start, end)


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
