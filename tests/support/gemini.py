"""What the tests of Gemini's protocol share: a target, requests, and answers as records, streams and messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from gateway.adapters.gemini import GeminiAdapter
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import Records
from gateway.chat import ChatRequest
from gateway.events import (
    Event,
    Started,
)
from gateway.surfaces.openai.encoder import ReplyEncoder
from gateway.surfaces.openai.parser import parse_chat
from gateway.targets import Endpoint, Target

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
ADAPTER = GeminiAdapter()
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def target(model: str = "gemini-2.5-flash", **endpoint: Any) -> Target:
    made = Endpoint("Gemini", "https://generativelanguage.googleapis.com/v1beta", **endpoint)
    return Target("gemini", 1, "Gemini", 1, "m", model, made, credential="AIza-secret-credential")


TARGET = target()


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def chat(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": list(messages) or [{"role": "user", "content": "hi"}], **fields}
    return parse_chat(orjson.dumps(body))


def body(*messages: dict[str, Any], model: str = "gemini-2.5-flash", **fields: Any) -> Any:
    return json.loads(orjson.dumps(ADAPTER.body(target(model), chat(*messages, **fields))))


def streamed(data: bytes, size: int = 0) -> list[Event]:
    records = Records(TARGET, ADAPTER.reader(TARGET), EventSplitter())
    found: list[Event] = []
    for start in range(0, len(data), size or len(data)):
        found.extend(records.feed(data[start : start + (size or len(data))]))
        if records.failure:
            raise records.failure
    return [*found, *records.end()]


def frame(record: Any) -> bytes:
    return b"data: " + orjson.dumps(record) + b"\r\n\r\n"


def message(events: Sequence[Event]) -> Any:
    """The assistant's message that OpenAI's clients get of these events."""
    encoder = ReplyEncoder(chat())
    for event in (Started("Gemini", "m"), *events):
        encoder.take(event)
    return orjson.loads(encoder.body())["choices"][0]["message"]


def call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def function(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}
