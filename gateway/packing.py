"""Events of a whole answer as bytes, and back as those of a new one: with an id and a time of its own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import orjson

from gateway.events import (
    Citation,
    Event,
    Finished,
    MediaOutput,
    RawChunks,
    RawClosing,
    RawReply,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.nested import rewritten

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Started, TextDelta, ReasoningDelta, ReasoningSignature, Citation, MediaOutput, Refusal, ToolCallDelta, Usage,
        Finished, RawChunks, RawClosing,
    )
}  # fmt: skip
NAMES = {name: tuple(field.name for field in fields(kind)) for name, kind in KINDS.items()}
PREFIX = re.compile(r"[A-Za-z]{1,20}[-_]")
# Ends that say that an answer is not what the model would have said.
UNSOUND = {None, "", "error", "content_filter", "refusal", "pause_turn"}
# How such an end is spelled in pieces that passed as bytes. A text that says so is not kept either; that harms nobody.
FILTERED = (b'"content_filter"', b'"pause_turn"', b'"stop_reason":"refusal"', b'"finish_reason":"error"')


def is_whole(events: Sequence[Event]) -> bool:
    """Whether each answer among them has come to an end of its own. One body that is no chat is whole by itself."""
    reasons = [reason for event in events for reason in _reasons(event)]
    return bool(reasons) and not UNSOUND.intersection(reasons)


def _reasons(event: Event) -> Iterator[Any]:
    match event:
        case Finished(reason):
            yield reason
        case RawClosing(finish):
            yield from _choices(finish or {"choices": [{}]})
        case RawChunks(data):
            yield from _unsound(data)
        case RawReply(_, body) if "choices" in body:
            yield from _choices(body)
        case RawReply(_, body) if body.get("type") == "message":
            yield _hashable(body.get("stop_reason"))
        case RawReply():
            yield "stop"


def _choices(body: dict[str, Any]) -> Iterator[Any]:
    """One None for what is no list of choices: a provider may answer anything."""
    choices = body["choices"]
    for choice in choices if isinstance(choices, list) else [None]:
        yield _hashable(choice.get("finish_reason")) if isinstance(choice, dict) else None


def _unsound(data: bytes) -> Iterator[Any]:
    """Of several answers in one stream all but the last end among the pieces."""
    if any(reason in data for reason in FILTERED):
        yield "content_filter"


def _hashable(reason: Any) -> Any:
    return reason if isinstance(reason, str) else None


def packed(events: Sequence[Event]) -> bytes | None:
    """None for what cannot be written."""
    try:
        return orjson.dumps([_written(event) for event in events])
    except (orjson.JSONEncodeError, KeyError):
        return None


def _written(event: Event) -> list[Any]:
    if isinstance(event, RawReply):
        return ["RawReply", event.data.decode("latin-1")]
    name = type(event).__name__
    values = (getattr(event, field) for field in NAMES[name])
    return [name, *(value.decode("latin-1") if isinstance(value, bytes) else value for value in values)]


def unpacked(data: bytes) -> list[Event]:
    """The events of a new answer that says the same."""
    fresh = Fresh()
    return [_read(name, values, fresh) for name, *values in orjson.loads(data)]


def _read(name: str, values: list[Any], fresh: Fresh) -> Event:
    if name == "RawReply":
        body = fresh.put(orjson.loads(values[0].encode("latin-1")))
        return RawReply(rewritten(body), body)
    if name == "RawChunks":
        frames = values[0].encode("latin-1").split(b"\n\n")
        return RawChunks(b"\n\n".join(_renewed(frame, fresh) for frame in frames))
    if name == "RawClosing":
        finish, usage = (fresh.put(value) if value else value for value in (values[0], values[2]))
        return RawClosing(finish, _frame(finish), usage, _frame(usage))
    found: Event = KINDS[name](*values)
    return found


def _frame(body: dict[str, Any] | None) -> bytes:
    return b"data: " + rewritten(body) if body else b""


def _renewed(frame: bytes, fresh: Fresh) -> bytes:
    """A frame that holds nothing of its own, such as Anthropic's deltas, stays as it is."""
    head, mark, text = frame.partition(b"data: ")
    if not mark:
        return frame
    body = orjson.loads(text)
    changed = fresh.put(body)
    return frame if changed == body else head + mark + rewritten(changed)


class Fresh:
    """What a new answer has of its own: ids with the beginnings of the old ones, the time, and that nobody paid."""

    def __init__(self) -> None:
        self._token = os.urandom(14).hex()
        self._created = int(time.time())

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        found = {**body}
        if isinstance(body.get("id"), str):
            beginning = PREFIX.match(body["id"])
            found["id"] = (beginning[0] if beginning else "") + self._token
        if isinstance(body.get("created"), int):
            found["created"] = self._created
        if isinstance(body.get("usage"), dict) and "cost" in body["usage"]:
            found["usage"] = {**body["usage"], "cost": 0}
        if isinstance(body.get("message"), dict) and body.get("type") == "message_start":
            found["message"] = self.put(body["message"])
        return found
