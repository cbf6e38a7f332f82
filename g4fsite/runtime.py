"""What runs beside the requests of one process: the configuration's watcher, the usage writer, the probes, the
sweeper of files.

The server's lifespan starts and stops it; servers without one (daphne) start it with the first request.
"""

from __future__ import annotations

import gc
import sys
import threading

from asgiref.sync import sync_to_async
from django.db import connection

from conversations.generation.keeper import keeper as answers_keeper
from conversations.generation.running import running
from conversations.live.hub import hub
from g4fsite.draining import draining
from g4fsite.health import known_migrations
from gateway import idempotency
from gateway.answer_cache import answers
from gateway.engines.keeper import keeper
from gateway.limiter import limiter
from gateway.probes import probes
from gateway.snapshot import store
from gateway.surfaces.exchange import Receive, Scope, Send
from gateway.surfaces.responses.background import background
from gateway.upstream import upstream
from gateway.usage import writer
from media.sweep import sweeper

# Objects made and not yet freed before the collector looks: Python's default of 700 is for small programs.
GC_THRESHOLD = 20_000


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
    from gateway.retention import purge_all

    try:
        check_credentials()
        known_migrations()
        writer.late_hours = drop_hours
        writer.purge = purge_all
        store.start()
        writer.start()
        limiter.prepare()
        probes.start()
        sweeper.start()
        keeper.start()
        answers_keeper.start()
        draining.others = lambda: running.busy() or background.busy() or idempotency.busy()
    finally:
        # This thread belongs to a pool: its connection would stay out of the database's pool for good.
        connection.close()


def _stop() -> None:
    try:
        answers_keeper.stop()
        sweeper.stop()
        keeper.stop()
        probes.stop()
        store.stop()
        writer.stop()
    finally:
        connection.close()


def spare_the_collector() -> None:
    """What is there after the start stays: walking it again and again is for nothing.

    Circles that requests leave behind are still collected, in larger batches.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


class Runtime:
    """Started once per process, by whoever comes first."""

    def __init__(self) -> None:
        self.started = False
        self._lock = threading.Lock()

    async def ensure_started(self) -> None:
        """Costs nothing once started. Raises CannotStart."""
        if not self.started:
            await sync_to_async(self._start_once, thread_sensitive=False)()
            hub.open()

    def _start_once(self) -> None:
        with self._lock:
            if not self.started:
                _start()
                spare_the_collector()
                self.started = True

    async def stop(self) -> None:
        """Writes what is left; the database and the providers' connections are let go."""
        self.started = False
        await running.close()
        await background.close()
        await hub.close()
        await idempotency.close()
        await upstream.close()
        await limiter.close()
        await answers.close()
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
