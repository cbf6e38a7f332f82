"""Rows are written and read off the loop, in threads of their own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import Error as DatabaseError
from django.db import connection

from gateway.errors import Unavailable
from gateway.surfaces.drf import of_media
from media.errors import MediaError

log = logging.getLogger(__name__)

T = TypeVar("T")
SECONDS = 15.0
# Not set while running answers are saved: whoever wants to write then lets that go first, but not for ever.
nobody_saves = threading.Event()
nobody_saves.set()
AFTER_SECONDS = 0.5
_rows = ThreadPoolExecutor(4, thread_name_prefix="conversations")
# What an upload takes, no row waits for.
_files = ThreadPoolExecutor(3, thread_name_prefix="conversations-files")


async def off_the_loop(work: Callable[[], T], *, files: bool = False) -> T:
    """`files`: it reads or writes them. Raises Unavailable when the database does not do it, and what the work raises
    of its own."""
    threads = _files if files else _rows
    try:
        async with asyncio.timeout(SECONDS):
            return await asyncio.get_running_loop().run_in_executor(threads, with_own_connection, work)
    except MediaError as error:
        raise of_media(error) from None
    except (DatabaseError, TimeoutError) as error:
        log.error("conversations cannot be reached: %s", type(error).__name__)
        raise Unavailable(
            "Conversations cannot be reached now. Send the request again.", code="storage_unavailable"
        ) from None


def with_own_connection(work: Callable[[], T]) -> T:
    nobody_saves.wait(AFTER_SECONDS)
    try:
        return work()
    finally:
        connection.close()
