"""Connections to providers: how they are made, and those that wait to be used again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import aiohappyeyeballs

from gateway.upstream.connection import READ_BYTES, Connection
from gateway.upstream.places import Place, Places
from media.addresses import is_public

# Shorter than servers keep an idle connection (often 5 s), so that none is closed while a request is under way.
KEEP_SECONDS = 4.0
NAMES_SECONDS = 30.0
MAX_NAMES = 1024
# RFC 8305, section 8: how long one address may take before the next is tried beside it.
ATTEMPT_DELAY = 0.25

AddressInfo = tuple[Any, Any, int, str, Any]


class PrivateAddress(OSError):
    """A provider's name led to an address that it may not live at."""


class Proxy(NamedTuple):
    """An HTTP proxy, the operator's choice. `credentials` is a whole header line, or empty."""

    scheme: str
    host: str
    port: int
    credentials: bytes


class Origin(NamedTuple):
    """Where a connection leads. `guarded`: to public addresses only; a proxy resolves names itself."""

    scheme: str
    host: str
    port: int
    guarded: bool
    proxy: Proxy | None = None


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class Pool:
    """The connections of one running loop. Origins share nothing: one that hangs holds up no other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._idle: dict[Origin, list[Connection]] = {}
        self._names: dict[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = {}
        self._places = Places(self.put)
        self._sweeper: asyncio.TimerHandle | None = None

    def idle(self) -> int:
        """How many connections wait."""
        return sum(len(waiting) for waiting in self._idle.values())

    def is_full(self, origin: Origin) -> bool:
        """Whether somebody waits, or would have to."""
        return self._places.is_full(origin)

    def waiting(self, origin: Origin) -> Connection | None:
        """One that may serve again at once."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            if not connection.lost and self.loop.time() - connection.idle_since < KEEP_SECONDS:
                return connection
            connection.abort()
        return None

    async def get(self, origin: Origin, seconds: float) -> Connection:
        """One that waits, or a new one within `seconds`. Raises OSError (PrivateAddress) or TimeoutError."""
        connection = self.waiting(origin)
        if connection is not None:
            return connection
        async with asyncio.timeout(seconds):
            return await self._new(origin)

    async def _new(self, origin: Origin) -> Connection:
        while True:
            found = await self._places.take(origin)
            if isinstance(found, Place):
                break
            if not found.lost:
                return found
        try:
            connection = await self._connect(origin)
        except BaseException:
            found.leave()
            raise
        connection.place = found
        if connection.lost:
            found.leave()
        return connection

    def put(self, origin: Origin, connection: Connection) -> None:
        """Takes back a connection whose exchange is over."""
        if connection.end():
            if self._places.queues and self._places.hand(origin, connection):
                return
            connection.idle_since = self.loop.time()
            self._idle.setdefault(origin, []).append(connection)
            if self._sweeper is None:
                self._sweeper = self.loop.call_later(KEEP_SECONDS, self._sweep)

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for waiting in self._idle.values():
            for connection in waiting:
                connection.abort()
        self._idle.clear()

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self.loop.time() - KEEP_SECONDS
        for origin, waiting in list(self._idle.items()):
            for connection in waiting:
                if connection.idle_since <= oldest:
                    connection.abort()
            kept = [connection for connection in waiting if not connection.lost]
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweeper = self.loop.call_later(KEEP_SECONDS / 2, self._sweep)

    async def _connect(self, origin: Origin) -> Connection:
        if origin.proxy is None:
            return await self._open(origin.scheme, origin.host, origin.port, guarded=origin.guarded)
        proxy = origin.proxy
        connection = await self._open(proxy.scheme, proxy.host, proxy.port, guarded=False)
        if origin.scheme == "https":
            host = f"[{origin.host}]" if ":" in origin.host else origin.host
            authority = f"{host}:{origin.port}".encode("idna" if not origin.host.isascii() else "ascii")
            try:
                await connection.tunnel(authority, proxy.credentials, _tls(), origin.host)
            except BaseException:
                connection.abort()
                raise
        return connection

    async def _open(self, scheme: str, host: str, port: int, *, guarded: bool) -> Connection:
        # The addresses that were checked are the ones that are used.
        addresses = await self._addresses(host, port, guarded=guarded)
        sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=ATTEMPT_DELAY, loop=self.loop)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            secure = scheme == "https"
            _, connection = await self.loop.create_connection(
                lambda: Connection(self.loop, self._buffer),
                sock=sock,
                ssl=_tls() if secure else None,
                server_hostname=host if secure else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _addresses(self, host: str, port: int, *, guarded: bool) -> Sequence[AddressInfo]:
        expires, found = self._names.get((host, port), (0.0, ()))
        if expires <= self.loop.time():
            found = await self.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            if len(self._names) >= MAX_NAMES:
                self._names.clear()
            self._names[host, port] = (self.loop.time() + NAMES_SECONDS, found)
        if guarded and not all(is_public(str(address[4][0])) for address in found):
            raise PrivateAddress(f"{host} leads to a private address")
        return found
