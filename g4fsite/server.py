"""Starts uvicorn as this project runs it: one process, or several that share a socket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import shutil
import socket
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from django.conf import settings
from uvicorn._types import ASGISendEvent
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.supervisors import ChangeReload
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from g4fsite.cycle import Cycle
from g4fsite.draining import draining
from g4fsite.stopping import Server
from g4fsite.supervisor import Supervisor

HEADER_SECONDS = 20.0
# The supervisor kills a worker that is silent for longer; on a busy machine a start alone may take some seconds.
HEALTHCHECK_SECONDS = 30
# How long a caller may take nothing of what waits for it.
READER_SECONDS = 60.0
# Numbers, because CPython 3.11 looks for bytes in bytes by way of an exception.
UNDERSCORE, QUESTION, HASH = b"_?#"
MAX_HEAD_BYTES = 64 * 1024
# Clients of websockets ask for little, and answer a ping within so many seconds.
MAX_FRAME_BYTES = 64 * 1024
PING_SECONDS = 20.0
WEBSOCKETS = (b"/ws", b"/ws/")
# What deploy/g4fsite.service asks for, too: MAX_REQUESTS with two connections each, and as much again.
OPEN_FILES = 65_536


def _refusal(status: str, message: str, *, code: str) -> bytes:
    """An answer to what never becomes a request, in OpenAI's envelope."""
    said = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = json.dumps({"error": said}, separators=(",", ":"))
    lines = (f"HTTP/1.1 {status}", "content-type: application/json", "connection: close")
    return "\r\n".join((*lines, f"content-length: {len(body)}", "", body)).encode()


HEAD_TOO_LARGE = _refusal(
    "431 Request Header Fields Too Large", "The request's headers are too large.", code="headers_too_large"
)
NO_HTTP = _refusal("400 Bad Request", "This is not an HTTP/1.1 request.", code="invalid_http")
NO_METHOD = _refusal("501 Not Implemented", "This server knows no such method.", code="unknown_method")


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn waits for ever on a half-sent header; this closes such a connection after HEADER_SECONDS, and one whose
    caller reads nothing of its answer after READER_SECONDS.

    It also tells the chat path when its caller leaves, which saves a task per request (`exchange.Connection`).
    """

    _header_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _upgraded = False
    # A head that asked for another protocol than ours, and where in the piece it ended.
    _declined = False
    _declined_at: int | None = None
    # Of the head after the piece that it began in, of that piece, and of the last one.
    _head_bytes = 0
    _first_bytes = 0
    _piece_bytes = 0
    # By the loop's clock; None: not idle.
    _idle_since: float | None = 0.0
    # Of the answer under way: to be called when its caller has gone.
    left: Callable[[], None] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        # The parser collects a head of any size; the edge would see it only when it is whole.
        if self._in_head:
            self._head_bytes += self._piece_bytes
            if self._head_bytes > MAX_HEAD_BYTES and self._head_bytes > self._piece_bytes:
                self._refuse_head()
                return
        super().data_received(data)
        if self._declined_at is not None:
            self._go_on(data[self._declined_at :])
        # Between two requests, and after an answer that came before the body's end, bytes must become a request soon.
        if self._upgraded:
            return
        if self._header_timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            self._arm()

    def _go_on(self, rest: bytes) -> None:
        """After a head that asks for another protocol, which is declined by answering (RFC 9110, 7.8).

        The parser takes what follows such a head for that protocol. Another one reads it again, without the wish.
        """
        self._declined_at = None
        before, self.parser = self.parser, httptools.HttpRequestParser(self)
        lines = [b"%b %b HTTP/%b" % (before.get_method(), self.url, before.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        data = b"\r\n".join([*lines, b"", rest])
        self._piece_bytes = len(data)
        super().data_received(data)

    def _should_upgrade(self) -> bool:
        """There alone; elsewhere the wish is declined."""
        return super()._should_upgrade() and _split_url(self.url)[0] in WEBSOCKETS

    def _unsupported_upgrade_warning(self) -> None:
        """Called where the parser has stopped; nothing is wrong with a client that asks."""
        stopped = sys.exception()
        if self._declined and isinstance(stopped, httptools.HttpParserUpgrade):
            self._declined, self._declined_at = False, int(stopped.args[0])

    def send_400_response(self, msg: str) -> None:
        """Called where the parser has failed."""
        unknown = isinstance(sys.exception(), httptools.HttpParserInvalidMethodError)
        self._refuse(NO_METHOD if unknown else NO_HTTP)

    def _refuse_head(self) -> None:
        self._refuse(HEAD_TOO_LARGE)

    def _refuse(self, answer: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._in_head, self._head_bytes = True, 0
        self._first_bytes = self._piece_bytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer: never a header, and not collected.
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
        # Django joins header names by underscore, so `x_api_key` would count as `x-api-key`.
        elif UNDERSCORE not in name:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """As uvicorn does it, with a cycle that costs less."""
        if self._header_timer is not None:
            self._disarm()
        head_bytes = self._first_bytes + self._head_bytes
        self._in_head, self._head_bytes = False, 0
        parser = self.parser
        version = parser.get_http_version()
        raw_path, query = _split_url(self.url)
        path = raw_path.decode("ascii")
        headers = self.headers
        seen = dict(headers)
        if b"expect" in seen:
            self.expect_100_continue = any(_expects(name, value) for name, value in headers)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": headers,
            "state": self.app_state.copy(),
            "method": parser.get_method().decode("ascii"),
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path if self.root_path else raw_path,
            "query_string": query,
            # At most so many, because other things may have come with it.
            "g4f.head_bytes": head_bytes,
        }
        if len(seen) == len(headers):
            # By name, where none came twice.
            scope["g4f.headers"] = seen
        self.scope = scope  # type: ignore[assignment]
        if parser.should_upgrade():
            self._upgraded = self._should_upgrade()
            # What CONNECT asks for is no request, whatever else it says.
            self._declined = not self._upgraded and scope["method"] != "CONNECT"
            if self._upgraded or self._declined:
                return
        else:
            self._upgraded = False
        before = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive() and not draining.closing
        cycle = Cycle(self, scope, keep_alive=keep_alive, expect_100_continue=self.expect_100_continue)
        self.cycle = cycle  # type: ignore[assignment]  # it does what uvicorn asks of one
        scope["g4f.connection"] = cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            # Sent before the answer to the last one.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # It leaves the set by itself. A name that is given need not be made.
        cycle.task = task = self.loop.create_task(cycle.run(app), name="request")
        self.tasks.add(task)

    def on_body(self, body: bytes) -> None:
        cycle: Cycle = self.cycle  # type: ignore[assignment]
        if self._upgraded or self._declined or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.set()

    def on_message_complete(self) -> None:
        cycle: Cycle = self.cycle  # type: ignore[assignment]
        if self._upgraded or self._declined or cycle.response_complete:
            return
        cycle.more_body = False
        cycle.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        # The timer runs on: setting one for every answer would cost as much as reading the request.
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            # The end of the answer under way sets it again.
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        elif not self.transport.is_closing():
            self.transport.close()

    def _stop_idling(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._stop_waiting()
        self._stop_idling()
        super().connection_lost(exc)
        left, self.left = self.left, None
        if left is not None:
            left()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader(self._unread())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting()

    def _wait_for_reader(self, unread: int) -> None:
        self._reader_timer = self.loop.call_later(READER_SECONDS, self._check_reader, unread)

    def _stop_waiting(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _check_reader(self, before: int) -> None:
        unread = self._unread()
        if unread < before:
            self._wait_for_reader(unread)
        else:
            # Closing would wait for the reader, too.
            self.transport.abort()

    def _unread(self) -> int:
        """Bytes that wait for the caller, here and in the kernel, which takes them in large lumps."""
        queued = bytearray(4)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def drain(self, seconds: float) -> None:
        """Ends the connection with its next answer that can still say so, or after so many idle seconds.

        Closing at once, idle or after an answer that has not said so, would meet requests that are just being sent.
        """
        self.timeout_keep_alive = seconds  # type: ignore[assignment]  # call_later takes parts of a second
        if self.cycle is None or self.cycle.response_complete:
            self._stop_idling()
            self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
        elif not (seconds and self.cycle.response_started):
            self.cycle.keep_alive = False

    def _arm(self) -> None:
        self._disarm()
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._overdue)

    def _disarm(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _overdue(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which waits for slow readers, told more than once that the server stops.

    What clients send without end takes no memory: pings whose answers they do not read, and fragments of nothing.
    """

    _ending = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Of a handshake that cannot be read nothing follows, and nobody else would end the connection.
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(NO_HTTP)
            self.transport.close()

    def handle_ping(self) -> None:
        output = self.conn.data_to_send()
        # Not every ping needs an answer of its own (RFC 6455, 5.5.3).
        if self.writable.is_set():
            self.transport.write(b"".join(output))

    def handle_cont(self, event: Frame) -> None:
        # They count nothing against the size of a message.
        if event.data or event.fin:
            super().handle_cont(event)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        # Else each refusal is logged as a failure of the application.
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def shutdown(self) -> None:
        if self._ending:
            self.transport.close()
            return
        self._ending = True
        try:
            super().shutdown()
        except InvalidState:
            # The other side has just closed it.
            self.transport.close()


