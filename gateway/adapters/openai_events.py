"""OpenAI's chat answers as events, for callers who speak another protocol and for models that are emulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.adapters.failures import from_object
from gateway.adapters.translated import AnswerReader
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


def answer(target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
    """The events of a whole completion. Raises UpstreamError."""
    if body.get("error"):
        raise from_object(target, body["error"])
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a completion.")
    found: list[Event] = []
    for choice in choices:
        index = choice.get("index") or 0
        found.extend(_said(choice.get("message") or {}, index))
        found.append(Finished(choice.get("finish_reason") or "stop", index))
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
            index = choice.get("index") or 0
            found.extend(_said(choice.get("delta") or {}, index))
            if choice.get("finish_reason"):
                self._finished = True
                found.append(Finished(choice["finish_reason"], index))
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
                cited.get("start_index"),
                cited.get("end_index"),
                index,
            )
    yield from _pictures(message.get("images"), index)


def _call(call: Mapping[str, Any], position: int, index: int) -> ToolCallDelta:
    function = call.get("function") or {}
    at = call.get("index")
    return ToolCallDelta(
        at if isinstance(at, int) else position,
        call.get("id") or None,
        function.get("name") or None,
        function.get("arguments") or "",
        index,
    )


def _pictures(images: Any, index: int) -> Iterator[Event]:
    for item in images if isinstance(images, list) else ():
        held = item.get("image_url") if isinstance(item, dict) else None
        url = held.get("url") if isinstance(held, dict) else None
        if isinstance(url, str) and url.startswith("data:") and ";base64," in url:
            kind, _, data = url.removeprefix("data:").partition(";base64,")
            yield MediaOutput(kind, data, index)
