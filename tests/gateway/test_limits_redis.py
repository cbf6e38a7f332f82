"""Limits that several processes keep together through a Redis of the test's own, and what happens while it is away."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from django.contrib.auth.models import User
from pytest_django import Settings

from gateway import limiter as limiting
from gateway import limits, redis_counters
from gateway.limits import REQUESTS, TOKENS, Claim, CountersAway, Limit, MemoryCounters, Outcome
from gateway.redis_counters import RedisCounters
from tests.support import answers, services
from tests.support.gateway import GatewayProcess, LiveGateway, free_port
from tests.support.provider import ScriptedProvider

ASK: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
FEW = Limit("key", 1, REQUESTS, 3)


class RedisServer:
    """Nothing on disk; killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([services.REDIS_SERVER, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                with redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.02)

    def send(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def clients(self) -> int:
        """How many others are connected."""
        with redis.from_url(self.url) as client:
            return len(client.client_list()) - 1

    def used(self, name: str) -> int:
        """What is counted under the limit's name; 0 when nothing is."""
        with redis.from_url(self.url) as client:
            found = list(client.scan_iter(f"*:{name}"))
            assert len(found) < 2
            return int(client.hget(found[0], "used")) if found else 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    services.require("redis server")
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def ready(
    server: RedisServer, settings: Settings, gateway: LiveGateway, provider: ScriptedProvider
) -> Iterator[LiveGateway]:
    settings.REDIS_URL = server.url
    gateway.add_provider(provider)
    yield gateway
    limiting.limiter._away_until = 0.0


def ask(gateway: LiveGateway, key: str, **more: Any) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json={**ASK, **more}, headers=gateway.auth(key))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_of_200_at_once_at_four_processes_100_pass(
    server: RedisServer, provider: ScriptedProvider, gateway_process: Callable[..., GatewayProcess]
) -> None:
    process = gateway_process("--workers", "4", wait=False, REDIS_URL=server.url)
    options = ["--adapter", "openai_chat", "--base-url", provider.base_url, "--auth-style", "none"]
    added = process.manage("provider", "add", "Near", *options, "--model", "scripted")
    assert added.returncode == 0, added.stderr
    made = process.manage(
        "apikey", "create", "--user", "charlie", "--name", "limited", "--requests-per-minute", "100", "--json"
    )
    key = json.loads(made.stdout)
    wait_for_all(process, key["key"])

    async def all_at_once() -> list[httpx.Response]:
        bounds = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=process.url, limits=bounds, timeout=50) as client:
            headers = process.auth(key["key"])
            asks = [client.post("/v1/chat/completions", json=ASK, headers=headers) for _ in range(200)]
            return await asyncio.gather(*asks)

    try:
        found = asyncio.run(all_at_once())
        workers_that_counted = server.clients()
    finally:
        # Killed without a word it would leave its workers behind.
        process.stop()
    passed = [response for response in found if response.status_code == 200]
    refused = [response for response in found if response.status_code == 429]
    assert (len(passed), len(refused)) == (100, 100)
    assert len(provider.chats) == 100
    assert server.used(f"key:{key['id']}:requests") == 100
    assert workers_that_counted > 1, "only one worker had to do"
    left = sorted(int(response.headers["x-ratelimit-remaining-requests"]) for response in passed)
    assert left == list(range(100))
    assert all(1 <= int(response.headers["retry-after"]) <= 60 for response in refused)


def wait_for_all(process: GatewayProcess, key: str) -> None:
    """Until every worker serves and has read the new rows; a list costs no request of the limit."""
    deadline, good = time.monotonic() + 90, 0
    while good < 40:
        assert time.monotonic() < deadline, process.output
        try:
            listed = httpx.get(f"{process.url}/v1/models", headers=process.auth(key), timeout=10)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        good = good + 1 if listed.status_code == 200 and "scripted" in listed.text else 0


