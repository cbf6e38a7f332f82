"""Counters that several processes share through Redis, exact because each decision is one script in it.

A place that a stream has is a lease: whoever dies with it cannot keep it, and whoever lives renews it.

One connection per loop. What is asked while an answer is awaited goes together in the next batch, so a burst costs a
few round trips and no burst of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.limits import MINUTE_MS, PLACE_MS, Claim, CountersAway, Minute, Outcome

ANSWER_SECONDS = 0.2
LOOKS = 10
# How long a place is kept of which nobody says that its stream still runs, and how often that is said.
LEASE_SECONDS, RENEW_SECONDS = 6.0, 2.0
AT_ONCE = 500

# The rules are those of `MemoryCounters`. Time is Redis', so that the clocks of several machines do not matter.
CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function current(key)
  local found = redis.call('HMGET', key, 'end', 'used')
  local ends = tonumber(found[1])
  if ends and now < ends then return ends, tonumber(found[2]) end
  return now + tonumber(ARGV[1]), 0
end
local function keep(key, ends, used)
  redis.call('HSET', key, 'end', ends, 'used', used)
  redis.call('PEXPIREAT', key, ends)
end
local function held(key, retry)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return now + retry, redis.call('ZCARD', key)
end
local function hold(key, lease, holder)
  redis.call('ZADD', key, now + lease, holder)
  redis.call('PEXPIRE', key, lease)
end
"""
TAKE = (
    CLOCK
    + """
local ends, used, refused = {}, {}, 0
local function claim(i) return ARGV[3 * i + 2] == '1', tonumber(ARGV[3 * i + 3]), tonumber(ARGV[3 * i + 4]) end
for i, key in ipairs(KEYS) do
  local is_place, amount, most = claim(i)
  if is_place then ends[i], used[i] = held(key, tonumber(ARGV[2])) else ends[i], used[i] = current(key) end
  if used[i] > 0 and used[i] + amount > most
    and (refused == 0 or ends[i] >= ends[refused]) then refused = i end
end
local answer = {refused, now}
for i, key in ipairs(KEYS) do
  if refused == 0 then
    local is_place, amount = claim(i)
    used[i] = used[i] + amount
    if is_place then hold(key, tonumber(ARGV[3]), ARGV[4]) else keep(key, ends[i], used[i]) end
  end
  answer[#answer + 1] = ends[i]
  answer[#answer + 1] = used[i]
end
return answer
"""
)
SETTLE = (
    CLOCK
    + """
local ends, used = current(KEYS[1])
local difference = tonumber(ARGV[2])
if ends == tonumber(ARGV[3]) or difference > 0 then keep(KEYS[1], ends, math.max(0, used + difference)) end
return 0
"""
)
HOLD = (
    CLOCK
    + """
for i = 2, #ARGV do hold(KEYS[1], tonumber(ARGV[1]), ARGV[i]) end
return 0
"""
)
LEAVE = """
for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end
return 0
"""


@dataclass(slots=True)
class _Ask:
    """A script with its keys and arguments. Nobody waits for the answer without a `reply`."""

    script: str
    keys: list[str]
    arguments: list[int | str]
    reply: asyncio.Future[Any] | None = None