def _expects(name: bytes, value: bytes) -> bool:
    return name == b"expect" and value.lower() == b"100-continue"


def _split_url(url: bytes) -> tuple[bytes, bytes]:
    """Path and query. Raises HttpParserInvalidURLError."""
    if url.startswith(b"/") and QUESTION not in url and HASH not in url:
        return url, b""
    parsed = httptools.parse_url(url)
    return parsed.path, parsed.query or b""


def listening_socket(host: str, port: int) -> socket.socket:
    """Raises OSError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.set_inheritable(True)
    return sock


def config(*, workers: int = 1, reload: bool = False, ssl_keyfile: str = "", ssl_certfile: str = "") -> uvicorn.Config:
    return uvicorn.Config(
        "g4fsite.asgi:application",
        loop="uvloop",
        http=DeadlineProtocol,
        ws=SocketProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        lifespan="on",
        workers=workers,
        reload=reload,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.STOP_GRACE_SECONDS,
        timeout_worker_healthcheck=HEALTHCHECK_SECONDS,
        backlog=2048,
        ssl_keyfile=ssl_keyfile or None,
        ssl_certfile=ssl_certfile or None,
    )


def allow_open_files() -> None:
    """Raises this process's limit as far as it may. A shell's is often 1,024, and an answer takes two connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems allow less than they say; then it stays as it was.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def prepare_metrics(workers: int) -> None:
    """Several workers share their counters through files, emptied at each start."""
    if workers > 1:
        folder = Path(settings.DATA_DIR) / "metrics"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def serve(sock: socket.socket, server_config: uvicorn.Config) -> None:
    """Runs until a signal; returns when every answer has ended or the grace period is over."""
    allow_open_files()
    if server_config.should_reload:
        ChangeReload(server_config, target=Server(server_config).run, sockets=[sock]).run()
    elif server_config.workers > 1:
        supervisor = Supervisor(server_config, sockets=[sock])
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            sys.exit(1)
    else:
        Server(server_config).run(sockets=[sock])


__all__ = ["Server", "config", "listening_socket", "prepare_metrics", "serve"]
