"""A fifth of all calls to providers fails, at random and in every way: what a caller sees, and what is booked.

ROUTING_REQUESTS says how many requests are made: 1,000, or 10,000 for a thorough look; `-rP` shows the figures.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gateway.breaker import breaker
from gateway.busy import busy
from gateway.models import UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import Recorded, ScriptedProvider

REQUESTS = int(os.environ.get("ROUTING_REQUESTS", "1000"))
AT_ONCE = 16
SEED = 20261121
NAMES = ("A", "B", "C")
FAULTS: dict[str, Callable[[], answers.Answer]] = {
    "limited": lambda: answers.error(429, headers={"retry-after-ms": "50"}),
    "500": lambda: answers.error(500),
    "503": lambda: answers.html(503),
    "refused": lambda: answers.error(401),
    "gone": lambda: answers.error(404),
    "too long": lambda: answers.error(400, code="context_length_exceeded"),
    "reset": answers.reset_before_headers,
    "closed": answers.close_before_headers,
    "redirect": lambda: answers.redirect("http://127.0.0.1:1/"),
    "not json": lambda: answers.raw(b"<html>"),
    "error in 200": lambda: answers.reply_json({"error": {"message": "overloaded", "code": 503}}),
}
SILENT = 0.02


@dataclass(frozen=True)
class Call:
    """What a provider was asked, and how it answered: a name in FAULTS, `silent`, `late` or `ok`."""

    number: int
    provider: str
    kind: str


class Flaky:
    """Providers whose answer to each request is settled beforehand, so that it is known who could have served it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._lock = threading.Lock()

    def kind(self, provider: str, number: int, *, stream: bool) -> str:
        chance = random.Random(f"{SEED} {provider} {number}")
        if chance.random() >= 0.2:
            return "ok"
        if chance.random() < SILENT:
            return "silent"
        if stream and chance.random() < 0.1:
            return "late"
        return chance.choice(list(FAULTS))

    def programme(self, provider: str) -> Callable[[Recorded], answers.Answer]:
        def answer(request: Recorded) -> answers.Answer:
            body = request.json
            number, stream = body["seed"], bool(body.get("stream"))
            kind = self.kind(provider, number, stream=stream)
            with self._lock:
                self.calls.append(Call(number, provider, kind))
            return _answer(kind, number, stream)

        return answer

    def could_be_served(self, number: int, *, stream: bool) -> bool:
        return any(self.kind(name, number, stream=stream) == "ok" for name in NAMES)


def _answer(kind: str, number: int, stream: bool) -> answers.Answer:
    if kind in FAULTS:
        return FAULTS[kind]()
    if kind == "silent":
        return answers.silent()
    usage = {"prompt_tokens": number, "completion_tokens": 3, "total_tokens": number + 3}
    if not stream:
        return answers.reply(f"answer {number}", usage=usage)
    said = [answers.chunk({"role": "assistant", "content": "answer "}), answers.chunk({"content": str(number)})]
    if kind == "late":
        return answers.sse([*said, answers.Pause(0.02), answers.Reset()])
    return answers.sse([*said, answers.chunk({}, "stop"), answers.chunk(None, usage=usage), answers.DONE])


@dataclass(frozen=True)
class Seen:
    """What a caller saw."""

    status: int
    text: str
    request_id: str
    attempts: str


@pytest.fixture
def flaky(gateway: LiveGateway) -> Iterator[Flaky]:
    breaker.clear()
    flaky = Flaky()
    with ExitStack() as stack:
        for name in NAMES:
            scripted = stack.enter_context(ScriptedProvider())
            scripted.on("m", flaky.programme(name))
            # Equals, so that each is the first for some.
            gateway.add_provider(scripted, "m", name=name, priority=10, timeout=4, first_event_timeout=4)
        yield flaky
    breaker.clear()


