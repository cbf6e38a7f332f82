"""How many connections a provider may hold at once, so that one that hangs cannot take them all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings

from gateway.upstream.connection import Connection

if TYPE_CHECKING:
    from gateway.upstream.pool import Origin


class Place:
    """The right to one connection. It ends once, whoever notices first that the connection is gone."""

    __slots__ = ("_free",)

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free

    def leave(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free()


class Places:
    """Asked for new connections only; those that serve again keep theirs. Who waits is served in turn."""

    def __init__(self, put: Callable[[Origin, Connection], None]) -> None:
        self.queues: dict[Origin, deque[asyncio.Future[Place | Connection]]] = {}
        self._held: dict[Origin, int] = {}
        self._put = put

    def is_full(self, origin: Origin) -> bool:
        most = settings.MAX_CONNECTIONS_PER_PROVIDER
        return bool(most) and self._held.get(origin, 0) >= most

    async def take(self, origin: Origin) -> Place | Connection:
        """A place for a new connection, or one that another request has just given back."""
        if self.is_full(origin):
            return await self._wait(origin)
        self._held[origin] = self._held.get(origin, 0) + 1
        return self._place(origin)

    def hand(self, origin: Origin, found: Place | Connection) -> bool:
        """Gives it to whoever waits longest; False when nobody does."""
        queue = self.queues.get(origin)
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(found)
                return True
        self.queues.pop(origin, None)
        return False

    def _place(self, origin: Origin) -> Place:
        return Place(partial(self._left, origin))

    def _left(self, origin: Origin) -> None:
        if self.hand(origin, self._place(origin)):
            return
        self._held[origin] -= 1
        if not self._held[origin]:
            del self._held[origin]

    async def _wait(self, origin: Origin) -> Place | Connection:
        waiter: asyncio.Future[Place | Connection] = asyncio.get_running_loop().create_future()
        self.queues.setdefault(origin, deque()).append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._give_back(origin, waiter.result())
            raise

    def _give_back(self, origin: Origin, found: Place | Connection) -> None:
        """What came in the moment in which the wait was over."""
        if isinstance(found, Place):
            found.leave()
        else:
            self._put(origin, found)
