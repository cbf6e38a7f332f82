"""How events come into the log: pieces of a text together, at most thirty times a second, everything else at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from conversations.generation.browser_events import joined
from conversations.generation.event_log import EventLog, LogFull

TELL_SECONDS = 1 / 30
# They end an answer, and so are told whatever its size.
ANYWAY = frozenset(("error", "auth"))


class Teller:
    """`full` is called when the log takes no more while nobody waits for an answer to that."""

    def __init__(self, log: EventLog, full: Callable[[], None]) -> None:
        self._log = log
        self._full = full
        self._loop = asyncio.get_running_loop()
        self._waiting: list[dict[str, Any]] = []
        self._told = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def piece(self, item: dict[str, Any]) -> None:
        """Together with what follows within a thirtieth of a second. Raises LogFull."""
        joined(self._waiting, item)
        if self._loop.time() - self._told >= TELL_SECONDS:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._told + TELL_SECONDS, self._later)

    def tell(self, item: dict[str, Any]) -> None:
        """At once, after what waited. Raises LogFull, but not for what ends the answer."""
        anyway = item["type"] in ANYWAY
        try:
            self.flush()
        except LogFull:
            if not anyway:
                raise
        self._log.append(item, anyway=anyway)

    def flush(self) -> None:
        """Raises LogFull."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        self._told = self._loop.time()
        for item in waiting:
            self._log.append(item)

    def _later(self) -> None:
        self._timer = None
        try:
            self.flush()
        except LogFull:
            self._full()