def on_both(
    server: RedisServer, play: Callable[[Callable[..., Awaitable[Outcome]], Any], Awaitable[list[Any]]]
) -> list[list[Any]]:
    """What the same play gives on the counters of one process and on those in Redis."""

    async def run() -> list[list[Any]]:
        alone, shared = MemoryCounters(), RedisCounters(server.url)

        async def take_alone(*claims: Claim) -> Outcome:
            return alone.take(claims)

        async def take_shared(*claims: Claim) -> Outcome:
            return await shared.take(claims)

        try:
            return [await play(take_alone, alone.settle), await play(take_shared, shared.settle)]
        finally:
            await shared.close()

    return asyncio.run(run())


def test_both_kinds_of_counters_follow_the_same_rules(server: RedisServer) -> None:
    tokens, narrow = Limit("user", 2, TOKENS, 100), Limit("user", 2, REQUESTS, 2)

    async def play(take: Any, settle: Any) -> list[Any]:
        seen: list[Any] = []

        async def step(*claims: Claim) -> Outcome:
            outcome = await take(*claims)
            assert all(0 < minute.end - outcome.now <= limits.MINUTE_MS for minute in outcome.minutes)
            seen.append((outcome.refused, [minute.used for minute in outcome.minutes]))
            return outcome

        first = await step(Claim(FEW, 1), Claim(tokens, 60))
        end = first.minutes[1].end
        await step(Claim(FEW, 1), Claim(tokens, 41))
        settle(tokens.name, -20, end)
        await step(Claim(FEW, 1), Claim(tokens, 41))
        settle(tokens.name, 500, end)
        settle(tokens.name, -5000, end - 1)
        await step(Claim(tokens, 1))
        settle(tokens.name, -5000, end)
        await step(Claim(tokens, 100))
        await step(Claim(narrow, 1), Claim(FEW, 1))
        await step(Claim(narrow, 1), Claim(FEW, 1))
        await step(Claim(narrow, 1))
        await step(Claim(Limit("key", 9, REQUESTS, 25), 26))
        return seen

    alone, shared = on_both(server, play)
    assert alone == shared
    assert alone[:3] == [(None, [1, 60]), (1, [1, 60]), (None, [2, 81])]
    assert alone[3:6] == [(0, [581]), (None, [100]), (None, [1, 3])]
    assert alone[6:] == [(1, [1, 3]), (None, [2]), (None, [26])]


