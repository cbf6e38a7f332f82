"""One HTTP exchange on the ASGI door: reading the body, answering, noticing that the caller left.

The streamed routes do not enter Django's handler; what they need of HTTP is here, once for every surface.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from django.conf import settings

from gateway.errors import BadRequest

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

COMMENT = b": waiting\n\n"
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class ClientLeft(Exception):
    """The caller closed the connection before the answer was complete."""


class Revoked(Exception):
    """The caller's key lost its right while the answer was under way."""


class Exchange:
    """`state` of the response: nothing sent, started, or over."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.started = False
        self.over = False
        self.status = 0
        self.cut: type[Exception] | None = None
        self._receive = receive
        self._send = send
        self._last_sent = 0.0
        self._sending = False
        self._beat: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self._stream_headers: list[tuple[bytes, bytes]] = []

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.scope["headers"] if key == name), b"")

    async def body(self) -> bytes:
        """The whole body. The edge bounds its size and time; raises ClientLeft when it never ends."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return message.get("body", b"")  # type: ignore[no-any-return]
        parts = []
        while True:
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self._receive()

    def check_json(self) -> None:
        """Raises BadRequest 415 for bodies that say they are something else; silence counts as JSON."""
        kind = self.header(b"content-type").split(b";", 1)[0].strip().lower()
        if kind and kind != b"application/json" and not kind.endswith(b"+json"):
            shown = kind.decode("latin-1")[:100]
            raise BadRequest(
                f"Unsupported content type {shown!r}; send application/json.",
                status=415,
                code="unsupported_media_type",
            )

    async def reply(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer; HEAD gets its headers alone."""
        self.started = self.over = True
        self.status = status
        length = [(b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers + length})
        empty = self.scope["method"] == "HEAD" or status == 204
        await self._send({"type": "http.response.body", "body": b"" if empty else body})

    def expect_stream(self, headers: list[tuple[bytes, bytes]]) -> None:
        """From now on silence is broken by a comment, so that no proxy or client gives up."""
        self._stream_headers = headers
        loop = asyncio.get_running_loop()
        self._last_sent = loop.time()
        self._beat = loop.call_later(settings.HEARTBEAT_SECONDS, self._check_silence)

    async def write(self, data: bytes) -> None:
        """Part of a stream; waits while the caller reads too slowly."""
        self._sending = True
        try:
            if not self.started:
                await self._start_stream()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            self._sending = False
            self._last_sent = asyncio.get_running_loop().time()

    async def end_stream(self, data: bytes) -> None:
        self.stop_beating()
        if self._beating is not None:
            await asyncio.gather(self._beating, return_exceptions=True)
        if not self.started:
            await self._start_stream()
        self.over = True
        await self._send({"type": "http.response.body", "body": data})

    async def _start_stream(self) -> None:
        self.started, self.status = True, 200
        await self._send({"type": "http.response.start", "status": 200, "headers": self._stream_headers})

    def _check_silence(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._last_sent + settings.HEARTBEAT_SECONDS
        if loop.time() >= due and not self._sending:
            self._beating = loop.create_task(self._comment())
            due = loop.time() + settings.HEARTBEAT_SECONDS
        self._beat = loop.call_at(max(due, loop.time() + 0.05), self._check_silence)

    async def _comment(self) -> None:
        await self.write(COMMENT)

    def stop_beating(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Callable[[], None]]:
        """Runs its block until the caller leaves (ClientLeft) or the function it gives is called (Revoked)."""
        task = asyncio.current_task()
        assert task is not None

        def cut(kind: type[Exception]) -> None:
            if self.cut is None:
                self.cut = kind
                task.cancel()

        watcher = asyncio.get_running_loop().create_task(self._wait_for_leave(lambda: cut(ClientLeft)))
        try:
            yield lambda: cut(Revoked)
        except asyncio.CancelledError:
            # Ours alone becomes an exception; a server that is being stopped cancels for real.
            if self.cut is not None and task.uncancel() == 0:
                raise self.cut from None
            raise
        finally:
            watcher.cancel()
            self.stop_beating()

    async def _wait_for_leave(self, left: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.over:
            left()


def elapsed_header(scope: Scope) -> tuple[bytes, bytes]:
    started = scope.get("g4f.started") or time.perf_counter()
    return (b"openai-processing-ms", b"%d" % ((time.perf_counter() - started) * 1000))