async def ask_all(gateway: LiveGateway) -> list[Seen]:
    waiting = asyncio.Semaphore(AT_ONCE)
    headers = gateway.auth()
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:

        async def ask(number: int) -> Seen:
            question = [{"role": "user", "content": "hi"}]
            body: dict[str, Any] = {"model": "m", "messages": question, "seed": number, "stream": streamed(number)}
            async with waiting:
                response = await client.post("/v1/chat/completions", json=body)
            tried = response.headers.get("x-gateway-attempts", "")
            return Seen(response.status_code, response.text, response.headers["x-request-id"], tried)

        return await asyncio.gather(*(ask(number) for number in range(REQUESTS)))


def streamed(number: int) -> bool:
    return number % 2 == 1


def rows_of(seen: list[Seen]) -> dict[str, UsageEvent]:
    deadline = time.monotonic() + 20
    while UsageEvent.objects.count() < len(seen) and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.05)
    rows = list(UsageEvent.objects.all())
    assert len(rows) == len(seen)
    return {row.request_id: row for row in rows}


@pytest.mark.timeout(max(600, REQUESTS // 5))
def test_no_caller_sees_a_failure_that_somebody_could_have_served(gateway: LiveGateway, flaky: Flaky) -> None:
    assert gateway.key
    seen = asyncio.run(ask_all(gateway))
    calls: dict[int, list[Call]] = defaultdict(list)
    for call in flaky.calls:
        calls[call.number].append(call)
    rows = rows_of(seen)
    assert not busy
    for number, one in enumerate(seen):
        judge(flaky, number, one, calls[number])
        check_row(rows[one.request_id], number, one, calls[number])
    tell(seen, calls, rows)
    kinds = Counter(call.kind for call in flaky.calls)
    assert set(kinds) >= {*FAULTS, "ok", "late"}
    assert Counter(one.status for one in seen)[200] > 0.95 * len(seen)


def tell(seen: list[Seen], calls: dict[int, list[Call]], rows: dict[str, UsageEvent]) -> None:
    made = [call for found in calls.values() for call in found]
    faults = sum(call.kind != "ok" for call in made)
    print(f"{len(seen)} requests, {len(made)} calls, {faults} of them faulty ({faults / len(made):.1%})")
    broken = sum(one.status == 200 and '"error"' in one.text for one in seen)
    print(f"answers by status: {dict(Counter(one.status for one in seen))}; streams that broke off: {broken}")
    print(f"saved by another provider: {sum(len(c) > 1 and c[-1].kind == 'ok' for c in calls.values())}")
    print(f"rows of usage: {len(rows)}, {dict(Counter(row.status for row in rows.values()))}")


def judge(flaky: Flaky, number: int, seen: Seen, calls: list[Call]) -> None:
    last = calls[-1]
    # Nobody is asked twice, and nobody after one has begun to answer.
    assert len({call.provider for call in calls}) == len(calls)
    assert all(call.kind not in ("ok", "late") for call in calls[:-1])
    if last.kind == "ok":
        assert seen.status == 200
        assert str(number) in seen.text
        assert "error" not in seen.text
    elif last.kind == "late":
        assert seen.status == 200
        assert '"error"' in seen.text
        assert "[DONE]" not in seen.text
    else:
        assert seen.status >= 400
        assert len(calls) == len(NAMES)
        assert not flaky.could_be_served(number, stream=streamed(number))
    told = [item.partition("/")[0] for item in seen.attempts.split(", ")] if seen.attempts else []
    assert told == ([call.provider for call in calls] if len(calls) > 1 else [])


def check_row(row: UsageEvent, number: int, seen: Seen, calls: list[Call]) -> None:
    last = calls[-1]
    assert row.provider_name == last.provider
    assert [item["provider"] for item in row.attempts] == [call.provider for call in calls]
    assert row.status == ("ok" if last.kind == "ok" else "error")
    if last.kind == "ok":
        assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (number, 3, False)
    elif last.kind == "late":
        assert row.estimated
    else:
        assert (row.http_status, row.prompt_tokens, row.completion_tokens) == (seen.status, None, None)