class RedisCounters:
    """For one running loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._waiting: list[_Ask] = []
        self._task: asyncio.Task[None] | None = None
        # Who has a place, by the limit's name, and what renews their leases while there is any.
        self._holders: dict[str, set[str]] = {}
        self._renewing: asyncio.Task[None] | None = None
        # Installations that share a Redis count apart; machines of one installation have the same pepper.
        # The braces keep all keys in one slot of a cluster.
        mark = hmac.digest(settings.KEY_PEPPER.encode(), b"limits", hashlib.sha256).hex()[:12]
        self._prefix = f"g4fsite:{{limits:{mark}}}:"

    async def take(self, claims: Sequence[Claim], holder: str = "") -> Outcome:
        """Counts all claims or none. `holder` gets the places among them, for LEASE_SECONDS unless `hold` is called.
        Raises CountersAway when Redis does not answer."""
        keys = [self._prefix + claim.limit.name for claim in claims]
        parts = [part for claim in claims for part in (int(claim.limit.is_place), claim.amount, claim.limit.amount)]
        reply = asyncio.get_running_loop().create_future()
        self._ask(_Ask(TAKE, keys, [MINUTE_MS, PLACE_MS, _lease(), holder, *parts], reply))
        try:
            refused, now, *numbers = await reply
        except asyncio.CancelledError:
            # Whoever left may have got a place on the way.
            if holder:
                self.leave([claim.limit.name for claim in claims if claim.limit.is_place], holder)
            raise
        minutes = tuple(Minute(end, used) for end, used in zip(numbers[::2], numbers[1::2], strict=True))
        return Outcome(refused - 1 if refused else None, now, minutes)

    def settle(self, name: str, difference: int, end: int) -> None:
        self._ask(_Ask(SETTLE, [self._prefix + name], [MINUTE_MS, difference, end]))

    def hold(self, names: Sequence[str], holder: str) -> None:
        for name in names:
            self._holders.setdefault(name, set()).add(holder)
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    def leave(self, names: Sequence[str], holder: str) -> None:
        for name in names:
            holders = self._holders.get(name, set())
            holders.discard(holder)
            if not holders:
                self._holders.pop(name, None)
        self._ask(_Ask(LEAVE, [self._prefix + name for name in names], [holder]))

    async def _renew(self) -> None:
        """Also makes places known that were given while Redis was away, or that it has forgotten."""
        while self._holders:
            await asyncio.sleep(RENEW_SECONDS)
            for name, holders in self._holders.items():
                running = list(holders)
                for first in range(0, len(running), AT_ONCE):
                    self._ask(_Ask(HOLD, [self._prefix + name], [_lease(), *running[first : first + AT_ONCE]]))

    async def close(self) -> None:
        """Sends what is left."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._task is not None:
            await self._task
        await self._disconnect()

    def _ask(self, ask: _Ask) -> None:
        self._waiting.append(ask)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await _in_time(self._send(batch))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis, nobody may wait for ever
                # Whoever came meanwhile would only wait as long again.
                self._fail(batch + self._waiting, error)
                await self._disconnect()
                continue
            for ask, answer in zip(batch, answers, strict=True):
                if ask.reply is not None and not ask.reply.done():
                    ask.reply.set_result(answer)

    async def _send(self, batch: Sequence[_Ask]) -> list[Any]:
        if self._client is None:
            # No retries: a script that was sent may have counted, and the caller would wait twice.
            self._client = redis.asyncio.from_url(self._url, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
        async with self._client.pipeline(transaction=False) as pipeline:
            for ask in batch:
                # The text each time and not its digest: a Redis that was restarted knows no digests.
                pipeline.eval(ask.script, len(ask.keys), *ask.keys, *ask.arguments)
            return await pipeline.execute()  # type: ignore[no-any-return]

    def _fail(self, asks: Sequence[_Ask], error: Exception) -> None:
        self._waiting = []
        for ask in asks:
            if ask.reply is not None and not ask.reply.done():
                # The error's own words may hold the URL, and with it a password.
                ask.reply.set_exception(CountersAway(type(error).__name__))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()


def _lease() -> int:
    return int(LEASE_SECONDS * 1000)


async def _in_time(sending: Any) -> list[Any]:
    """Raises TimeoutError after ANSWER_SECONDS. They pass in slices, and each lets in what has arrived: that this
    loop was busy for long does not mean that Redis was."""
    task = asyncio.ensure_future(sending)
    try:
        for _ in range(LOOKS):
            done, _ = await asyncio.wait({task}, timeout=ANSWER_SECONDS / LOOKS)
            if done:
                return task.result()  # type: ignore[no-any-return]
        raise TimeoutError("Redis did not answer in time")
    finally:
        task.cancel()
