"""What runs beside the requests of one process: the configuration's watcher and the usage writer.

The server's lifespan starts and stops it; servers without one (daphne) start it with the first request.
"""

from __future__ import annotations

import sys
import threading

from asgiref.sync import sync_to_async
from django.db import connection

from gateway.snapshot import store
from gateway.surfaces.exchange import Receive, Scope, Send
from gateway.upstream import upstream
from gateway.usage import writer


class CannotStart(Exception):
    """One sentence for the operator."""


def check_credentials() -> None:
    """Raises CannotStart when a stored credential was encrypted with a key that is not configured."""
    from gateway.checks import readable_secrets

    unreadable = readable_secrets()
    if unreadable:
        raise CannotStart(
            f"The credentials of {', '.join(unreadable)} cannot be decrypted: ENCRYPTION_KEYS lacks the key that "
            "they were stored with. Add it, or remove those credentials."
        )


def _start() -> None:
    from gateway.dashboard import drop_hours

    try:
        check_credentials()
        writer.late_hours = drop_hours
        store.start()
        writer.start()
    finally:
        # This thread belongs to a pool: its connection would stay out of the database's pool for good.
        connection.close()


def _stop() -> None:
    try:
        store.stop()
        writer.stop()
    finally:
        connection.close()


class Runtime:
    """Started once per process, by whoever comes first."""

    def __init__(self) -> None:
        self._started = False
        self._lock = threading.Lock()

    async def ensure_started(self) -> None:
        """Costs nothing once started. Raises CannotStart."""
        if not self._started:
            await sync_to_async(self._start_once, thread_sensitive=False)()

    def _start_once(self) -> None:
        with self._lock:
            if not self._started:
                _start()
                self._started = True

    async def stop(self) -> None:
        """Writes what is left; the database and the providers' connections are let go."""
        self._started = False
        await upstream.close()
        await sync_to_async(_stop, thread_sensitive=False)()


runtime = Runtime()


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI lifespan protocol (asgi.readthedocs.io, "Lifespan")."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await runtime.ensure_started()
            except CannotStart as error:
                sys.stderr.write(f"g4fsite: {error}\n")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await runtime.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
