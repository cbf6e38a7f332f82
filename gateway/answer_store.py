"""Where kept answers lie: bytes under a name, for a while, and no more of them than a number of bytes.

In this process, or in Redis for all processes. Names are digests, so that nobody reads in them who asked what.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from django.conf import settings

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.2
PAUSE_SECONDS = 10.0
# Beside the bytes themselves: the name, the entry, the place in the order.
OVERHEAD = 400


class Owner(NamedTuple):
    """Whose an answer is; `key_id` 0: of a signed-in browser."""

    user_id: int
    key_id: int


class AnswerStore(Protocol):
    async def get(self, name: str) -> bytes | None:
        """Never raises: what cannot be had is not there."""

    def put(self, name: str, owner: Owner, data: bytes) -> None:
        """Nobody waits for it."""

    async def close(self) -> None: ...


class _Entry(NamedTuple):
    owner: Owner
    until: float
    data: bytes


class MemoryAnswers:
    """Of one process; what was not asked for longest goes first. Used from several threads."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, name: str) -> bytes | None:
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return None
            if time.monotonic() >= entry.until:
                self._drop(name)
                return None
            self._entries.move_to_end(name)
            return entry.data

    def put(self, name: str, owner: Owner, data: bytes) -> None:
        with self._lock:
            if name in self._entries:
                self._drop(name)
            self._entries[name] = _Entry(owner, time.monotonic() + settings.ANSWER_CACHE_SECONDS, data)
            self._size += len(data) + OVERHEAD
            while self._size > settings.ANSWER_CACHE_BYTES:
                self._drop(next(iter(self._entries)))

    def keep(self, holds: Callable[[Owner], bool]) -> None:
        """Drops what belongs to others than those."""
        if not self._entries:
            return
        with self._lock:
            lost = {owner for owner in {entry.owner for entry in self._entries.values()} if not holds(owner)}
            for name in [name for name, entry in self._entries.items() if entry.owner in lost] if lost else ():
                self._drop(name)

    async def close(self) -> None:
        return

    def _drop(self, name: str) -> None:
        self._size -= len(self._entries.pop(name).data) + OVERHEAD


# Adds an answer and drops the oldest beyond the limit. KEYS: the answer, names by their end, sizes by name, the sum.
# ARGV: the answer, milliseconds, most bytes, its size, its name, what stands before names. Time is Redis'.
PUT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function drop(name)
  local size = redis.call('HGET', KEYS[3], name)
  if size then redis.call('DECRBY', KEYS[4], size) end
  redis.call('HDEL', KEYS[3], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('DEL', ARGV[6] .. name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)) do drop(name) end
drop(ARGV[5])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[5])
redis.call('HSET', KEYS[3], ARGV[5], ARGV[4])
local sum = redis.call('INCRBY', KEYS[4], ARGV[4])
while sum > tonumber(ARGV[3]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not oldest then break end
  drop(oldest)
  sum = tonumber(redis.call('GET', KEYS[4]))
end
for i = 2, 4 do redis.call('PEXPIRE', KEYS[i], 2 * ARGV[2]) end
return 0
"""


class RedisAnswers:
    """For one running loop. While Redis is away nothing is found and nothing kept."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._away_until = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()
        # As with limits: installations that share a Redis keep apart, and one slot of a cluster has all of it.
        mark = hmac.digest(settings.KEY_PEPPER.encode(), b"answers", hashlib.sha256).hex()[:12]
        self._prefix = f"g4fsite:{{answers:{mark}}}:"

    async def get(self, name: str) -> bytes | None:
        found = await self._asked(lambda client: client.get(self._prefix + name))
        return found if isinstance(found, bytes) else None

    def put(self, name: str, owner: Owner, data: bytes) -> None:
        keys = [self._prefix + end for end in (name, ":ends", ":sizes", ":sum")]
        milliseconds, most = settings.ANSWER_CACHE_SECONDS * 1000, settings.ANSWER_CACHE_BYTES
        arguments = [data, milliseconds, most, len(data) + OVERHEAD, name, self._prefix]
        self._later(self._asked(lambda client: client.eval(PUT, len(keys), *keys, *arguments)))

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._disconnect()

    def _later(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked(self, ask: Callable[[Any], Any]) -> Any:
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await ask(self._connected())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis, the request is answered without it
            # The error's own words may hold the URL, and with it a password.
            log.warning("Redis does not answer, no answers are kept for a while: %s", type(error).__name__)
            self._away_until = time.monotonic() + PAUSE_SECONDS
            await self._disconnect()
            return None

    def _connected(self) -> Any:
        if self._client is None:
            import redis.asyncio
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            self._client = redis.asyncio.from_url(self._url, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
        return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()
