"""How a server process ends: probes are told, connections are let go one by one, answers under way may end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import FrameType

import uvicorn
from django.conf import settings

from g4fsite.draining import draining

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
# For the last words of answers whose time is over, and again for what does not even say those.
LAST_WORDS_SECONDS = 2.0
# A supervisor's word to a worker whose successor has begun to serve.
RETIRE = signal.SIGUSR1


class Server(uvicorn.Server):
    """SIGTERM: for DRAIN_SECONDS all goes on, but probes and clients are told; then the port closes, and what is under
    way has STOP_GRACE_SECONDS to end. Ctrl-C: the same without the first wait; a second Ctrl-C ends everything at once.

    A second SIGTERM does nothing: after Ctrl-C in a terminal, which reaches every process, the supervisor sends it too.
    """

    _hurried = False
    _retired = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own would raise the signal again at the end; but ending on request is success.
        if sig == signal.SIGINT:
            self.force_exit = draining.stopping
            # Whoever presses Ctrl-C waits for the end, and no proxy has to notice.
            self._hurried = True
        draining.stopping = draining.closing = self.should_exit = True

    def retire(self, sig: int, frame: FrameType | None) -> None:
        """Others serve the same socket: only this process ends, and `/readyz` has nothing to tell."""
        self._retired = draining.closing = self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is threading.main_thread():
            several = self.config.workers > 1
            if several:
                signal.signal(RETIRE, self.retire)
            if several or not (sys.stdin and sys.stdin.isatty()):
                # It asks the supervisor for new workers. A single process has no successor, and must not die of it.
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with super().capture_signals():
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining.closing = True
        patience = 0.0 if self._hurried else float(settings.DRAIN_SECONDS)
        self._drain_connections(patience)
        if not self._retired:
            await self._until(lambda: False, patience)
        await self._close_listeners(sockets or [])
        self._drain_connections(patience)
        grace = self.config.timeout_graceful_shutdown
        if not await self._until(self._is_idle, float("inf") if grace is None else grace):
            await self._end_answers()
        if not self.force_exit:
            await self.lifespan.shutdown()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """False when the time was over first. A second Ctrl-C ends every wait."""
        deadline = time.monotonic() + seconds
        while not self.force_exit and not condition():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _is_idle(self) -> bool:
        return not self.server_state.connections and not self.server_state.tasks and not draining.others()

    def _drain_connections(self, seconds: float) -> None:
        for connection in list(self.server_state.connections):
            drain = getattr(connection, "drain", None)
            # Only our own protocol has patience.
            drain(seconds) if drain else connection.shutdown()

    async def _close_listeners(self, sockets: list[socket.socket]) -> None:
        # The kernel resets what still waits in the queue of a socket that nobody listens to any more.
        waiting = [] if self._retired else [found for sock in sockets for found in _queued(sock)]
        for server in self.servers:
            server.close()
        for sock in sockets:
            sock.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _end_answers(self) -> None:
        # Needs Django's models, which a worker has not loaded when it imports this file.
        from gateway.errors import ServerStopping
        from gateway.live import answers

        log.warning("%d requests had not ended after %s s", len(self.server_state.tasks), settings.STOP_GRACE_SECONDS)
        answers.end_all(ServerStopping)
        self._drain_connections(0)
        if await self._until(self._is_idle, LAST_WORDS_SECONDS):
            return
        for task in self.server_state.tasks:
            task.cancel()
        await self._until(self._is_idle, LAST_WORDS_SECONDS)


def _queued(sock: socket.socket) -> list[socket.socket]:
    """Connections that the kernel has made and nobody has accepted."""
    sock.setblocking(False)
    found = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = sock.accept()
            connection.setblocking(False)
            found.append(connection)
    return found
