"""One simulated caller: sends requests over a plain socket, reads patiently, slowly, or leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from tests.faults.cases import MARK, Case

PATIENCE = 5.0
SLOW_BUFFER = 16_384


@dataclass
class Outcome:
    """What a caller saw. `end`: complete, left (the caller's own doing), broken, hung, or unsent."""

    case: Case
    began: float
    ended: float = 0.0
    end: str = "unsent"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def strangers(self) -> set[str]:
        """Marks of other requests in this answer."""
        return set(MARK.findall(self.body.decode("utf-8", "replace"))) - {self.case.mark}


@dataclass(frozen=True, slots=True)
class Answered:
    """A body, read. `error` is the error object of the body or of the stream; `text` what was said before it."""

    text: str = ""
    error: dict[str, Any] | None = None
    finish: str | None = None
    usage: dict[str, Any] | None = None
    problem: str = ""


def read(outcome: Outcome) -> Answered:
    try:
        if outcome.case.stream and outcome.status == 200:
            return _read_stream(outcome.body)
        return _read_plain(outcome.body, outcome.status)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return Answered(problem=f"unreadable body ({type(error).__name__}: {error}): {outcome.body[:200]!r}")


def _read_plain(body: bytes, status: int) -> Answered:
    decoded = json.loads(body)
    if status != 200:
        return Answered(error=_envelope(decoded))
    choice = decoded["choices"][0]
    return Answered(choice["message"]["content"], None, choice["finish_reason"], decoded["usage"])


def _envelope(decoded: Any) -> dict[str, Any]:
    error = decoded["error"]
    if set(error) != {"message", "type", "param", "code"} or not error["message"] or not error["code"]:
        raise ValueError("not the error envelope")
    return dict(error)


def _read_stream(body: bytes) -> Answered:
    parts, error, finish, usage, done = [], None, None, None, 0
    if not body.endswith(b"\n\n"):
        raise ValueError("the last event has no end")
    for event in body.decode().split("\n\n"):
        if not event or event.startswith(":"):
            continue
        if done or error:
            raise ValueError("something after the end")
        if not event.startswith("data: ") or "\n" in event:
            raise ValueError(f"not one data line: {event[:80]!r}")
        data = event.removeprefix("data: ")
        if data == "[DONE]":
            done += 1
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            error = _envelope(chunk)
            continue
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            parts.append(choice["delta"].get("content") or "")
            finish = choice["finish_reason"] or finish
    if not done and error is None:
        raise ValueError("neither [DONE] nor an error")
    return Answered("".join(parts), error, finish, usage)


class _Left(Exception):
    pass


class Caller:
    """A connection that serves one request after another, as a client's pool does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, case: Case, key: str) -> Outcome:
        outcome = Outcome(case, time.monotonic())
        limit = case.deadline + PATIENCE + case.rest
        hung = case.leave is None or case.leave > limit
        try:
            async with asyncio.timeout(limit if hung else case.leave):
                await self._exchange(case, key, outcome)
        except TimeoutError:
            outcome.end = "hung" if hung else "left"
            self._drop()
        except _Left:
            outcome.end = "left"
            self._drop()
        except (OSError, EOFError, ValueError):
            outcome.end = "unsent" if outcome.end == "unsent" else "broken"
            self._drop()
        outcome.ended = time.monotonic()
        if outcome.headers.get("connection") == "close":
            self._drop()
        return outcome

    async def _exchange(self, case: Case, key: str, outcome: Outcome) -> None:
        reader, writer = await self._connection(slow=bool(case.slow))
        outcome.end = "broken"
        body = case.body
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()
        if case.leave == 0:
            writer.write((head + body)[: -case.at])
            await writer.drain()
            raise _Left
        writer.write(head + body)
        await writer.drain()
        await self._head(reader, outcome)
        if "chunked" in outcome.headers.get("transfer-encoding", ""):
            await self._chunks(reader, outcome)
        else:
            outcome.body = await reader.readexactly(int(outcome.headers["content-length"]))
        outcome.end = "complete"
        if case.slow:
            self._drop()

    async def _head(self, reader: asyncio.StreamReader, outcome: Outcome) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        outcome.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        outcome.status = int(first.split(" ")[1])

    async def _chunks(self, reader: asyncio.StreamReader, outcome: Outcome) -> None:
        case, parts, rested = outcome.case, [], not outcome.case.rest
        try:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                parts.append(await self._taken(reader, size, case.slow))
                await reader.readexactly(2)
                if not rested:
                    rested = True
                    await asyncio.sleep(case.rest)
            await reader.readexactly(2)
        finally:
            outcome.body = b"".join(parts)

    async def _taken(self, reader: asyncio.StreamReader, size: int, slow: float) -> bytes:
        if not slow:
            return await reader.readexactly(size)
        parts = []
        while size:
            parts.append(await reader.read(min(size, SLOW_BUFFER)))
            if not parts[-1]:
                raise EOFError
            size -= len(parts[-1])
            await asyncio.sleep(slow)
        return b"".join(parts)

    async def _connection(self, *, slow: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if slow:
            self._drop()
        if self._streams is None or self._streams[1].is_closing() or self._streams[0].at_eof():
            self._drop()
            made = socket.socket()
            made.setblocking(False)
            if slow:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
            try:
                await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self._port))
            except BaseException:
                made.close()
                raise
            limit = SLOW_BUFFER if slow else 2**20
            self._streams = await asyncio.open_connection(sock=made, limit=limit)
        return self._streams

    def _drop(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(OSError):
                self._streams[1].transport.abort()
            self._streams = None

    close = _drop
