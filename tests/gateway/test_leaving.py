"""Callers that leave: the provider hears of it at once, their use is booked, and nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from gateway.live import answers as live_answers
from gateway.models import UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway, raw_request
from tests.support.provider import Recorded, ScriptedProvider

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
BEGUN = answers.sse([*answers.events_of([{"content": "one "}], finish=None, usage=None, done=False), answers.Stall()])


def sockets() -> int:
    """Of this process, in which the gateway and the provider live too."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def settled(expected: int) -> int:
    """How many rows there are, once the writer had time to bring `expected` of them."""
    deadline = time.monotonic() + 10
    while UsageEvent.objects.count() < expected and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.05)
    return UsageEvent.objects.count()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_provider_hears_of_it_within_100_ms(gateway: LiveGateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.on("scripted", BEGUN if stream else answers.silent())
    gateway.add_provider(provider)
    delays = []
    for count in range(1, 21):
        connection = raw_request(gateway.url, gateway.key, {**CHAT, "stream": stream})
        request = provider.wait_for(count)
        if stream:
            assert connection.recv(10_000)
        connection.close()
        left = time.monotonic()
        assert request.left.wait(2)
        assert request.left_at is not None
        delays.append(request.left_at - left)
    # The median, because the machine may be busy with something else.
    assert sorted(delays)[10] < 0.1
    assert settled(20) == 20
    rows = UsageEvent.objects.all()
    assert {row.status for row in rows} == {"cancelled"}
    assert all(bool(row.completion_tokens) == stream and row.estimated == stream for row in rows)


async def _asked(port: int, key: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    )
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_thousand_leavers_leave_nothing_and_get_nobodys_answer(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Settings
) -> None:
    """Of 1,200 callers 1,000 leave at random moments; the others get their own words and no other's."""
    settings.MAX_STREAMS_PER_KEY = 0
    gateway.add_provider(provider)
    chance = random.Random(11)
    loops: set[asyncio.AbstractEventLoop] = set()

    def slowly(request: Recorded) -> answers.Answer:
        loops.update(live.loop for live in list(live_answers._open))
        text = request.json["messages"][0]["content"]
        if not request.json.get("stream"):
            whole = answers.reply(text)
            return answers.Answer(whole.head, (answers.Pause(chance.random() * 0.02), *whole.body))
        return answers.stream(text, text, gap=chance.random() * 0.01)

    provider.on("scripted", slowly)
    port = int(gateway.url.rsplit(":", 1)[1])
    key = gateway.key

    async def one(number: int, places: asyncio.Semaphore) -> None:
        mark = f"mark-{number}-{number * 7919}-end"
        body = {**CHAT, "messages": [{"role": "user", "content": mark}], "stream": number % 4 < 2}
        async with places:
            reader, writer = await _asked(port, key, body)
            try:
                if number % 6:
                    await asyncio.sleep(chance.random() * 0.04)
                    return
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 200")
                assert answer.count(mark.encode()) == (2 if body["stream"] else 1)
                assert answer.count(b"mark-") == answer.count(mark.encode())
            finally:
                writer.transport.abort()

    async def all_of_them() -> None:
        places = asyncio.Semaphore(50)
        await asyncio.gather(*(one(number, places) for number in range(1200)))

    asyncio.run(_warm(port, key))
    before = sockets()
    asyncio.run(all_of_them())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (len(live_answers) or sockets() > before + 60):
        time.sleep(0.05)
    assert len(live_answers) == 0
    [loop] = loops
    # The server's own: its main loop, its lifespan, and one watcher of connections at most.
    assert len(asyncio.all_tasks(loop)) <= 5
    # Idle connections to the provider, of which both ends are here, go after four seconds.
    while time.monotonic() < deadline and sockets() > before:
        time.sleep(0.05)
    assert sockets() <= before
    reached = {request.json["messages"][0]["content"] for request in provider.chats}
    # Each has ended, so that all rows are there to be written.
    writer.flush()
    assert len(reached) <= UsageEvent.objects.count() <= 1201
    states = {row["status"] for row in UsageEvent.objects.values("status").distinct()}
    assert states <= {"ok", "cancelled"}
    assert UsageEvent.objects.filter(status="ok").count() >= 201


async def _warm(port: int, key: str) -> None:
    reader, writer = await _asked(port, key, CHAT)
    assert b"200 OK" in await reader.read()
    writer.close()
