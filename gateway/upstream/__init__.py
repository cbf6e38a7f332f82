"""The two calls to providers on the chat path, with every network fault translated into our errors.

A client of our own, because this is what a request costs most: a protocol, llhttp and a pool, two timers at most.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from gateway.errors import Unavailable, UpstreamBroken, UpstreamError, UpstreamTimeout
from gateway.targets import Target
from gateway.upstream.connection import MAX_REPLY_BYTES, Connection, Fault
from gateway.upstream.pool import Origin, Pool, PrivateAddress
from gateway.upstream.request import Prepared, getting, getting_own, other, prepared

DRAIN_SECONDS = 2.0
ERROR_BODY_SECONDS = 10.0


@dataclass(slots=True)
class Reply:
    """A whole answer. `headers` are the provider's, names in lower case; they never reach a caller as they are."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


class UpstreamStream:
    """An open answer. One timer per stream closes it when the first event, the gap or the total is overdue."""

    def __init__(self, pool: Pool, origin: Origin, connection: Connection, target: Target, begun: float) -> None:
        self._pool = pool
        self._origin = origin
        self._connection = connection
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._limits = target.endpoint.timeouts
        self._total_at = begun + self._limits.stream_total
        self._overdue_at = begun + self._limits.first_event
        self._heard = False
        self._arm()

    def _arm(self) -> None:
        self._armed_for = min(self._overdue_at, self._total_at)
        self._timer = self._loop.call_at(self._armed_for, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if not self._connection.awaited:
            # It is the caller that is slow: the provider's silence counts from the next read.
            self._overdue_at = max(self._overdue_at, now + self._limits.gap)
        if now < min(self._overdue_at, self._total_at):
            self._arm()
        else:
            self._connection.expire()

    async def read(self) -> bytes:
        """What has arrived, at least a byte; empty at the end. Raises UpstreamError."""
        if self._heard:
            self._overdue_at = self._loop.time() + self._limits.gap
        connection = self._connection
        while not connection.has_news():
            await connection.arrival()
        data = connection.taken()
        if not data and connection.fault is not None:
            raise self._error(connection.fault)
        return data

    def _error(self, fault: Fault) -> UpstreamError:
        if fault is Fault.OVERDUE:
            what = "took too long" if self._loop.time() >= self._total_at else "fell silent"
            return UpstreamTimeout(f"{self._target.provider} {what}.")
        return UpstreamBroken(f"{self._target.provider} broke off its answer.")

    def header(self, name: bytes) -> str | None:
        """The provider's; `name` in lower case. It never reaches a caller as it is."""
        headers = self._connection.headers
        return next((value.decode("latin-1") for key, value in headers if key == name), None)

    def heard(self) -> None:
        """An event was understood: from now on the gap counts. Comments alone do not stop the wait for the first."""
        if not self._heard:
            self._heard = True
            self._overdue_at = self._loop.time() + self._limits.gap
            # Not asked of the timer: uvloop's has no time when it is already due.
            if self._overdue_at < self._armed_for:
                self._timer.cancel()
                self._arm()

    def finish(self) -> None:
        """Ends a complete answer: the rest is read aside, so that the connection can serve again."""
        self._timer.cancel()
        if self._connection.complete:
            self._pool.put(self._origin, self._connection)
            return
        task = self._loop.create_task(self._drain())
        _drains.add(task)
        task.add_done_callback(_drains.discard)

    async def _drain(self) -> None:
        timer = self._loop.call_later(DRAIN_SECONDS, self._connection.expire)
        try:
            while await self._connection.more():
                pass
        finally:
            timer.cancel()
            self._pool.put(self._origin, self._connection)

    def close(self) -> None:
        """Drops the connection at once: the provider notices and stops working."""
        self._timer.cancel()
        self._connection.abort()


_drains: set[asyncio.Task[None]] = set()


class Upstream:
    """Connections to providers, kept alive per running loop."""

    def __init__(self) -> None:
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
        # A process serves on one loop: the last one asked for is nearly always the one.
        self._last: Pool | None = None

    def _pool(self, loop: asyncio.AbstractEventLoop) -> Pool:
        last = self._last
        if last is not None and last.loop is loop:
            return last
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = Pool(loop)
        self._last = pool
        return pool

    async def close(self) -> None:
        """Lets go of the connections that wait."""
        self._last = None
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            pool.close()

    def call(self, target: Target, path: str, body: bytes, content_type: str = "") -> Coroutine[Any, Any, Reply]:
        """To be awaited: a plain answer of any status, whole. `content_type` is of a body that is not JSON.

        Raises UpstreamError for faults of the network; Unavailable.
        """
        request = (
            other(target, path, content_type, stream=False) if content_type else prepared(target, path, stream=False)
        )
        return self._whole(target, request, body)

    async def get(self, target: Target, path: str) -> Reply:
        """As `call`, of a path below the base URL, by GET."""
        return await self._whole(target, getting(target, path), b"")

    async def get_own(self, target: Target, url: str) -> Reply | None:
        """As `get`, of a whole URL; None unless it leads to the provider's own scheme, host and port."""
        request = getting_own(target, url)
        return None if request is None else await self._whole(target, request, b"")

    async def _whole(self, target: Target, request: Prepared, body: bytes) -> Reply:
        loop = asyncio.get_running_loop()
        pool = self._pool(loop)
        deadline = loop.time() + target.endpoint.timeouts.total
        connection = pool.waiting(request.origin)
        if connection is None:
            connection = await _connected(pool, request.origin, target, target.endpoint.timeouts.total)
        try:
            connection.limit(deadline)
            connection.begin(request.head + b"%d\r\n\r\n" % len(body), body)
            # As `connection.whole`, without a coroutine more for each request.
            connection.collect()
            while not connection.is_whole():
                await connection.arrival()
            data = connection.taken()
            if connection.fault is not None or connection.coded:
                raise _error(connection, target)
            return Reply(connection.status, connection.headers, data)
        finally:
            pool.put(request.origin, connection)

    async def open_stream(
        self, target: Target, path: str, body: bytes, content_type: str = "", accept: str = ""
    ) -> UpstreamStream | Reply:
        """A stream when the status is 200, else the whole answer. `accept` is for answers that are no events, and
        comes with a `content_type`. Raises UpstreamError, Unavailable."""
        request = (
            other(target, path, content_type, stream=True, accept=accept)
            if content_type
            else prepared(target, path, stream=True)
        )
        loop = asyncio.get_running_loop()
        pool = self._pool(loop)
        begun = loop.time()
        first = target.endpoint.timeouts.first_event
        connection = await _connected(pool, request.origin, target, first)
        opened = False
        try:
            connection.limit(begun + first)
            connection.begin(request.head + b"%d\r\n\r\n" % len(body), body)
            await connection.head()
            if connection.fault is Fault.OVERDUE:
                raise UpstreamTimeout(f"{target.provider} did not begin to answer in {first:g} seconds.")
            if connection.fault is not None or connection.coded:
                raise _error(connection, target)
            if connection.status == 200:
                opened = True
                connection.limit(None)
                return UpstreamStream(pool, request.origin, connection, target, begun)
            connection.limit(loop.time() + ERROR_BODY_SECONDS)
            data = await connection.whole()
            return Reply(connection.status, connection.headers, data if connection.complete else b"")
        finally:
            if not opened:
                pool.put(request.origin, connection)


async def _connected(pool: Pool, origin: Origin, target: Target, seconds: float) -> Connection:
    try:
        return await pool.get(origin, min(seconds, target.endpoint.timeouts.connect))
    except PrivateAddress as error:
        raise _unsent(UpstreamBroken(f"{target.provider} leads to a private address that is not allowed.")) from error
    except TimeoutError as error:
        if pool.is_full(origin):
            raise _unsent(
                UpstreamTimeout(f"{target.provider} has too much to do: all its connections are taken.")
            ) from error
        raise _unsent(UpstreamTimeout(f"{target.provider} did not answer in time.")) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            # No fault of the provider's, so the breaker must not hear of it.
            raise Unavailable("The server has as many connections open as it may.", code="overloaded") from error
        raise _unsent(UpstreamBroken(f"{target.provider} cannot be reached.")) from error


def _unsent(error: UpstreamError) -> UpstreamError:
    """No provider has heard of the request."""
    error.unsure = False
    return error


def _error(connection: Connection, target: Target) -> UpstreamError:
    """What is wrong with a connection that gave no usable answer."""
    fault = connection.fault
    if fault is None:
        return UpstreamBroken(f"{target.provider} sent a compressed answer though none was asked for.")
    if fault is Fault.OVERDUE:
        return UpstreamTimeout(f"{target.provider} did not answer in time.")
    if fault is Fault.UNANSWERED:
        # Not sent again to the same provider: it may have read the request, and would be paid twice.
        return UpstreamBroken(f"{target.provider} closed the connection without an answer.")
    if fault is Fault.TOO_LARGE:
        return UpstreamBroken(f"{target.provider} sent more than {MAX_REPLY_BYTES // 2**20} MiB.")
    return UpstreamBroken(f"The connection to {target.provider} failed.")


upstream = Upstream()

__all__ = ["Reply", "Upstream", "UpstreamError", "UpstreamStream", "upstream"]
