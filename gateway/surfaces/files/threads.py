"""Files are stored and read in threads of their own, so that nothing else waits for a disk or a conversion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from django.db import Error as DatabaseError
from django.db import connection

from gateway.errors import Unavailable
from gateway.surfaces.drf import of_media
from media.errors import MediaError

log = logging.getLogger(__name__)

T = TypeVar("T")
_uploads = ThreadPoolExecutor(8, thread_name_prefix="files-in")
_reads = ThreadPoolExecutor(8, thread_name_prefix="files-out")
# Of one user as many are stored at a time, and as many read; the others wait for their turn and hold no thread.
AT_ONCE = 2
_turns: WeakValueDictionary[tuple[str, int], asyncio.Semaphore] = WeakValueDictionary()
_documents: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
# A loop alone would forget them.
_going: set[asyncio.Task[Any]] = set()


def turn(owner: int, what: str = "store") -> asyncio.Semaphore:
    """To be held while a user's files are stored, or fetched and converted ("read"): neither waits for the other."""
    found = _turns.get((what, owner))
    if found is None:
        found = _turns[what, owner] = asyncio.Semaphore(AT_ONCE)
    return found


@asynccontextmanager
async def alone(document: int, owner: int) -> AsyncIterator[None]:
    """To be held while a document that waits is read: whoever comes second finds it read."""
    found = _documents.get(document)
    if found is None:
        found = _documents[document] = asyncio.Lock()
    async with found, turn(owner, "read"):
        yield


async def through(work: Coroutine[Any, Any, T]) -> T:
    """To its end, also when whoever waits for it is gone: its thread goes on as well, and so must hold its turn."""
    task = asyncio.ensure_future(work)
    _going.add(task)
    task.add_done_callback(_going.discard)
    return await asyncio.shield(task)


async def storing(work: Callable[[], T]) -> T:
    """For what may take a while because files are converted. Raises GatewayError."""
    return await _run(_uploads, work)


async def reading(work: Callable[[], T]) -> T:
    """Raises GatewayError."""
    return await _run(_reads, work)


async def _run(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, _with_own_connection, work)
    except MediaError as error:
        raise of_media(error) from None
    except DatabaseError as error:
        log.error("files cannot be reached: %s", type(error).__name__)
        raise Unavailable("Files cannot be reached now. Send the request again.", code="storage_unavailable") from None


def _with_own_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
