"""An HTTP proxy over sockets that carries what CONNECT asks for (RFC 9110, section 9.3.6).

It resolves names by a table of its own, asks for Basic credentials where it is given some (RFC 9110, section 11.7),
and keeps what it could read: the heads before each tunnel, and the bytes that went through.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
WANTED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=proxy\r\n"
    b"Content-Length: 4\r\n\r\nwho?"
)
UNKNOWN = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class ConnectProxy:
    """`routes` says where an authority such as `models.example:443` leads; `seen` is all that clients sent."""

    def __init__(self, routes: Mapping[str, int], pair: str, established: bytes) -> None:
        self.heads: list[bytes] = []
        self.seen = b""
        self.port = 0
        self._routes = routes
        self._wanted = b"basic " + base64.b64encode(pair.encode()) if pair else b""
        self._established = established
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            # After a refusal the same connection may ask again.
            while not await self._tunnelled(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _tunnelled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        first, *lines = head.split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        scheme, _, pair = fields.get(b"proxy-authorization", b"").partition(b" ")
        port = self._routes.get(first.split(b" ")[1].decode("latin-1"))
        if self._wanted and scheme.lower() + b" " + pair != self._wanted:
            writer.write(WANTED)
        elif port is None:
            writer.write(UNKNOWN)
        else:
            await self._carry(port, reader, writer)
            return True
        await writer.drain()
        return False

    async def _carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        self._open.add(far_writer)
        try:
            writer.write(self._established)
            await asyncio.wait(
                {
                    asyncio.create_task(self._pump(reader, far_writer, keep=True)),
                    asyncio.create_task(self._pump(far_reader, writer, keep=False)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._open.discard(far_writer)
            far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.seen += data if keep else b""
                writer.write(data)
                await writer.drain()
            writer.close()

    def cut(self) -> None:
        """Every connection ends at once, on both sides."""
        for writer in list(self._open):
            writer.transport.abort()

    async def stop(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def connect_proxy(
    routes: Mapping[str, int],
    pair: str = "",
    *,
    established: bytes = ESTABLISHED,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ConnectProxy]:
    """Wants the credentials `pair` (`user:password`) unless empty; with `tls` it is itself spoken to by https."""
    made = ConnectProxy(routes, pair, established)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.stop()
