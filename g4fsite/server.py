"""Starts uvicorn as this project runs it: one process, or several that share a socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import ChangeReload, multiprocess

HEADER_SECONDS = 20.0
MAX_HEAD_BYTES = 64 * 1024
HEAD_BODY = (
    b'{"error":{"message":"The request\'s headers are too large.","type":"invalid_request_error",'
    b'"param":null,"code":"headers_too_large"}}'
)
HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n" % len(HEAD_BODY)
) + HEAD_BODY


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn waits for ever on a half-sent header; this closes such a connection after HEADER_SECONDS."""

    _header_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        # Between two requests, and after an answer that came before the body's end, bytes must become a request soon.
        if self._header_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._arm()
        # The parser collects a head of any size; the edge would see it only when it is whole.
        self._head_bytes += len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES and self._in_head and self._head_bytes > len(data):
            self._refuse_head()
            return
        super().data_received(data)

    def _refuse_head(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._arm()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)
            return
        # A trailer: never a header, and not collected.
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

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


class Server(uvicorn.Server):
    """The first signal lets the answers under way finish within the grace period; a second Ctrl-C ends them.

    A second SIGTERM does not: after Ctrl-C in a terminal, which reaches every process, the supervisor sends one more.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # Ending on request is success: uvicorn would raise the signal again and exit with its number.
        self._captured_signals.clear()


class WorkerProcess(multiprocess.Process):
    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(config=self.config)
        return self._server  # type: ignore[return-value]


# uvicorn's supervisor offers no other way to say which class it starts, and starts anew when a worker died.
multiprocess.Process = WorkerProcess  # type: ignore[misc]


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
        ws="none",
        lifespan="on",
        workers=workers,
        reload=reload,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.STOP_GRACE_SECONDS,
        backlog=2048,
        ssl_keyfile=ssl_keyfile or None,
        ssl_certfile=ssl_certfile or None,
    )


def prepare_metrics(workers: int) -> None:
    """Several workers share their counters through files, emptied at each start."""
    if workers > 1:
        folder = Path(settings.DATA_DIR) / "metrics"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def serve(sock: socket.socket, server_config: uvicorn.Config) -> None:
    """Runs until a signal; returns when every answer has ended or the grace period is over."""
    if server_config.should_reload:
        ChangeReload(server_config, target=Server(server_config).run, sockets=[sock]).run()
    elif server_config.workers > 1:
        workers = multiprocess.Multiprocess(server_config, sockets=[sock])
        workers.run()
        if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
            sys.exit(1)
    else:
        Server(server_config).run(sockets=[sock])


__all__ = ["Server", "config", "listening_socket", "prepare_metrics", "serve"]
