"""OpenAI's chat answers as events, for callers who speak another protocol and for models that are emulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.adapters.failures import from_object
from gateway.adapters.inline_media import mime_of
from gateway.adapters.translated import UNREADABLE, AnswerReader
from gateway.errors import UpstreamBroken
from gateway.events import (
    Citation,
    Event,
    Finished,
    MediaOutput,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    TextDelta,
    ToolCallDelta,
)
from gateway.targets import Target
from gateway.tokens import read_usage

# Positions that a provider may name; beyond them it counts wrong.
MAX_CALLS = 1000
MAX_CHOICES = 127


def answer(target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
    """The events of a whole completion. Raises UpstreamError."""
    if body.get("error"):
        raise from_object(target, body["error"])
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a completion.")
    found: list[Event] = []
    try:
        for choice in choices:
            index = _number(choice.get("index"))
            found.extend(_said(choice.get("message") or {}, index))
            found.append(Finished(_text(choice.get("finish_reason")) or "stop", index))
    except UNREADABLE:
        raise UpstreamBroken(f"{target.provider} sent an answer that cannot be read.") from None
    usage = read_usage(body.get("usage"))
    return [*found, usage] if usage else found


class ChunkEvents(AnswerReader):
    """The chunks of one stream. Over at the connection's end, which a finishing chunk must have come before."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._finished = False

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        if name not in ("", "message", "error"):
            return ()
        if name == "error" or data.get("error"):
            raise from_object(self.target, data.get("error") or data)
        found: list[Event] = []
        for choice in data.get("choices") or ():
            index = _number(choice.get("index"))
            found.extend(_said(choice.get("delta") or {}, index))
            if reason := _text(choice.get("finish_reason")):
                self._finished = True
                found.append(Finished(reason, index))
        usage = read_usage(data.get("usage"))
        if usage:
            found.append(usage)
        return found

    def end(self) -> Sequence[Event]:
        return () if self._finished else super().end()


def _said(message: Mapping[str, Any], index: int) -> Iterator[Event]:
    """What a message or a delta holds, in the order in which people read it."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            yield ReasoningDelta(message[name], index)
            break
    for detail in message.get("reasoning_details") or ():
        if isinstance(detail, dict) and detail.get("type") == "reasoning.encrypted":
            yield ReasoningSignature(str(detail.get("data") or ""), True, index)
        elif isinstance(detail, dict) and detail.get("signature"):
            yield ReasoningSignature(str(detail["signature"]), False, index)
    if isinstance(message.get("content"), str) and message["content"]:
        yield TextDelta(message["content"], index)
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        yield Refusal(message["refusal"], index)
    for position, call in enumerate(message.get("tool_calls") or ()):
        yield _call(call, position, index)
    for note in message.get("annotations") or ():
        cited = note.get("url_citation") if isinstance(note, dict) else None
        if isinstance(cited, dict) and cited.get("url"):
            yield Citation(
                str(cited["url"]),
                str(cited.get("title") or ""),
                _position(cited.get("start_index")),
                _position(cited.get("end_index")),
                index,
            )
    yield from _pictures(message.get("images"), index)
    yield from _sounds(message, index)


def _call(call: Mapping[str, Any], position: int, index: int) -> ToolCallDelta:
    function = call.get("function") or {}
    at, arguments = call.get("index"), function.get("arguments")
    if isinstance(arguments, dict):
        # Some servers forget that OpenAI's form is the text of an object.
        arguments = orjson.dumps(arguments).decode()
    return ToolCallDelta(
        at if isinstance(at, int) and 0 <= at <= MAX_CALLS else position,
        _text(call.get("id")) or None,
        _text(function.get("name")) or None,
        _text(arguments),
        index,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _position(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> int:
    """The index of a choice."""
    return min(_position(value) or 0, MAX_CHOICES)


def _pictures(images: Any, index: int) -> Iterator[Event]:
    for item in images if isinstance(images, list) else ():
        held = item.get("image_url") if isinstance(item, dict) else None
        url = held.get("url") if isinstance(held, dict) else None
        if isinstance(url, str) and url.startswith("data:") and ";base64," in url:
            kind, _, data = url.removeprefix("data:").partition(";base64,")
            yield MediaOutput(kind, data, index)


def _sounds(message: Mapping[str, Any], index: int) -> Iterator[Event]:
    """Speech, whole or in pieces; what is spoken is the answer's text where it has no other."""
    audio = message.get("audio")
    if not isinstance(audio, dict):
        return
    if not message.get("content") and _text(audio.get("transcript")):
        yield TextDelta(audio["transcript"], index)
    if _text(audio.get("data")):
        yield MediaOutput(mime_of(audio["data"], "audio/pcm"), audio["data"], index)
