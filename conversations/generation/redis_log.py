"""The same log for other workers: a Redis stream per answer, whose ids are the numbers of its events.

Redis is a copy: who makes the answer has all of it, writes on while Redis is away, and writes anew what Redis lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import threading
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete

from conversations.generation.event_log import EventLog

log = logging.getLogger(__name__)

KEPT_SECONDS = 24 * 3600
# Between two writes of one answer, and between two looks of one reader while events come, and while none do.
PAUSE_SECONDS = 0.04
QUICK_SECONDS = 0.1
SLOW_SECONDS = 0.5
ANSWER_SECONDS = 2.0
RETRY_SECONDS = 1.0
# How long Redis may be away after an answer's end: then the database alone has it, and its log may go.
GIVE_UP_SECONDS = 60.0
# Readers ask the database whether the answer is still made, at the latest after so many seconds of silence.
DOUBT_SECONDS = 3.0
COUNT = 200


class RedisAway(Exception):
    """Redis did not answer."""


class RedisLog:
    """For one running loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._failing = False
        self._prefix = _prefix()

    def _key(self, generation: uuid.UUID) -> str:
        return self._prefix + generation.hex

    async def copy(self, source: EventLog) -> None:
        """Carries the log over until it has ended, or Redis is away for too long; runs as a task beside the answer."""
        number, sure, loop = 0, False, asyncio.get_running_loop()
        late: float | None = None
        while await source.moved(number):
            if source.ended and late is None:
                late = loop.time() + GIVE_UP_SECONDS
            try:
                if not sure:
                    number, sure = await self._copied(source), True
                frames = source.after(number)
                await self._write(source, number, frames)
                number += len(frames)
            except RedisAway:
                sure = False
                if late is not None and loop.time() >= late:
                    return
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _copied(self, source: EventLog) -> int:
        """How many events Redis has. One that lost any loses the rest as well, and gets all of them again."""
        key = self._key(source.generation)
        last = await self._asked(lambda client: client.xrevrange(key, count=1))
        number = _number(last[0][0]) if last else 0
        if number and await self._asked(lambda client: client.xlen(key)) == number <= source.seq:
            return number
        await self._asked(lambda client: client.delete(key))
        return 0

    async def _write(self, source: EventLog, number: int, frames: list[bytes]) -> None:
        key = self._key(source.generation)
        whole = source.ended and number + len(frames) == source.seq

        async def send(client: Any) -> None:
            pipe = client.pipeline(transaction=True)
            for at, data in enumerate(frames, number + 1):
                pipe.xadd(key, {"f": data}, id=f"{at}-0")
            # A worker that dies leaves its stream behind: that one goes by itself as well.
            pipe.expire(key, KEPT_SECONDS if whole else KEPT_SECONDS + settings.STREAM_TOTAL_SECONDS)
            await pipe.execute()

        await self._asked(send)

    async def last(self, generation: uuid.UUID) -> int:
        """The number of the last event that Redis has; 0 for none, and where it does not answer."""
        try:
            found = await self._asked(lambda client: client.xrevrange(self._key(generation), count=1))
        except RedisAway:
            return 0
        return _number(found[0][0]) if found else 0

    async def exists(self, generation: uuid.UUID) -> bool:
        try:
            return bool(await self._asked(lambda client: client.exists(self._key(generation))))
        except RedisAway:
            return False

    async def follow(
        self, generation: uuid.UUID, number: int, is_running: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """As `EventLog.follow`. Ends without the last event where Redis lost some, or where nobody makes the answer."""
        silent = 0.0
        over = False
        while True:
            found = await self._read(generation, number)
            if found is not None and found[0] == b"":
                return
            if found:
                data, number, ended = found[0], found[1], found[2]
                yield number, data
                if ended:
                    return
                silent, pause = 0.0, QUICK_SECONDS
            elif over:
                return
            else:
                pause = QUICK_SECONDS if silent < 1 else SLOW_SECONDS
                silent += pause
                if silent >= DOUBT_SECONDS:
                    # What was written between the last look and its end is read once more.
                    over, silent = not await is_running(), 0.0
                    continue
            await asyncio.sleep(pause)

    async def _read(self, generation: uuid.UUID, number: int) -> tuple[bytes, int, bool] | None:
        """The next events, the last one's number, and whether it is the end; None for none; no bytes: some are lost."""
        try:
            rows = await self._asked(
                lambda client: client.xrange(self._key(generation), min=f"({number}-0", count=COUNT)
            )
        except RedisAway:
            return None
        if not rows:
            return None
        if _number(rows[0][0]) != number + 1:
            return b"", number, False
        frames = [fields[b"f"] for _, fields in rows]
        return b"".join(frames), number + len(frames), frames[-1].startswith(b"event: end\n")

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()

    async def _asked(self, ask: Callable[[Any], Any]) -> Any:
        """Raises RedisAway."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await ask(self._connected())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis, answers go on
            # The error's own words may hold the URL, and with it a password.
            if not self._failing:
                log.warning("Redis does not answer, running answers are not shared: %s", type(error).__name__)
            self._failing = True
            await self.close()
            raise RedisAway from None
        self._failing = False
        return found

    def _connected(self) -> Any:
        if self._client is None:
            import redis.asyncio
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            self._client = redis.asyncio.from_url(self._url, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
        return self._client


def _prefix() -> str:
    # Installations that share a Redis keep apart.
    mark = hmac.digest(settings.KEY_PEPPER.encode(), b"generations", hashlib.sha256).hex()[:12]
    return f"g4fsite:{{generations:{mark}}}:"


def forget(generations: Sequence[uuid.UUID]) -> None:
    """Deletes the logs of answers that are deleted themselves; where Redis is away, they go by their time. Waits for
    Redis: not for a loop."""
    if not generations or not settings.REDIS_URL:
        return
    import redis

    prefix = _prefix()
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1) as client:
            for at in range(0, len(generations), COUNT):
                client.unlink(*(prefix + pk.hex for pk in generations[at : at + COUNT]))
    except Exception as error:  # noqa: BLE001 - as in `_asked`
        log.warning("Redis keeps the logs of deleted answers for its time: %s", type(error).__name__)


# Rows deleted by this thread's transaction.
_gone = threading.local()


def _forget_gone() -> None:
    from conversations.models import Generation

    found, _gone.ids = getattr(_gone, "ids", []), []
    if found:
        # A transaction before this one may have been taken back.
        there = set(Generation.objects.filter(pk__in=found).values_list("pk", flat=True))
        forget([pk for pk in found if pk not in there])


def _deleted(instance: Any, **_: Any) -> None:
    if settings.REDIS_URL:
        if not hasattr(_gone, "ids"):
            _gone.ids = []
        _gone.ids.append(instance.pk)
        transaction.on_commit(_forget_gone)


def connect() -> None:
    """Once, when the apps are ready: however a row goes, its log goes with it."""
    from conversations.models import Generation

    post_delete.connect(_deleted, sender=Generation, dispatch_uid="generation.log")


def _number(id: bytes) -> int:
    return int(id.split(b"-", 1)[0])
