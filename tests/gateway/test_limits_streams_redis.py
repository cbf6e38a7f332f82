"""Places of open streams in Redis: leases that a dead process loses, counted as in memory, shared by all workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from pytest_django import Settings

from gateway import limiter as limiting
from gateway import redis_counters
from gateway.chat import ChatRequest
from gateway.errors import TooManyStreams
from gateway.limiter import Limiter
from gateway.limits import REQUESTS, STREAMS, Claim, Limit, MemoryCounters
from gateway.redis_counters import RedisCounters
from gateway.snapshot import store
from tests.gateway.test_limits_redis import RedisServer, wait_for_all
from tests.support import services
from tests.support.gateway import GatewayProcess, LiveGateway
from tests.support.open_streams import ASK, Callers, endless
from tests.support.provider import ScriptedProvider

PLACES = Limit("key", 1, STREAMS, 2)
STREAM = ChatRequest("m", None, True, False, {"messages": []})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    services.require("redis server")
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Answers go on until it is set."""
    go = threading.Event()
    yield go
    go.set()


def test_a_limit_of_streams_is_all_that_asks_redis_for_them(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, settings: Settings, server: RedisServer
) -> None:
    settings.REDIS_URL = server.url
    gateway.add_provider(provider)
    free, limited = gateway.make_key(alice), gateway.make_key(alice, max_streams=1)

    def asked() -> int:
        with redis.from_url(server.url) as client:
            return int(client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])

    for key, body in ((free, ASK), (free, {**ASK, "stream": False}), (limited, {**ASK, "stream": False})):
        assert gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(key)).status_code == 200
    assert (asked(), store.current.limits_models) == (0, False)
    assert gateway.http.post("/v1/chat/completions", json=ASK, headers=gateway.auth(limited)).status_code == 200
    assert asked() > 0


def test_both_kinds_of_counters_follow_the_same_rules(server: RedisServer) -> None:
    requests = Limit("user", 2, REQUESTS, 3)

    async def play(counters: Any) -> list[Any]:
        async def step(holder: str, *limits: Limit) -> tuple[int | None, list[int]]:
            taken = counters.take([Claim(limit, 1) for limit in limits], holder)
            outcome = await taken if asyncio.iscoroutine(taken) else taken
            return outcome.refused, [minute.used for minute in outcome.minutes]

        name = [PLACES.name]
        seen = [await step("a", PLACES), await step("b", requests, PLACES), await step("c", requests, PLACES)]
        counters.leave(name, "c")
        seen.append(await step("c", PLACES))
        counters.leave(name, "a")
        counters.leave(name, "a")
        seen += [await step("c", requests, PLACES), await step("d", requests)]
        counters.hold(name, "e")
        counters.leave(name, "b")
        counters.leave(name, "e")
        return [*seen, await step("f", requests, PLACES)]

    async def run() -> list[list[Any]]:
        shared = RedisCounters(server.url)
        try:
            return [await play(MemoryCounters()), await play(shared)]
        finally:
            await shared.close()

    alone, shared = asyncio.run(run())
    assert alone == shared
    full = [(0, [2]), (None, [2, 2]), (None, [3])]
    assert alone == [(None, [1]), (None, [1, 2]), (1, [1, 2]), *full, (0, [3, 1])]


