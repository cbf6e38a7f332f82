"""Brings news of a user to that user's sockets: in this process, and with Redis in all of them.

Whoever tells something names the owner of what changed; a socket is added under the user that it proved to be. No
client names anybody. What one socket cannot take in time becomes one word, that its page should look for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from uuid import UUID

import orjson
from django.conf import settings

from conversations.generation.threads import off_the_loop
from gateway.errors import GatewayError

log = logging.getLogger(__name__)

Item = dict[str, Any]
# Changes that come together are read and told together.
TOGETHER_SECONDS = 0.03
# Of one user at once; more than that are a reason to look at the whole list.
MOST_AT_ONCE = 30
RETRY_SECONDS = 1.0
SILENCE_SECONDS = 15.0
MAX_WAITING = 10_000
LOOK: Item = {"type": "resync"}


class Listener(Protocol):
    user_id: int

    def hear(self, item: Item) -> None:
        """On the hub's loop; never waits."""


# Conversations as their owner's list shows them; None for those that are in no list any more.
Load = Callable[[Iterable[UUID]], dict[UUID, Item]]


class Hub:
    """One per process. `tell` and `moved` may be called from any thread; they cost nothing where nobody can hear."""

    def __init__(self) -> None:
        self.load: Load = lambda _: {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: dict[int, set[Listener]] = defaultdict(set)
        self._changed: dict[UUID, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared: SharedNews | None = None

    def open(self) -> None:
        """On the server's loop."""
        self._loop = asyncio.get_running_loop()
        if settings.REDIS_URL:
            self._shared = SharedNews(settings.REDIS_URL, self._deliver, self._everybody_look)

    async def close(self) -> None:
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in list(self._tasks):
            task.cancel()
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.close()
        self._listeners.clear()

    def add(self, listener: Listener) -> None:
        self._listeners[listener.user_id].add(listener)

    def remove(self, listener: Listener) -> None:
        here = self._listeners.get(listener.user_id)
        if here is not None:
            here.discard(listener)
            if not here:
                del self._listeners[listener.user_id]

    def tell(self, owner: int, item: Item) -> None:
        self._call(self._tell, owner, item)

    def tell_everybody(self, item: Item) -> None:
        """For what sockets look at themselves; nobody's news."""
        self._call(self._tell, 0, item)

    def moved(self, owner: int, conversation: UUID) -> None:
        """It is other than lists have it, or in none any more."""
        self._call(self._note, owner, conversation)

    def _call(self, what: Callable[..., None], *arguments: Any) -> None:
        loop = self._loop
        if loop is None or (self._shared is None and not self._listeners):
            return
        try:
            loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            # It has just been closed.
            return

    # On the loop.

    def _note(self, owner: int, conversation: UUID) -> None:
        if self._shared is None and owner not in self._listeners:
            return
        self._changed[conversation] = owner
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TOGETHER_SECONDS, self._begin_reading)

    def _begin_reading(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, {}
        task = asyncio.get_running_loop().create_task(self._read(changed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, changed: dict[UUID, int]) -> None:
        owners: dict[int, list[UUID]] = defaultdict(list)
        for conversation, owner in changed.items():
            owners[owner].append(conversation)
        few = [one for ids in owners.values() if len(ids) <= MOST_AT_ONCE for one in ids]
        try:
            found = await off_the_loop(lambda: self.load(few))
        except GatewayError:
            found, few = {}, []
        for owner, ids in owners.items():
            if len(ids) > MOST_AT_ONCE or not few:
                self._tell(owner, LOOK)
                continue
            for one in ids:
                gone = {"type": "conversation_gone", "conversation_id": str(one)}
                self._tell(owner, {"type": "conversation", "conversation": found[one]} if one in found else gone)

    def _tell(self, owner: int, item: Item) -> None:
        if self._shared is None or not self._shared.send(owner, item):
            self._deliver(owner, item)

    def _deliver(self, owner: int, item: Item) -> None:
        """To the owner's sockets; 0: to all."""
        heard = self._listeners.get(owner, ()) if owner else [one for here in self._listeners.values() for one in here]
        for listener in list(heard):
            listener.hear(item)

    def _everybody_look(self) -> None:
        self._deliver(0, LOOK)


class SharedNews:
    """Redis' publish and subscribe between the workers. What is told while Redis is away stays in the process that
    tells it; once Redis is back, every page looks for itself."""

    def __init__(self, url: str, deliver: Callable[[int, Item], None], missed: Callable[[], None]) -> None:
        self._url = url
        self._deliver = deliver
        self._missed = missed
        self._up = False
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        mark = hmac.digest(settings.KEY_PEPPER.encode(), b"live", hashlib.sha256).hex()[:12]
        self._channel = f"g4fsite:{{live:{mark}}}"
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listening()), loop.create_task(self._sending())]

    def send(self, owner: int, item: Item) -> bool:
        """False where it cannot be: the subscription brings it back to this process as well."""
        if not self._up or self._waiting.full():
            return False
        self._waiting.put_nowait(orjson.dumps([owner, item], default=str))
        return True

    async def close(self) -> None:
        # More than once: where a command of the client's ends at the same moment, a cancellation is lost in it.
        waiting = set(self._tasks)
        while waiting:
            for task in waiting:
                task.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=0.5)

    def _client(self) -> Any:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return redis.asyncio.from_url(self._url, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))

    async def _sending(self) -> None:
        client = self._client()
        try:
            while True:
                data = await self._waiting.get()
                try:
                    async with asyncio.timeout(2):
                        await client.publish(self._channel, data)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis, it is told here at least
                    self._failed(error)
                    owner, item = orjson.loads(data)
                    self._deliver(owner, item)
        finally:
            await client.aclose()

    async def _listening(self) -> None:
        first = True
        while True:
            client = self._client()
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    while True:
                        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
                        if message is None:
                            await pubsub.ping()
                        elif message["type"] == "subscribe":
                            self._up = True
                            if not first:
                                self._missed()
                            first = False
                        elif message["type"] == "message":
                            owner, item = orjson.loads(message["data"])
                            self._deliver(owner, item)
            except Exception as error:  # noqa: BLE001 - the same
                self._failed(error)
                first = False
            finally:
                self._up = False
                await client.aclose()
            await asyncio.sleep(RETRY_SECONDS)

    def _failed(self, error: Exception) -> None:
        # The error's own words may hold the URL, and with it a password.
        if self._up:
            log.warning("Redis does not answer, news stay in their process: %s", type(error).__name__)
        self._up = False


hub = Hub()
