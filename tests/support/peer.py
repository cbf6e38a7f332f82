"""A raw TCP peer for the client of providers: each request it reads is answered with exactly the bytes of a script.

Unlike `ScriptedProvider` it knows nothing of HTTP's rules, lives on the loop of the test, and keeps connections
apart, so that a test sees which one carried a request and when it was given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Connection:
    """`lost` is set when the client has closed its side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.lost = asyncio.Event()
        self.lost_at = 0.0

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError once the client has closed."""
        if self.reader.at_eof() or self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def request(self) -> bool:
        """Reads one whole request; False when the client closed instead."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            found = LENGTH.search(head)
            self.bodies.append(await self.reader.readexactly(int(found.group(1)) if found else 0))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost_at = time.monotonic()
            self.lost.set()
            return False
        return True


Act = Callable[[Connection], Awaitable[None]]


class Peer:
    """Answers the n-th request, on whatever connection, with the n-th item of its script; the last item repeats."""

    def __init__(self, script: tuple[bytes | Act, ...], greeting: bytes) -> None:
        self.connections: list[Connection] = []
        self.base_url = ""
        self._script = list(script)
        self._greeting = greeting
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> int:
        return sum(len(connection.bodies) for connection in self.connections)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(Connection(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        self.connections.append(connection)
        try:
            if self._greeting:
                await connection.send(self._greeting)
            while await connection.request():
                item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                if callable(item):
                    await item(connection)
                else:
                    await connection.send(item)
        except ConnectionError:
            connection.lost_at = time.monotonic()
            connection.lost.set()
        finally:
            connection.writer.close()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def peer(
    *script: bytes | Act, host: str = "127.0.0.1", greeting: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    made = Peer(script, greeting)
    server = await asyncio.start_server(made.serve, host, 0, limit=2**24, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    made.base_url = f"{'https' if tls else 'http'}://{shown}:{port}/v1"
    try:
        yield made
    finally:
        server.close()
        await made.stop()


async def hang_up(connection: Connection) -> None:
    """Ends the connection from this side."""
    connection.writer.close()
    with contextlib.suppress(ConnectionError):
        await connection.writer.wait_closed()


async def say_nothing(_: Connection) -> None:
    """The request was read; its answer never begins."""


def then_hang_up(data: bytes) -> Act:
    async def act(connection: Connection) -> None:
        await connection.send(data)
        await hang_up(connection)

    return act


def dripping(data: bytes, size: int = 1, pause: float = 0.0) -> Act:
    """Sends a few bytes at a time, each in a packet of its own."""

    async def act(connection: Connection) -> None:
        for start in range(0, len(data), size):
            await connection.send(data[start : start + size])
            await asyncio.sleep(pause)

    return act


@contextmanager
def nobody_accepts() -> Iterator[str]:
    """The URL of a listener whose queue is full: a connection to it is neither made nor refused."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
