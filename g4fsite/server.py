"""Starts uvicorn as this project runs it: one process, or several that share a socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import ChangeReload, Multiprocess
from uvicorn.supervisors.multiprocess import Process

HEADER_SECONDS = 20.0


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn waits for ever on a half-sent header; this closes such a connection after HEADER_SECONDS."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
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
    """A second signal ends at once; the first lets the answers under way finish within the grace period."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)
        # Ending on request is success: uvicorn would raise the signal again and exit with its number.
        self._captured_signals.clear()


class WorkerProcess(Process):
    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(config=self.config)
        return self._server  # type: ignore[return-value]


class Workers(Multiprocess):
    """uvicorn's supervisor with our server in each process."""

    def _process(self) -> WorkerProcess:
        return WorkerProcess(self.config, self.sockets)

    def init_processes(self) -> None:
        for _ in range(self.processes_num):
            process = self._process()
            process.start()
            self.processes.append(process)


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
        Workers(server_config, sockets=[sock]).run()
    else:
        Server(server_config).run(sockets=[sock])


__all__ = ["Server", "config", "listening_socket", "prepare_metrics", "serve"]
