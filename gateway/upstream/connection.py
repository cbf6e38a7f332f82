"""One HTTP/1.1 connection to a provider (RFC 9112), parsed by llhttp. It serves one exchange at a time.

A connection that did anything unexpected is never used again: bytes nobody asked for, an answer before the
request was read, a length that does not hold. So no answer can be taken for another request's.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from typing import TYPE_CHECKING, cast

import httptools

if TYPE_CHECKING:
    from gateway.upstream.places import Place

MAX_HEAD_BYTES = 64 * 1024
MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# What waits here for a caller that reads slowly; beyond it the provider is not read.
MAX_WAITING_BYTES = 32 * 1024
READ_BYTES = 32 * 1024
JOINED_BYTES = 16 * 1024
PLAIN = {b"content-encoding": (b"identity", b""), b"transfer-encoding": (b"chunked",)}


class Fault(enum.Enum):
    """Why an exchange has no whole answer."""

    UNANSWERED = enum.auto()  # closed before a byte
    CUT = enum.auto()  # closed or reset within
    MALFORMED = enum.auto()
    TOO_LARGE = enum.auto()
    OVERDUE = enum.auto()


class Connection(asyncio.BufferedProtocol):
    """`begin`, then `whole` or `head` and `more`, then `end`. `fault` says what went wrong."""

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        # Shared by the loop's connections: what a read puts there is parsed before the next one.
        self._buffer = buffer
        self.lost = False
        self.place: Place | None = None
        self.idle_since = 0.0
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._busy = False
        self._paused = False
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.fault: Fault | None = None
        self.complete = False
        # Whether the body is compressed, though nobody asked for that.
        self.coded = False
        self._headed = False
        self._head_bytes = 0
        self._reusable = False
        self._until_close = False
        self._collecting = False
        self._parts: list[bytes] = []
        self._waiting_bytes = 0

    def begin(self, head: bytes, body: bytes) -> None:
        """Sends a request."""
        assert self._transport is not None
        self._reset()
        self._busy = True
        if len(body) <= JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    async def tunnel(self, authority: bytes, credentials: bytes, context: ssl.SSLContext, name: str) -> None:
        """Turns a connection to a proxy into one through it, secured (RFC 9110, section 9.3.6). Raises OSError."""
        self.begin(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, credentials), b"")
        await self.head()
        if self.fault is not None or self.status != 200 or self._transport is None:
            self.abort()
            raise ConnectionRefusedError("the proxy refused the connection")
        self._busy = False
        secured = await self._loop.start_tls(self._transport, self, context, server_hostname=name)
        if secured is None:
            raise ConnectionAbortedError("the proxy closed the connection")
        self._transport = secured
        # After CONNECT the parser waits for a body that does not come.
        self._parser = httptools.HttpResponseParser(self)

    async def whole(self) -> bytes:
        """The body, once all of it is there, or `fault` or `coded` are set. An error's is cut at MAX_ERROR_BYTES."""
        self.collect()
        while not self.is_whole():
            await self.arrival()
        return self.taken()

    def collect(self) -> None:
        """From now on the body is gathered until it `is_whole`, or cut, as `whole` says."""
        self._collecting = True
        if self._paused:
            self._resume()
        self._bound()

    def is_whole(self) -> bool:
        return self.complete or self.fault is not None or self.coded

    async def head(self) -> None:
        """Until the status and the headers are there, or `fault` is set."""
        while not self._headed and self.fault is None:
            await self.arrival()

    async def more(self) -> bytes:
        """What has arrived of the body; empty at its end and when `fault` is set."""
        while not self.has_news():
            await self.arrival()
        return self.taken()

    def has_news(self) -> bool:
        """Whether `taken` gives something, or nothing more will come."""
        return bool(self._parts) or self.complete or self.fault is not None

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for what comes next."""
        return self._waiter is not None

    def end(self) -> bool:
        """Ends the exchange; True when the connection may serve another one."""
        self._busy = False
        self._deadline = None
        self._parts = []
        # A provider may answer before it has read the request: the rest would lead the next one.
        if self.complete and self._reusable and self._is_quiet():
            if self._paused:
                self._resume()
            return True
        self.abort()
        return False

    def _is_quiet(self) -> bool:
        transport = self._transport
        if transport is None or self.lost or transport.is_closing():
            return False
        return not transport.get_write_buffer_size()

    def abort(self) -> None:
        """Closes at once; the provider notices and stops working."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def limit(self, at: float | None) -> None:
        """Ends the exchange under way at that time of the loop's, as `expire` does; None: not any more.

        The timer runs on from one exchange to the next: one for each would cost as much as parsing the answer.
        """
        self._deadline = at
        if at is not None and (self._timer is None or at < self._timer_at):
            self._stop_timer()
            self._timer, self._timer_at = self._loop.call_at(at, self._look_at_clock), at

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self.limit(self._deadline)
        else:
            self.expire()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire(self) -> None:
        """The time for this exchange is over."""
        self._fail(Fault.OVERDUE)

    def arrival(self) -> asyncio.Future[None]:
        """Done when something has happened; whoever waits looks again. For one at a time."""
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _bound(self) -> None:
        if self._waiting_bytes > (MAX_REPLY_BYTES if self.status < 400 else MAX_ERROR_BYTES):
            self._reusable = False
            if self.status < 400:
                self.complete = False
                self._fail(Fault.TOO_LARGE)
            else:
                self.complete = True
                self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, fault: Fault) -> None:
        if self._busy and not self.complete and self.fault is None:
            self.fault = fault
            self._wake()
        self.abort()

    def taken(self) -> bytes:
        """What waits of the body; the provider may send more."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._waiting_bytes = 0
        if self._paused:
            self._resume()
        return data

    def _resume(self) -> None:
        if self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # asyncio.BufferedProtocol, because uvloop would read 256 KB at a time, all of which may have to wait here

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by class.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._busy or self._parser is None:
            self.abort()
            return
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            self._fail(Fault.MALFORMED)
            return
        if not self._headed:
            self._head_bytes += nbytes
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(Fault.MALFORMED)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._stop_timer()
        if self.place is not None:
            self.place.leave()
        # The parser's callbacks are this object's: a circle that only the collector would undo.
        self._parser = None
        if not self._busy or self.complete or self.fault is not None:
            return
        if self._until_close and exc is None:
            self.complete = True
        else:
            self.fault = Fault.CUT if self._headed or self._head_bytes or exc else Fault.UNANSWERED
        self._wake()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # Later ones are trailers: nobody needs them.
        if not self._headed:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._parser is None or self.complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.status = status
        self._headed = True
        self._reusable = self._parser.should_keep_alive()
        names = dict(self.headers)
        framed = b"content-length" in names or b"transfer-encoding" in names
        self._until_close = not framed and status not in (204, 304)
        if b"content-encoding" in names or b"transfer-encoding" in names:
            self.coded = any(value.lower() not in PLAIN[name] for name, value in self.headers if name in PLAIN)
        if not self._collecting or self.coded:
            self._wake()

    def on_body(self, data: bytes) -> None:
        if self.complete:
            return
        self._parts.append(data)
        self._waiting_bytes += len(data)
        if not self._collecting:
            self._wake()
            if self._waiting_bytes > MAX_WAITING_BYTES and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        else:
            self._bound()

    def on_message_complete(self) -> None:
        if not self._headed:
            # An interim answer (1xx): the real one follows.
            self.headers = []
            return
        self.complete = True
        self._wake()
