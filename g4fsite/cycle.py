"""One answer on uvicorn's HTTP protocol: its head and its first part leave together.

uvicorn writes the head when it is told; that is a system call and a packet more for every answer, and the ASGI
specification ("Response Start - send event") has the server wait for the first part of the body in any case.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from g4fsite.server import DeadlineProtocol


class Arrival:
    """An asyncio.Event that is made when somebody has to wait; most requests arrive in one piece, and nobody does."""

    _set = False
    _event: asyncio.Event | None = None

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        self._set = False
        if self._event is not None:
            self._event.clear()

    async def wait(self) -> None:
        if not self._set:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()


class Cycle(RequestResponseCycle):
    """Raises RuntimeError for messages that are not HTTP, as uvicorn does.

    It is what the request's scope holds as `g4f.connection` (`gateway.surfaces.exchange.Connection`): of several
    requests sent at once on one connection each has its own.
    """

    task: asyncio.Task[None]
    # What most requests never change lies with the class: uvicorn's own `__init__` sets it for each.
    logger = logging.getLogger("uvicorn.error")
    disconnected = False
    body: bytes = b""  # type: ignore[assignment]
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    _head = b""

    def __init__(self, protocol: DeadlineProtocol, scope: Any, *, keep_alive: bool, expect_100_continue: bool) -> None:
        self.protocol = protocol
        self.scope = scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.message_event = Arrival()  # type: ignore[assignment]

    def on_response(self) -> None:
        self.protocol.on_response_complete()

    def watch(self, left: Callable[[], None] | None) -> None:
        self.protocol.watch(left)

    def has_message(self) -> bool:
        return self.message_event.is_set()

    def taken(self) -> bytes | None:
        if self.more_body or self.disconnected or self.response_complete or not self.message_event.is_set():
            return None
        self.flow.resume_reading()
        self.waiting_for_100_continue = False
        self.message_event.clear()
        body, self.body = self.body, b""
        return body

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self.message_event.is_set():
                await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.transport.is_closing():
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{kind}'.")
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._start(message["status"], message.get("headers", ()))
        elif self.response_complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        else:
            if kind != "http.response.body":
                raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")
            self._part(message.get("body", b""), message.get("more_body", False))

    def whole(self, status: int, headers: Any, body: bytes) -> bool:
        """Sends a whole answer, in one call instead of two messages; False where those must be used."""
        if self.disconnected or self.response_started or self.flow.write_paused or self.transport.is_closing():
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        self._head = self._start(status, headers)
        self._part(body, False)
        return True

    def part(self, body: bytes) -> bool:
        """Sends a part of a stream that has begun, in one call instead of a message; False where that must be used."""
        if self._head or not self.chunked_encoding or self.disconnected or self.flow.write_paused:
            return False
        if self.response_complete or self.transport.is_closing():
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def cut(self) -> None:
        """Ends an answer that cannot be completed, so that whoever reads it sees that it is not whole."""
        self.disconnected = True
        self.scope.pop("g4f.connection", None)  # type: ignore[typeddict-item]
        self.transport.close()

    def _start(self, status: int, headers: Any) -> bytes:
        lines = [STATUS_LINE[status]]
        closes = False
        for header in headers:
            line = _USUAL.get(header)
            if line is not None:
                lines.append(line)
                continue
            name, value = header
            if name in _OURS:
                lines.append(b"%b: %b\r\n" % header)
                continue
            if name == b"content-length" and value.isdigit() and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
                lines.append(b"content-length: %b\r\n" % value)
                continue
            lower = name.lower()
            if HEADER_RE.search(name):
                raise RuntimeError("Invalid HTTP header name.")
            if HEADER_VALUE_RE.search(value):
                raise RuntimeError("Invalid HTTP header value.")
            if lower == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif lower == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
                self.keep_alive = False
                closes = True
            lines.append(b"%b: %b\r\n" % (lower, value))
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _part(self, body: bytes, more_body: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more_body else b"0\r\n\r\n")
        else:
            if len(body) > self.expected_content_length:
                raise RuntimeError("Response content longer than Content-Length")
            self.expected_content_length -= len(body)
        if head or body:
            self.transport.write(head + body)
        if more_body:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        # Else the two would keep each other until the collector comes.
        self.scope.pop("g4f.connection", None)  # type: ignore[typeddict-item]
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


# The edge makes their values itself.
_OURS = frozenset((b"x-request-id", b"openai-processing-ms"))
# Lines of headers that most answers have, which need no check and steer nothing.
_USUAL = {
    (name, value): b"%b: %b\r\n" % (name, value)
    for name, value in (
        (b"content-type", b"application/json"),
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        (b"x-content-type-options", b"nosniff"),
    )
}
