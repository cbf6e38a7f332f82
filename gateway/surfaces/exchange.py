"""One HTTP exchange on the ASGI door: reading the body, answering, noticing that the caller left.

The streamed routes do not enter Django's handler; what they need of HTTP is here, once for every surface.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol, Self

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


class Connection(Protocol):
    """What our server puts into a request's scope as `g4f.connection`. `task` is the one that answers it."""

    task: asyncio.Task[None]

    def watch(self, left: Callable[[], None] | None) -> None:
        """From now on `left` is called, once, when the caller closes; at once if that has happened."""

    def has_message(self) -> bool:
        """Whether `receive` would return without waiting."""

    def taken(self) -> bytes | None:
        """The rest of the body, once all of it is here; None while it is not: `receive`."""

    def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Sends a whole answer, and says how long it is; False when it must go as messages."""

    def good(self, lines: bytes, body: bytes) -> bool:
        """The same for status 200 and header lines that need no check."""

    def part(self, body: bytes) -> bool:
        """Sends a part of a stream that has begun; False when it must go as a message, or would have to wait."""

    def cut(self) -> None:
        """Ends an answer that cannot be completed."""


class Edge(Protocol):
    """What a request has passed before (`g4fsite.edge`), in its scope as `g4f.edge`."""

    def arrived(self) -> bytes | None:
        """The whole body, where it came with its head; None while it is not here."""

    def sent_whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Sends a whole answer; False when it must go as messages."""


class ClientLeft(Exception):
    """The caller closed the connection before the answer was complete."""


class Exchange:
    """`state` of the response: nothing sent, started, or over. `limit_headers` go with whatever answer it becomes;
    so does what `late_headers` gives, which is asked when the head is sent."""

    # What most requests never change lies with the class.
    limit_headers: Sequence[tuple[bytes, bytes]] = ()
    # Of a good answer in one piece.
    plain_headers: Sequence[tuple[bytes, bytes]] = (
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
    )
    late_headers: Callable[[], Sequence[tuple[bytes, bytes]]] = staticmethod(tuple)
    started = False
    over = False
    status = 0
    cut: Exception | None = None
    # Whether the answer is made to its end though nobody waits for it any more.
    stays = False
    # What writes the stream, for a last frame that follows on what was sent.
    encoder: Any = None
    _last_sent = 0.0
    _sending = False
    _beat: asyncio.TimerHandle | None = None
    _beating: asyncio.Task[None] | None = None
    _stream_headers: Sequence[tuple[bytes, bytes]] = ()
    _loop: asyncio.AbstractEventLoop

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.edge: Edge | None = scope.get("g4f.edge")
        self.connection: Connection | None = scope.get("g4f.connection")

    def arrived(self) -> bytes | None:
        """The whole body, where it came with its head; None: wait for `body`."""
        return None if self.edge is None else self.edge.arrived()

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

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, for what must not be whole in memory; raises as `body` does."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            if part := message.get("body"):
                yield part
            if not message.get("more_body"):
                return

    def check_json(self) -> None:
        """Raises BadRequest 415 for bodies that say they are something else; silence counts as JSON."""
        kind = self.scope["g4f.content_type"]
        if kind == b"application/json":
            return
        kind = kind.split(b";", 1)[0].strip().lower()
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
        late = self.late_headers()
        if late:
            headers = [*headers, *late]
        bodyless = self.scope["method"] == "HEAD" or status == 204
        edge = self.edge
        if edge is None or bodyless or not edge.sent_whole(status, headers, body):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": b"" if bodyless else body})

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Of an answer whose parts are written as they come, and whose silences nobody breaks."""
        self._stream_headers = headers
        self._loop = asyncio.get_running_loop()

    def expect_stream(self, headers: list[tuple[bytes, bytes]]) -> None:
        """From now on silence is broken by a comment, so that no proxy or client gives up."""
        self._stream_headers = headers
        self._loop = asyncio.get_running_loop()
        self._last_sent = self._loop.time()
        self._beat = self._loop.call_later(settings.HEARTBEAT_SECONDS, self._check_silence)

    def wrote(self, data: bytes) -> bool:
        """Part of a stream, sent at once where nothing has to be waited for; False: `write` it."""
        if not self.started or self._sending or self.connection is None or not self.connection.part(data):
            return False
        self._last_sent = self._loop.time()
        return True

    async def write(self, data: bytes) -> None:
        """Part of a stream; waits while the caller reads too slowly."""
        self._sending = True
        try:
            if not self.started:
                await self._start_stream()
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            self._sending = False
            self._last_sent = self._loop.time()

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
        headers = [*self._stream_headers, *self.late_headers()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _check_silence(self) -> None:
        loop = self._loop
        due = self._last_sent + settings.HEARTBEAT_SECONDS
        if loop.time() >= due and not self._sending:
            self._beating = loop.create_task(self._comment())
            due = loop.time() + settings.HEARTBEAT_SECONDS
        self._beat = loop.call_at(max(due, loop.time() + 0.05), self._check_silence)

    async def _comment(self) -> None:
        # The answer may have ended, or gone on, between the making of this task and its turn.
        if not self.over and not self._sending:
            await self.write(COMMENT)

    def stop_beating(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def watched(self) -> Watch:
        """A block that ends when the caller leaves (ClientLeft) or its `cut` is called with an error."""
        return Watch(self)

    async def wait_for_leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Watch:
    """Cancels the task of its block. Our server's connection says by itself when its caller left; with others a
    task waits for the message."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._connection = exchange.connection
        # Asking asyncio is a system call.
        task = asyncio.current_task() if self._connection is None else self._connection.task
        assert task is not None
        self.loop = task.get_loop()
        self._task = task
        self._watcher: asyncio.Task[None] | None = None

    def _leave(self) -> None:
        if not self._exchange.over and not self._exchange.stays:
            self.cut(ClientLeft())

    def cut(self, reason: Exception) -> None:
        """The first reason counts."""
        if self._exchange.cut is None:
            self._exchange.cut = reason
            self._task.cancel()

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._connection.watch(self._leave)
        else:
            self._watcher = self.loop.create_task(self._wait())
        return self

    async def _wait(self) -> None:
        await self._exchange.wait_for_leave()
        self._leave()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._connection is not None:
            self._connection.watch(None)
        elif self._watcher is not None:
            self._watcher.cancel()
        self._exchange.stop_beating()
        # Ours alone becomes an exception; a server that is being stopped cancels for real.
        cut = self._exchange.cut
        if cut is not None and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise cut from None