def test_a_minute_ends_and_late_bookings_fall_into_the_next(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MINUTE_MS", 200)
    monkeypatch.setattr(redis_counters, "MINUTE_MS", 200)
    tokens = Limit("key", 1, TOKENS, 100)

    async def play(take: Any, settle: Any) -> list[Any]:
        first = await take(Claim(FEW, 3), Claim(tokens, 50))
        refused = await take(Claim(FEW, 1))
        await asyncio.sleep(0.25)
        settle(tokens.name, -50, first.minutes[1].end)
        settle(tokens.name, 7, first.minutes[1].end)
        again = await take(Claim(FEW, 1), Claim(tokens, 1))
        return [refused.refused, again.refused, [minute.used for minute in again.minutes]]

    assert on_both(server, play) == [[0, None, [1, 8]]] * 2
    time.sleep(0.3)
    with redis.from_url(server.url) as client:
        assert client.dbsize() == 0


def test_a_burst_shares_one_connection(server: RedisServer) -> None:
    async def burst() -> list[Outcome]:
        counters = RedisCounters(server.url)
        outcomes = await asyncio.gather(*(counters.take([Claim(FEW, 1)]) for _ in range(500)))
        await counters.close()
        return outcomes

    assert sum(outcome.refused is None for outcome in asyncio.run(burst())) == 3
    with redis.from_url(server.url) as client:
        assert client.info("stats")["total_connections_received"] < 6


def test_a_busy_loop_is_not_taken_for_a_lost_redis(server: RedisServer) -> None:
    async def busy() -> Outcome:
        counters = RedisCounters(server.url)
        asking = asyncio.create_task(counters.take([Claim(FEW, 1)]))
        for _ in range(8):
            await asyncio.sleep(0)
            time.sleep(0.1)  # noqa: ASYNC251 - the loop is meant to stand still
        outcome = await asking
        await counters.close()
        return outcome

    assert asyncio.run(busy()).refused is None


def test_installations_that_share_a_redis_count_apart(server: RedisServer, settings: Settings) -> None:
    async def take() -> int | None:
        counters = RedisCounters(server.url)
        outcome = await counters.take([Claim(FEW, 3)])
        await counters.close()
        return outcome.refused

    assert [asyncio.run(take()), asyncio.run(take())] == [None, 0]
    settings.KEY_PEPPER = "another pepper of at least 32 characters"
    assert asyncio.run(take()) is None


def garbage(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_what_is_no_redis_counts_as_away() -> None:
    async def take(port: int) -> None:
        counters = RedisCounters(f"redis://:secret-password@127.0.0.1:{port}/0")
        asks = [counters.take([Claim(FEW, 1)]) for _ in range(5)]
        found = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(item, CountersAway) and "secret" not in str(item) for item in found), found
        await counters.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=garbage, args=(listener,), daemon=True).start()
        asyncio.run(take(listener.getsockname()[1]))
        listener.shutdown(socket.SHUT_RDWR)
    asyncio.run(take(free_port()))


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_without_redis_answers_go_on_and_limits_hold_and_it_is_found_again(
    ready: LiveGateway,
    server: RedisServer,
    alice: User,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert limiting.PAUSE_SECONDS == 10
    monkeypatch.setattr(limiting, "PAUSE_SECONDS", 1)
    caplog.set_level(logging.INFO, "gateway.limiter")
    key = ready.make_key(alice, requests_per_minute=10_000, tokens_per_minute=1_000_000)
    name = f"key:{alice.api_keys.get().pk}:requests"
    for _ in range(5):
        assert ask(ready, key, max_tokens=5).status_code == 200
    assert server.used(name) == 5
    found: list[tuple[int, float]] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=ready.url, timeout=20, headers=ready.auth(key)) as client:
            while not stop.is_set():
                started = time.monotonic()
                code = client.post("/v1/chat/completions", json={**ASK, "max_tokens": 5}).status_code
                found.append((code, time.monotonic() - started))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        if how == "killed":
            server.kill()
        else:
            server.send(signal.SIGSTOP)
        time.sleep(2.5)
        limited = ready.make_key(alice, requests_per_minute=2)
        assert [ask(ready, limited).status_code for _ in range(3)] == [200, 200, 429]
        if how == "killed":
            server.start()
        else:
            server.send(signal.SIGCONT)
        before = server.used(name)
        deadline = time.monotonic() + 5
        while server.used(name) <= before:
            assert time.monotonic() < deadline, "Redis was not found again"
            time.sleep(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert len(found) > 50
    assert {code for code, _ in found} == {200}
    # Whoever waited for the hanging one would wait 2.5 s and longer.
    assert max(seconds for _, seconds in found) < 2
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.limiter"]
    assert len([text for text in said if "does not answer" in text]) == 1
    assert said[-1] == "Redis answers again, limits are shared"


def test_what_is_used_reaches_redis_when_the_answer_has_ended(
    ready: LiveGateway, server: RedisServer, provider: ScriptedProvider, alice: User
) -> None:
    key = ready.make_key(alice, tokens_per_minute=1000)
    name = f"key:{alice.api_keys.get().pk}:tokens"
    go = threading.Event()
    held = answers.reply("late")
    provider.enqueue(answers.Answer(held.head, (answers.Hold(go), *held.body)))
    thread = threading.Thread(target=ask, args=(ready, key), kwargs={"max_tokens": 400})
    thread.start()
    provider.wait_for(1)
    assert server.used(name) == 401
    go.set()
    thread.join(5)
    deadline = time.monotonic() + 2
    while server.used(name) != 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_files_count_in_redis_too(ready: LiveGateway, server: RedisServer, alice: User) -> None:
    headers = ready.auth(ready.make_key(alice, requests_per_minute=2))
    found = [ready.http.get("/search/fox", headers=headers).status_code for _ in range(3)]
    assert found == [404, 404, 429]
    with redis.from_url(server.url) as client:
        assert len(client.keys()) == 1