def test_a_place_is_kept_while_its_stream_runs_and_free_when_nobody_says_so(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counters, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(redis_counters, "RENEW_SECONDS", 0.2)

    async def run() -> list[int | None]:
        living, other = RedisCounters(server.url), RedisCounters(server.url)
        claims = [Claim(PLACES, 1)]
        await living.take(claims, "lives")
        living.hold([PLACES.name], "lives")
        # Nobody ever renews it, as if its process were dead.
        await other.take(claims, "dead")
        seen = [(await other.take(claims, "new")).refused]
        await asyncio.sleep(1.2)
        seen += [(await other.take(claims, "new")).refused, (await other.take(claims, "third")).refused]
        # A Redis that forgets hears again of those that run.
        with redis.from_url(server.url) as client:
            client.flushall()
        await asyncio.sleep(0.4)
        await other.take(claims, "again")
        seen.append((await other.take(claims, "third")).refused)
        living.leave([PLACES.name], "lives")
        await living.close()
        seen.append((await other.take(claims, "third")).refused)
        await other.close()
        return seen

    assert asyncio.run(run()) == [0, None, 0, 0, None]
    time.sleep(0.8)
    with redis.from_url(server.url) as client:
        assert client.dbsize() == 0


def test_who_leaves_while_redis_is_asked_holds_no_place(server: RedisServer) -> None:
    async def run() -> int:
        counters = RedisCounters(server.url)
        await counters.take([Claim(Limit("key", 9, REQUESTS, 9), 1)])
        asking = asyncio.create_task(counters.take([Claim(PLACES, 1)], "left"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        outcome = await counters.take([Claim(PLACES, 1)], "next")
        await counters.close()
        return outcome.minutes[0].used

    assert asyncio.run(run()) == 1


def test_while_redis_is_away_each_process_keeps_its_share_and_then_all_are_known(
    server: RedisServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(redis_counters, "RENEW_SECONDS", 0.2)
    settings.WORKERS, settings.REDIS_URL = 2, server.url
    limit = Limit("key", 1, STREAMS, 4)

    async def passes(limiter: Limiter, kept: list[Any]) -> bool:
        try:
            kept.append(await limiter.admit([limit], STREAM))
        except TooManyStreams:
            return False
        return True

    async def run() -> list[bool]:
        limiter, kept = Limiter(), []  # type: tuple[Limiter, list[Any]]
        seen = [await passes(limiter, kept)]
        await asyncio.to_thread(server.kill)
        # Its share is two, and it has one already.
        seen += [await passes(limiter, kept), await passes(limiter, kept)]
        await asyncio.to_thread(server.start)
        await asyncio.sleep(0.8)
        another = Limiter()
        seen += [await passes(another, kept) for _ in range(3)]
        for admission in kept:
            admission.leave()
            admission.leave()
        seen.append(await passes(another, kept))
        kept[-1].leave()
        await limiter.close()
        await another.close()
        return seen

    assert asyncio.run(run()) == [True, True, False, True, True, False, True]


def worker_of(process: GatewayProcess) -> list[int]:
    """The children of the supervisor that serve."""
    assert process.process
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_workers_share_the_places_and_a_dead_one_frees_its_own(
    server: RedisServer,
    postgres_url: str,
    provider: ScriptedProvider,
    held: threading.Event,
    gateway_process: Callable[..., GatewayProcess],
) -> None:
    provider.on("scripted", endless(held))
    process = gateway_process("--workers", "2", wait=False, REDIS_URL=server.url, DATABASE_URL=postgres_url)
    options = ["--adapter", "openai_chat", "--base-url", provider.base_url, "--auth-style", "none"]
    added = process.manage("provider", "add", "Near", *options, "--model", "scripted")
    assert added.returncode == 0, added.stderr
    made = process.manage("apikey", "create", "--user", "charlie", "--name", "limited", "--streams", "8", "--json")
    key = json.loads(made.stdout)["key"]
    wait_for_all(process, key)
    callers = Callers(process.url)
    try:
        assert [callers.ask(key).status_code for _ in range(9)] == [200] * 8 + [429]
        assert server.clients() > 1, "only one worker had to do"
        callers.end()
        assert callers.passes_within(2, key) < 2
        workers = worker_of(process)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        lost = 8 - alive(callers)
        assert 0 < lost < 8
        # The lease is six seconds long.
        assert callers.passes_within(10, key) < 10
        deadline = time.monotonic() + 10
        while (passed := len(callers.open)) < 8:
            assert time.monotonic() < deadline
            callers.ask(key)
            time.sleep(0.1)
        assert passed == 8
        assert callers.ask(key).status_code == 429
    finally:
        callers.close()
        process.stop()


def alive(callers: Callers) -> int:
    """How many streams go on; those that were cut are let go."""
    time.sleep(0.5)
    going = []
    for answer, pieces in callers.open:
        found = answer.extensions["network_stream"].get_extra_info("is_readable")
        if found:
            answer.close()
        else:
            going.append((answer, pieces))
    callers.open = going
    return len(going)
