"""What is done to a gateway's surroundings during a run, one thing after the other, and when it was done."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.faults.surroundings import Gateway, Redis

# A worker that was killed, and the connections that were in its backlog.
DYING_SECONDS = 1.0
LOCK_SECONDS = 4.0


@dataclass(slots=True)
class Span:
    """From when to when (time.monotonic) something was broken."""

    name: str
    start: float
    end: float = float("inf")


class Disturbances:
    """`extra`: beside what breaks always, `stop` (SIGTERM and a new start) and `fill` (a full disk) may come.

    `counts` say what was done how often; `rounds` how often all of it was. While `up` is not set nobody listens.
    """

    def __init__(
        self,
        gateway: Gateway,
        redis: Redis | None,
        seed: int,
        period: float,
        extra: Iterable[str] = (),
        seconds: float = LOCK_SECONDS,
        only: Sequence[str] = (),
    ) -> None:
        self._gateway = gateway
        self._redis = redis
        self._chance = random.Random(seed)
        self._period = period
        self._seconds = seconds
        self._extra = tuple(extra)
        self._only = only
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.rounds = 0
        self.spans: list[Span] = []
        self.up = asyncio.Event()
        self.up.set()

    @property
    def outages(self) -> list[tuple[float, float]]:
        """When a worker was dead or dying."""
        return [(span.start, span.end) for span in self.spans if span.name in {"kill", "stop"}]

    async def run(self) -> None:
        """Until cancelled. Nothing is left broken: what was begun is ended."""
        ways = self._ways()
        while self._period:
            self._chance.shuffle(ways)
            for way in ways:
                await asyncio.sleep(self._period * self._chance.uniform(0.5, 1.5))
                name = _name(way)
                self.counts[name] += 1
                span = Span(name, time.monotonic())
                self.spans.append(span)
                doing = asyncio.ensure_future(way())
                try:
                    await asyncio.shield(doing)
                except asyncio.CancelledError:
                    # The run is over meanwhile; its gateway must be whole for the verdict.
                    await doing
                    raise
                finally:
                    span.end = self._ended(span)
            self.rounds += 1

    def _ways(self) -> list[Callable[[], Awaitable[None]]]:
        ways: list[Callable[[], Awaitable[None]]] = [self._lock, self._kill]
        if self._gateway.database:
            ways += [self._terminate]
        if self._redis:
            ways += [self._stop_redis]
        if "stop" in self._extra:
            ways += [self._stop]
        if "fill" in self._extra:
            ways += [self._fill]
        return [way for way in ways if not self._only or _name(way) in self._only]

    def _ended(self, span: Span) -> float:
        """Where others answer, a killed worker's callers alone are excused."""
        if span.name == "kill" and self._gateway.workers > 1:
            return span.start + DYING_SECONDS
        return time.monotonic()

    async def _lock(self) -> None:
        with self._gateway.locked():
            await asyncio.sleep(self._seconds)

    async def _fill(self) -> None:
        with self._gateway.full():
            await asyncio.sleep(self._seconds)

    async def _terminate(self) -> None:
        await asyncio.to_thread(self._gateway.terminate_connections)

    async def _stop_redis(self) -> None:
        assert self._redis
        self._redis.stop()
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._redis.start()

    async def _kill(self) -> None:
        self._gateway.kill_worker(self._chance)
        if self._gateway.workers == 1:
            self.up.clear()
        try:
            await self._gateway.revive()
        finally:
            self.up.set()

    async def _stop(self) -> None:
        """As a new version is rolled out: SIGTERM, and a start when it has ended."""
        self.up.clear()
        try:
            code = await self._gateway.end()
            if code != 0:
                self.problems.append(f"the gateway ended with {code} on SIGTERM")
            await asyncio.to_thread(self._gateway.process.start, 60)
        finally:
            self.up.set()


def _name(way: Callable[[], Awaitable[None]]) -> str:
    return way.__name__.strip("_").replace("_", "-")
