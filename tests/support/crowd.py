"""Many callers at once, each on a socket of its own, who come back when the server that they talked to is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

AGAIN_SECONDS = 0.2
MARK = "mark-{}-end"


@dataclass
class Told:
    """What one caller was told in the end. `status` 0: the connection ended without a whole answer."""

    number: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0

    @property
    def mark(self) -> str:
        return MARK.format(self.number)

    @property
    def decoded(self) -> Any:
        return json.loads(self.body)


class Crowd:
    """Asks for `model` with a mark of each caller's own as the message."""

    def __init__(self, port: int, key: str, model: str = "scripted", padding: str = "") -> None:
        self._port = port
        self._key = key
        self._model = model
        self._padding = padding

    def request(self, number: int) -> bytes:
        """Half of the callers want a stream. Each connection carries one request."""
        messages = [{"role": "user", "content": MARK.format(number)}]
        if self._padding:
            messages.insert(0, {"role": "system", "content": self._padding})
        body = json.dumps({"model": self._model, "stream": bool(number % 2), "messages": messages}).encode()
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\nconnection: close\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def connected(self, *, patient: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Tries again while nobody listens, if it is patient. Raises OSError else."""
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                if not patient:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    async def begun(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An answer whose first words have come; the rest is the caller's to read."""
        reader, writer = await self.connected(patient=False)
        writer.write(self.request(number))
        await reader.readuntil(b"data: ")
        return reader, writer

    async def ask(self, number: int, *, patient: bool = False) -> Told:
        """One request. Raises OSError only when it could not even connect."""
        reader, writer = await self.connected(patient=patient)
        told, began = Told(number), time.monotonic()
        try:
            writer.write(self.request(number))
            with contextlib.suppress(OSError, EOFError, ValueError, IndexError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.rstrip("\r\n").split("\r\n")
                fields = (line.partition(":") for line in lines)
                told.headers = {name.lower(): value.strip() for name, _, value in fields}
                told.body = await _body(reader, told.headers)
                told.status = int(first.split(" ")[1])
        finally:
            writer.transport.abort()
        told.seconds = time.monotonic() - began
        return told


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers["content-length"]))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    return b"".join(parts)
