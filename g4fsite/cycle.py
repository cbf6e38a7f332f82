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
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from g4fsite.server import DeadlineProtocol


class Cycle:
    """Raises RuntimeError for messages that are not HTTP, as uvicorn does.

    It is what the request's scope holds as `g4f.connection` (`gateway.surfaces.exchange.Connection`): of several
    requests sent at once on one connection each has its own. uvicorn's own cycle is not its parent: what is looked
    up in slots costs a tenth of what is looked up among a class's attributes.
    """

    __slots__ = (
        "_event",
        "_head",
        "_news",
        "body",
        "chunked_encoding",
        "disconnected",
        "expected_content_length",
        "flow",
        "keep_alive",
        "more_body",
        "protocol",
        "response_complete",
        "response_started",
        "scope",
        "task",
        "transport",
        "waiting_for_100_continue",
    )

    def __init__(self, protocol: DeadlineProtocol, scope: Any, *, keep_alive: bool, expect_100_continue: bool) -> None:
        self.protocol = protocol
        self.scope = scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_100_continue
        self.task: asyncio.Task[None]
        self.disconnected = False
        self.body = b""
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding: bool | None = None
        self.expected_content_length = 0
        self._head = b""
        self._news = False
        # Made when somebody has to wait; most requests arrive in one piece, and nobody does.
        self._event: asyncio.Event | None = None

    @property
    def message_event(self) -> Cycle:
        """What uvicorn sets when the caller has left."""
        return self

    def set(self) -> None:
        """There is news for `receive`."""
        self._news = True
        if self._event is not None:
            self._event.set()

    def _heard(self) -> None:
        self._news = False
        if self._event is not None:
            self._event.clear()

    async def run(self, app: Any) -> None:
        """The request's task."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                log.error("the application returned without an answer")
                await self._give_up()
        except BaseException:
            log.exception("the application failed")
            await self._give_up()
        finally:
            self.protocol.tasks.discard(self.task)

    async def _give_up(self) -> None:
        if self.response_started:
            self.transport.close()
            return
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"21"),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"Internal Server Error"})

    def watch(self, left: Callable[[], None] | None) -> None:
        self.protocol.left = left
        if left is not None:
            # A large body may have stopped the reading, and an end that is not read is not noticed.
            if self.flow.read_paused:
                self.flow.resume_reading()
            if self.transport.is_closing():
                left()

    def has_message(self) -> bool:
        return self._news

    def taken(self) -> bytes | None:
        if self.more_body or self.disconnected or self.response_complete or not self._news:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()
        self.waiting_for_100_continue = False
        self._heard()
        body, self.body = self.body, b""
        return body

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self._news:
                if self._event is None:
                    self._event = asyncio.Event()
                await self._event.wait()
            self._heard()
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
        if not self._can_answer():
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        self._head = self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
        self._part(body, False)
        return True

    def good(self, lines: bytes, body: bytes) -> bool:
        """The same for an answer of status 200 whose header `lines` need no check and steer nothing."""
        if not self._can_answer():
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        last = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"%bcontent-length: %d\r\n%b%b%b" % (OK, len(body), lines, last, body))
        self._complete()
        return True

    def _can_answer(self) -> bool:
        taken = self.disconnected or self.response_started or self.flow.write_paused
        return not taken and not self.transport.is_closing()

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
        self.scope.pop("g4f.connection", None)
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
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        # Else the two would keep each other until the collector comes.
        self.scope.pop("g4f.connection", None)
        self.set()
        if not self.keep_alive:
            self.transport.close()
        self.protocol.on_response_complete()


log = logging.getLogger("uvicorn.error")
OK = STATUS_LINE[200]
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
