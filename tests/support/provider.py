"""A scripted OpenAI-compatible provider on a real socket: every byte, pause and fault is the test's.

    with ScriptedProvider() as provider:
        provider.on("m", stream("Hel", "lo"))           # each request for model m
        provider.enqueue(error(429, "slow down"), ...)  # the next requests, whatever their model
        ...
        assert provider.requests[0].json["model"] == "m"

Without a programme it echoes the last user message. `python -m tests.support.provider` runs it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.answers import Answer, Hold, Pause, Reset, Send, Stall, Step, chunk_frame, echo, model_list


@dataclass
class Recorded:
    """A request as it arrived. `left` is set when the client closes before the answer is complete."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float
    bytes_sent: int = 0
    finished: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    left_at: float | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


# Forms are not parsed here: the field stands before any file.
FORM_MODEL = re.compile(rb'name="model"\r\n(?:[^\r]+\r\n)*\r\n([^\r]*)\r\n')
Programme = Answer | Callable[[Recorded], Answer]


class _WatchedReader(asyncio.StreamReader):
    """Says at once when the peer has gone, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=2**26)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        self.gone.set()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self.gone.set()
        super().set_exception(exc)


class _Left(Exception):
    pass


class ScriptedProvider:
    """Runs in a thread of its own between `start` and `stop` (or as a context manager)."""

    def __init__(self, port: int = 0, models: Iterable[str] = ("scripted",)) -> None:
        self.port = port
        self.models = list(models)
        self.requests: list[Recorded] = []
        self.connections = 0
        self._programmes: dict[str, Programme] = {}
        self._queue: deque[Programme] = deque()
        self._arrived = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-provider", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def on(self, model: str, programme: Programme) -> None:
        """Answers every request for `model` so, and lists it under /v1/models."""
        self._programmes[model] = programme
        if model not in self.models:
            self.models.append(model)

    def enqueue(self, *programmes: Programme) -> None:
        self._queue.extend(programmes)

    @property
    def chats(self) -> list[Recorded]:
        return [request for request in self.requests if request.path.split("?")[0].endswith("/chat/completions")]

    def wait_for(self, count: int, timeout: float = 5, path: str | None = None) -> Recorded:
        """The `count`th request for the path, chats if none is named, as soon as it has arrived."""

        def arrived() -> list[Recorded]:
            if path is None:
                return self.chats
            return [request for request in self.requests if request.path.split("?")[0].endswith(path)]

        with self._arrived:
            if not self._arrived.wait_for(lambda: len(arrived()) >= count, timeout):
                raise AssertionError(f"{len(arrived())} of {count} requests arrived within {timeout} s")
        return arrived()[count - 1]

    def start(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def _listen(self) -> None:
        def connection() -> asyncio.StreamReaderProtocol:
            reader = _WatchedReader()
            return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._spawn(reader, writer))

        self._server = await self._loop.create_server(connection, "127.0.0.1", self.port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, reader: _WatchedReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before its first step closes nothing itself.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: _WatchedReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await _read_request(reader):
                with self._arrived:
                    self.requests.append(request)
                    self._arrived.notify_all()
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, _Left, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _programme(self, request: Recorded) -> Answer:
        if request.path.split("?")[0].endswith("/models"):
            return model_list(self.models)
        model = ""
        with contextlib.suppress(ValueError, AttributeError):
            model = str(request.json.get("model"))
        field = FORM_MODEL.search(request.body) if not model else None
        model = field[1].decode() if field else model
        found = self._queue.popleft() if self._queue else self._programmes.get(model, lambda _: echo(_.json))
        return found(request) if callable(found) else found

    async def _answer(self, request: Recorded, reader: _WatchedReader, writer: asyncio.StreamWriter) -> bool:
        """Plays the answer; True when the connection may carry another request."""
        answer = self._programme(request)
        try:
            await _send(answer.head, request, reader, writer)
            for step in answer.body:
                if not await _play(step, answer.chunked, request, reader, writer):
                    return False
            if answer.chunked:
                await _send(b"0\r\n\r\n", request, reader, writer)
        except (_Left, ConnectionError):
            request.left_at = time.monotonic()
            request.left.set()
            return False
        request.finished.set()
        return answer.keep_alive


async def _play(
    step: Step, chunked: bool, request: Recorded, reader: _WatchedReader, writer: asyncio.StreamWriter
) -> bool:
    match step:
        case Send(data):
            await _send(chunk_frame(data) if chunked else data, request, reader, writer)
        case Pause(seconds):
            await _wait_or_leave(asyncio.sleep(seconds), reader)
        case Hold(event):
            await _wait_or_leave(_until(event), reader)
        case Stall():
            await _wait_or_leave(asyncio.Event().wait(), reader)
        case Reset():
            # Linger of zero seconds: close() sends RST instead of FIN.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        case _:
            return False
    return True


async def _until(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110 - the event is set from another thread
        await asyncio.sleep(0.002)


async def _wait_or_leave(waiting: Any, reader: _WatchedReader) -> None:
    tasks = {asyncio.ensure_future(waiting), asyncio.ensure_future(reader.gone.wait())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    if reader.gone.is_set():
        raise _Left


async def _send(data: bytes, request: Recorded, reader: _WatchedReader, writer: asyncio.StreamWriter) -> None:
    if reader.gone.is_set():
        raise _Left
    if data:
        writer.write(data)
        await writer.drain()
        request.bytes_sent += len(data)


async def _read_request(reader: asyncio.StreamReader) -> Recorded | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    fields = {name.lower(): value for name, value in headers}
    if fields.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunked(reader)
    else:
        body = await reader.readexactly(int(fields.get("content-length") or 0))
    return Recorded(method, path, headers, body, time.monotonic())


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


def main() -> None:
    """Serves until interrupted, for benchmarks and for trying a client by hand."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--model", action="append")
    options = parser.parse_args()
    with ScriptedProvider(options.port, options.model or ["scripted"]) as provider:
        print(provider.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
