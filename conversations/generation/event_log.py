"""The log of one answer in the process that makes it: numbered frames, and readers that follow it at their own pace.

A reader keeps nothing but its place, so a slow one costs no memory.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Any

from conversations.generation.browser_events import frame

# Of one answer; what is larger is no text.
MAX_BYTES = 32 * 1024 * 1024
BATCH_BYTES = 64 * 1024
# How long, and how much of, answers that are over stay in memory for those who come back.
KEPT_SECONDS = 600.0
KEPT_BYTES = 64 * 1024 * 1024


class LogFull(Exception):
    """The answer is larger than any text."""


class EventLog:
    """Written and read on one loop. `seq` is the number of the last event."""

    def __init__(self, generation: uuid.UUID) -> None:
        self.generation = generation
        self.ended = False
        self.size = 0
        self._frames: list[bytes] = []
        self._moved = asyncio.Event()

    @property
    def seq(self) -> int:
        return len(self._frames)

    def append(self, item: dict[str, Any], *, last: bool = False, anyway: bool = False) -> None:
        """Raises LogFull, but never for the last, and for what is to be told `anyway`."""
        data = frame(self.seq + 1, item)
        if self.size + len(data) > MAX_BYTES and not (last or anyway):
            raise LogFull
        self.size += len(data)
        self._frames.append(data)
        self.ended = self.ended or last
        self._moved.set()
        self._moved = asyncio.Event()

    def after(self, number: int, most: int = BATCH_BYTES) -> list[bytes]:
        """The frames that follow this one, at least one of them if there is one."""
        found: list[bytes] = []
        size = 0
        for data in self._frames[number : number + 4096]:
            if found and size + len(data) > most:
                break
            found.append(data)
            size += len(data)
        return found

    async def moved(self, number: int) -> bool:
        """Waits until there is something after this number; False when the log has ended before."""
        while self.seq <= number:
            if self.ended:
                return False
            await self._moved.wait()
        return True

    async def follow(self, number: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Everything after this number, in order, as (number of the last, frames) until the end."""
        while await self.moved(number):
            found = self.after(number)
            number += len(found)
            yield number, b"".join(found)


class KeptLogs:
    """Logs of answers that are over: for a while, and not too many."""

    def __init__(self) -> None:
        self._logs: OrderedDict[uuid.UUID, tuple[float, EventLog]] = OrderedDict()
        self._size = 0

    def get(self, generation: uuid.UUID) -> EventLog | None:
        self.drop_old()
        found = self._logs.get(generation)
        return found[1] if found else None

    def add(self, log: EventLog) -> None:
        self._logs[log.generation] = (time.monotonic(), log)
        self._size += log.size
        self.drop_old()

    def drop_old(self) -> None:
        now = time.monotonic()
        while self._logs:
            since, log = next(iter(self._logs.values()))
            if now - since < KEPT_SECONDS and self._size <= KEPT_BYTES:
                return
            self._logs.popitem(last=False)
            self._size -= log.size

    def clear(self) -> None:
        self._logs.clear()
        self._size = 0
