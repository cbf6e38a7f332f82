"""A TCP proxy that spoils what passes: reset, stall, slow, cut after so many bytes, garbage; or is simply away.

Which fault a connection meets is written in the bytes that the caller sends (`fault=proxy-...`), so that a run
can be repeated. Without such words everything passes unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from dataclasses import dataclass
from typing import Self

ORDER = re.compile(rb"fault=([a-z0-9-]+) words=\d+ at=(\d+)")
PIECE = 65_536
# The order in a request may be cut in two by packets.
TAIL = 120
DRIP_BYTES, DRIP_SECONDS = 64, 0.005
GARBAGE_BYTES = 40


@dataclass(eq=False)
class _Link:
    """One connection through the proxy; `left` counts down the bytes of the answer until the fault comes."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    fault: str = ""
    left: int = 0

    def reset(self) -> None:
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):
                # Linger of zero seconds: closing sends RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class Proxy:
    """Passes connections on to a port of this machine. `cut` takes it away, `restore` brings it back.

    Without `obeys` the words in what passes mean nothing: conversations carry them into the database.
    """

    def __init__(self, target: int, port: int = 0, *, obeys: bool = True) -> None:
        self.port = port
        self._obeys = obeys
        self._target = target
        self._away = False
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Resets what is open; what comes meanwhile is reset at once."""
        self._away = True
        for link in list(self._links):
            link.reset()

    def restore(self) -> None:
        self._away = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._away:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await self._pass_both_ways(link, reader, far_reader)
        finally:
            self._links.discard(link)
            writer.close()
            far_writer.close()

    async def _pass_both_ways(
        self, link: _Link, reader: asyncio.StreamReader, far_reader: asyncio.StreamReader
    ) -> None:
        ways = {
            asyncio.ensure_future(self._requests(link, reader)),
            asyncio.ensure_future(self._answers(link, far_reader)),
        }
        try:
            # Either side's end is the end of both: neither HTTP/1.1 nor PostgreSQL half-closes.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, link: _Link, reader: asyncio.StreamReader) -> None:
        tail = b""
        while data := await reader.read(PIECE):
            found = ORDER.search(tail + data) if self._obeys else None
            tail = b"" if found else (tail + data)[-TAIL:]
            if found:
                # Also for `fault=none`: a link that was slow once is not slow for ever.
                link.fault, link.left = found[1].decode(), int(found[2]) * 97
            if link.fault == "proxy-reset":
                link.reset()
                return
            link.server.write(data)
            await link.server.drain()

    async def _answers(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(PIECE):
            match link.fault:
                case "proxy-stall":
                    await asyncio.Event().wait()
                case "proxy-cut" if link.left <= len(data):
                    link.client.write(data[: link.left])
                    await link.client.drain()
                    return
                case "proxy-garbage" if 0 < link.left <= len(data):
                    garbage = random.Random(link.left).randbytes(GARBAGE_BYTES)
                    data = data[: link.left] + garbage + data[link.left :]
                    link.left = 0
                    await self._send(link, data)
                case "proxy-slow":
                    for start in range(0, len(data), DRIP_BYTES):
                        await self._send(link, data[start : start + DRIP_BYTES])
                        await asyncio.sleep(DRIP_SECONDS)
                case _:
                    link.left -= min(link.left, len(data)) if link.fault in {"proxy-cut", "proxy-garbage"} else 0
                    await self._send(link, data)

    async def _send(self, link: _Link, data: bytes) -> None:
        link.client.write(data)
        await link.client.drain()
