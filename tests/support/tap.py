"""Stands between a client and the gateway, passes every byte on, and remembers what was asked and answered.

`check_all` holds each answer of OpenAI's routes against OpenAI's own description, whichever client had asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httptools

from tests.support.openai_schema import (
    check,
    check_completion,
    check_error,
    check_event,
    check_events,
    check_items,
    check_model,
    check_models,
    check_response,
    check_stream,
    sse_payloads,
    typed_events,
)


@dataclass
class Message:
    """One request or answer. `over` once all of it has come."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    url: str = ""
    status: int = 0
    over: bool = False


class _Reader:
    """The messages of one direction of a connection, as httptools tells of them."""

    def __init__(self, parser: type[Any]) -> None:
        self.messages: list[Message] = []
        self._parser = parser(self)
        self._answers = parser is httptools.HttpResponseParser

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.messages.append(Message())

    def on_url(self, url: bytes) -> None:
        self.messages[-1].url += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.messages[-1].headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.messages[-1].status = self._parser.get_status_code() if self._answers else 0

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.messages[-1].over = True


@dataclass
class Exchange:
    asked: Message
    answered: Message

    @property
    def path(self) -> str:
        """Below the surface's root, whichever that is: `chat/completions`, `responses/resp_1`."""
        steps = urlsplit(self.asked.url).path.strip("/").split("/")
        return "/".join(steps[2 if steps[0] == "api" else 1 :])

    @property
    def streamed(self) -> bool:
        return self.answered.headers.get("content-type", "").startswith("text/event-stream")


class Tap:
    """A context manager; `url` is where clients find it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._there = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[_Reader, _Reader]] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="tap", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def exchanges(self) -> list[Exchange]:
        pairs = ((asked.messages, answered.messages) for asked, answered in self._pairs)
        return [Exchange(*both) for pair in pairs for both in zip(*pair, strict=False)]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._there)
                self._sockets += [near, far]
                asked, answered = _Reader(httptools.HttpRequestParser), _Reader(httptools.HttpResponseParser)
                self._pairs.append((asked, answered))
                for source, sink, reader in ((near, far, asked), (far, near, answered)):
                    threading.Thread(target=_pump, args=(source, sink, reader), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, reader: _Reader) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            reader.feed(data)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def check_all(tap: Tap) -> Counter[str]:
    """How many answers of each kind were held against the description. Raises AssertionError for one that departs."""
    return Counter(filter(None, map(_checked, tap.exchanges)))


def _checked(exchange: Exchange) -> str:
    path, answered = exchange.path, exchange.answered
    if path.startswith("messages") or exchange.asked.url == "":
        return ""
    if answered.status >= 400:
        check_error(json.loads(answered.body))
        return "error"
    if exchange.streamed:
        return _checked_stream(path, exchange)
    if not answered.over or answered.headers.get("content-length") == "0":
        return ""
    return _checked_body(path, json.loads(answered.body))


def _checked_body(path: str, body: Any) -> str:
    if path == "chat/completions":
        check_completion(body)
    elif path == "completions":
        check("CreateCompletionResponse", body)
    elif path == "embeddings":
        check("CreateEmbeddingResponse", {**body, "data": list(map(_unpacked, body["data"]))})
    elif path == "models":
        check_models(body)
    elif path.startswith("models/"):
        check_model(body)
    elif path.endswith("/input_items"):
        check_items(body)
    elif body.get("object") == "response" and "deleted" not in body:
        check_response(body)
    else:
        return ""
    return path.partition("/")[0] if path.startswith(("models", "responses")) else path


def _unpacked(item: dict[str, Any]) -> dict[str, Any]:
    """Its vector as numbers, in which form the description has it."""
    if not isinstance(item["embedding"], str):
        return item
    data = base64.b64decode(item["embedding"], validate=True)
    return {**item, "embedding": list(struct.unpack(f"<{len(data) // 4}f", data))}


def _checked_stream(path: str, exchange: Exchange) -> str:
    """Of a stream that its client left, what came of it."""
    data, over = exchange.answered.body, exchange.answered.over
    data = data if over else data[: data.rfind(b"\n\n") + 2]
    if path == "responses":
        events = typed_events(data)
        if over:
            check_events(events, events[-1]["type"])
        else:
            for event in events:
                check_event(event)
        return "response events"
    chunks = [chunk for chunk in sse_payloads(data) if chunk != "[DONE]"]
    if path == "completions":
        for chunk in chunks:
            # Until the last, OpenAI sends null for the reason that its document requires.
            known = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]
            check("CreateCompletionResponse", {**chunk, "choices": known})
        return "completion chunks"
    if chunks and "error" in chunks[-1]:
        check_error(chunks.pop())
        over = False
    if over:
        asked = (json.loads(exchange.asked.body).get("stream_options") or {}).get("include_usage") is True
        check_stream(chunks, include_usage=asked)
    else:
        for chunk in chunks:
            check("CreateChatCompletionStreamResponse", chunk)
    return "chat chunks"
