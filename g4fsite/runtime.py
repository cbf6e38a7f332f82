"""What runs beside the requests of one process: the configuration's watcher and the usage writer.

The server's lifespan starts and stops it; servers without one (daphne) start it with the first request.
"""

from __future__ import annotations

import asyncio
import sys

from asgiref.sync import sync_to_async

from gateway.secrets import SecretUnreadable
from gateway.snapshot import store
from gateway.upstream import upstream
from gateway.usage import writer

_started = False
_starting = asyncio.Lock()


class CannotStart(Exception):
    """One sentence for the operator."""


def _start() -> None:
    from gateway.checks import readable_secrets
    from gateway.dashboard import drop_hours

    unreadable = readable_secrets()
    if unreadable:
        raise CannotStart(
            f"The credentials of {', '.join(unreadable)} cannot be decrypted: ENCRYPTION_KEYS lacks the key that "
            "they were stored with. Add it, or remove those credentials."
        )
    writer.late_hours = drop_hours
    store.start()
    writer.start()


async def ensure_started() -> None:
    global _started
    if _started:
        return
    async with _starting:
        if not _started:
            await sync_to_async(_start, thread_sensitive=False)()
            _started = True


async def stop() -> None:
    """Writes what is left; the database and the providers' connections are let go."""
    global _started
    _started = False
    await upstream.close()
    await sync_to_async(store.stop, thread_sensitive=False)()
    await sync_to_async(writer.stop, thread_sensitive=False)()


async def lifespan(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
    """The ASGI lifespan protocol (asgi.readthedocs.io, "Lifespan")."""
    while True:
        message = await receive()  # type: ignore[operator]
        if message["type"] == "lifespan.startup":
            try:
                await ensure_started()
            except (CannotStart, SecretUnreadable) as error:
                print(f"g4fsite: {error}", file=sys.stderr)
                await send({"type": "lifespan.startup.failed", "message": str(error)})  # type: ignore[operator]
                return
            await send({"type": "lifespan.startup.complete"})  # type: ignore[operator]
        else:
            await stop()
            await send({"type": "lifespan.shutdown.complete"})  # type: ignore[operator]
            return
