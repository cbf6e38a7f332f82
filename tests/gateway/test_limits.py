"""Limits per minute in one process: who is counted together, what a caller is told, and what tokens are held back."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from gateway import limits
from gateway.chat import ChatRequest
from gateway.completions import CompletionRequest, chat_body
from gateway.errors import RateLimited
from gateway.limiter import Limiter, estimate
from gateway.limits import REQUESTS, TOKENS, Claim, Limit, MemoryCounters
from gateway.models import UsageEvent, UserLimits
from gateway.surfaces.openai.errors import duration
from gateway.usage import writer
from tests.people import PASSWORD
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

ASK: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def alone(settings: Settings) -> None:
    """Also where the run has a Redis: how several count together is shown with one of its own."""
    settings.REDIS_URL = ""


@pytest.fixture
def ready(gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[LiveGateway]:
    gateway.add_provider(provider)
    return gateway


def ask(gateway: LiveGateway, key: str, **more: Any) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json={**ASK, **more}, headers=gateway.auth(key))


def limit_headers(response: httpx.Response, kind: str) -> tuple[str | None, ...]:
    return tuple(response.headers.get(f"x-ratelimit-{name}-{kind}") for name in ("limit", "remaining", "reset"))


def test_one_more_than_the_limit_is_429_and_reaches_nobody(
    ready: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    key = ready.make_key(alice, requests_per_minute=100)
    let_in = [ask(ready, key) for _ in range(100)]
    assert {response.status_code for response in let_in} == {200}
    assert [limit_headers(response, REQUESTS)[:2] for response in let_in] == [("100", str(99 - n)) for n in range(100)]
    assert let_in[0].headers["x-ratelimit-reset-requests"] == "1m0s"
    refused = ask(ready, key)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
    assert "Limit 100, Used 100, Requested 1" in error["message"]
    milliseconds = int(refused.headers["retry-after-ms"])
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert 0 < milliseconds <= 60_000
    assert int(refused.headers["retry-after"]) == -(-milliseconds // 1000)
    assert limit_headers(refused, REQUESTS)[:2] == ("100", "0")
    assert "x-should-retry" not in refused.headers
    assert refused.headers["x-request-id"]
    assert len(provider.chats) == 100
    writer.flush()
    assert UsageEvent.objects.count() == 100


def test_official_clients_wait_for_the_next_minute(
    ready: LiveGateway, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MINUTE_MS", 1500)
    key = ready.make_key(alice, requests_per_minute=2)
    client = ready.client(key, max_retries=1)
    started = time.monotonic()
    for _ in range(3):
        client.chat.completions.create(**ASK)
    assert time.monotonic() - started > 1.4


def test_streams_have_the_headers_and_are_counted(ready: LiveGateway, alice: User) -> None:
    key = ready.make_key(alice, requests_per_minute=1)
    first = ask(ready, key, stream=True)
    assert "[DONE]" in first.text
    assert limit_headers(first, REQUESTS)[:2] == ("1", "0")
    refused = ask(ready, key, stream=True)
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/json"


def test_without_limits_nothing_is_said_of_them(ready: LiveGateway, alice: User) -> None:
    response = ask(ready, ready.make_key(alice))
    assert response.status_code == 200
    assert not any(name.startswith("x-ratelimit") for name in response.headers)


def test_keys_are_counted_apart_and_users_together(ready: LiveGateway, alice: User, bob: User) -> None:
    UserLimits.objects.create(user=alice, requests_per_minute=3)
    first = ready.make_key(alice, requests_per_minute=2)
    second, others = ready.make_key(alice), ready.make_key(bob)
    assert [ask(ready, first).status_code for _ in range(3)] == [200, 200, 429]
    last = ask(ready, second)
    assert (last.status_code, limit_headers(last, REQUESTS)[:2]) == (200, ("3", "0"))
    refused = ask(ready, second)
    assert refused.status_code == 429
    assert "this user" in refused.json()["error"]["message"]
    assert ask(ready, others).status_code == 200


def test_a_session_counts_with_its_users_keys(ready: LiveGateway, alice: User) -> None:
    UserLimits.objects.create(user=alice, requests_per_minute=1)
    key = ready.make_key(alice)
    browser = Client()
    assert browser.login(username="alice", password=PASSWORD)
    cookies = {"sessionid": browser.cookies["sessionid"].value, "csrftoken": "a" * 32}
    headers = {"x-csrftoken": "a" * 32, "origin": ready.url}
    with httpx.Client(base_url=ready.url, cookies=cookies, headers=headers, timeout=20) as client:
        codes = [client.post("/v1/chat/completions", json=ASK).status_code for _ in range(2)]
    assert codes == [200, 429]
    assert ask(ready, key).status_code == 429


def test_a_number_of_its_own_binds_a_key_of_staff_too(ready: LiveGateway, charlie: User) -> None:
    key = ready.make_key(charlie, requests_per_minute=1)
    assert [ask(ready, key).status_code for _ in range(2)] == [200, 429]


def test_a_changed_limit_counts_at_once(ready: LiveGateway, alice: User) -> None:
    key = ready.make_key(alice, requests_per_minute=1)
    assert [ask(ready, key).status_code for _ in range(2)] == [200, 429]
    alice.api_keys.update(requests_per_minute=2)
    ready.reload()
    assert [ask(ready, key).status_code for _ in range(2)] == [200, 429]


def test_lists_and_faulty_requests_cost_nothing(ready: LiveGateway, alice: User) -> None:
    key = ready.make_key(alice, requests_per_minute=1)
    for _ in range(3):
        listed = ready.http.get("/v1/models", headers=ready.auth(key))
        assert (listed.status_code, limit_headers(listed, REQUESTS)) == (200, (None,) * 3)
        assert ask(ready, key, model="unknown").status_code == 404
        assert ask(ready, key, temperature="hot").status_code == 400
    assert ask(ready, key).status_code == 200


def test_tokens_are_booked_as_the_provider_counted_them(ready: LiveGateway, alice: User) -> None:
    """Each answer uses ten, whatever was held back for it."""
    key = ready.make_key(alice, tokens_per_minute=60)
    for number in range(3):
        response = ask(ready, key, max_tokens=20, stream=number == 2)
        assert (response.status_code, "hi" in response.text) == (200, True)
        assert limit_headers(response, TOKENS)[:2] == ("60", str(60 - 10 * number - 21))
        assert limit_headers(response, REQUESTS) == (None,) * 3
    refused = ask(ready, key, max_tokens=40)
    assert refused.status_code == 429
    assert "Limit 60, Used 30, Requested 41" in refused.json()["error"]["message"]
    assert "Please try again in" in refused.json()["error"]["message"]
    assert (limit_headers(refused, TOKENS)[:2], refused.json()["error"]["type"]) == (("60", "30"), "rate_limit_error")
    assert ask(ready, key, max_tokens=20).status_code == 200


def test_without_max_tokens_the_next_ones_wait_when_the_limit_is_reached(
    ready: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    key = ready.make_key(alice, tokens_per_minute=25)
    assert [ask(ready, key).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert len(provider.chats) == 3


def test_parallel_requests_cannot_overrun_what_they_announced(
    ready: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    go = threading.Event()
    held = answers.reply("late")
    provider.on("scripted", answers.Answer(held.head, (answers.Hold(go), *held.body)))
    key = ready.make_key(alice, tokens_per_minute=100)
    with ThreadPoolExecutor(5) as pool:
        pending = [pool.submit(ask, ready, key, max_tokens=40) for _ in range(5)]
        provider.wait_for(2)
        deadline = time.monotonic() + 5
        while sum(item.done() for item in pending) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        go.set()
        assert sorted(item.result().status_code for item in pending) == [200, 200, 429, 429, 429]
    assert ask(ready, key, max_tokens=60).status_code == 200


def test_a_request_that_never_fits_is_not_to_be_tried_again(
    ready: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    key = ready.make_key(alice, tokens_per_minute=100)
    refused = ask(ready, key, max_tokens=50, n=2)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in refused.headers
    assert "Limit 100, Requested 101" in refused.json()["error"]["message"]
    assert ask(ready, key, max_tokens=99).status_code == 200
    assert len(provider.chats) == 1


def test_a_failed_request_counts_and_its_tokens_do_not(
    ready: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    provider.enqueue(answers.error(400, "no"))
    key = ready.make_key(alice, tokens_per_minute=100, requests_per_minute=2)
    failed = ask(ready, key, max_tokens=90)
    assert failed.status_code == 400
    assert limit_headers(failed, REQUESTS)[:2] == ("2", "1")
    response = ask(ready, key, max_tokens=90)
    assert response.status_code == 200
    assert limit_headers(response, REQUESTS)[:2] == ("2", "0")


def test_who_leaves_has_used_what_was_estimated(ready: LiveGateway, provider: ScriptedProvider, alice: User) -> None:
    provider.enqueue(answers.silent())
    key = ready.make_key(alice, tokens_per_minute=100)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{ready.url}/v1/chat/completions", json={**ASK, "max_tokens": 90}, headers=ready.auth(key), timeout=0.3
        )
    assert provider.wait_for(1).left.wait(2)
    assert "Used 91" in ask(ready, key, max_tokens=90).json()["error"]["message"]


def test_a_key_may_have_a_number_of_streams_of_its_own(
    ready: LiveGateway, provider: ScriptedProvider, alice: User, charlie: User, settings: Settings
) -> None:
    settings.MAX_STREAMS_PER_KEY = 1
    go = threading.Event()
    provider.on("scripted", answers.sse([*answers.events_of([{"content": "a"}], done=False), answers.Hold(go)]))
    expected = [(alice, 2, 2), (charlie, 2, 2), (alice, None, 1), (alice, 0, 3)]
    for user, number, passing in expected:
        key = ready.make_key(user, max_streams=number)
        opened = [
            httpx.stream(
                "POST", f"{ready.url}/v1/chat/completions", json={**ASK, "stream": True}, headers=ready.auth(key)
            )
            for _ in range(3)
        ]
        codes = [stream.__enter__().status_code for stream in opened]
        for stream in opened:
            stream.__exit__(None, None, None)
        assert codes == [200] * passing + [429] * (3 - passing)
    go.set()


def test_the_schema_names_the_headers(ready: LiveGateway) -> None:
    schema = ready.http.get("/schema/", headers=ready.auth()).json()
    found = schema["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"retry-after", "retry-after-ms", "x-ratelimit-remaining-requests"} <= set(found["429"]["headers"])
    assert "x-ratelimit-reset-tokens" in found["200"]["headers"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0114, "12ms"), (0.9999, "1s"), (1, "1s"), (9.816, "9.816s"), (60, "1m0s"), (360, "6m0s")],
)
def test_durations_are_written_as_official_clients_know_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def chat(**body: Any) -> ChatRequest:
    return ChatRequest("m", None, False, False, {"messages": [], **body})


def test_the_estimate_counts_texts_and_calls_but_no_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "x" * 400}, picture]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "y" * 400}}]},
    ]
    assert estimate(chat(messages=messages)) == 200
    assert estimate(chat(messages=messages, max_completion_tokens=50, n=2)) == 300
    assert estimate(chat(messages=messages, tools=[{"type": "function", "function": {"name": "z" * 4000}}])) > 1200
    assert estimate(chat()) == 1


def test_the_estimate_of_a_legacy_completion_counts_each_prompt() -> None:
    legacy = {"prompt": ["x" * 400] * 3, "max_tokens": 50, "n": 2}
    request = CompletionRequest("m", None, False, False, chat_body(legacy), legacy=legacy)
    assert estimate(request) == 300 + 50 * 2 * 3


def test_what_a_failed_answer_used_counts_against_the_limit(
    ready: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    provider.enqueue(answers.reply("a"), answers.reply("b"), answers.error(400, "no"))
    key = ready.make_key(alice, tokens_per_minute=200)
    body = {"model": "scripted", "prompt": ["a", "b", "c"], "max_tokens": 20}
    assert ready.http.post("/v1/completions", json=body, headers=ready.auth(key)).status_code == 400
    response = ask(ready, key, max_tokens=20)
    assert limit_headers(response, TOKENS)[:2] == ("200", str(200 - 20 - 21))


def test_of_several_processes_each_takes_its_share(settings: Settings) -> None:
    """Tokens that no share has room for pass alone: they must not be refused for as long as Redis is away."""
    settings.WORKERS = 4
    alone = Limiter()
    few, many = Limit("key", 1, REQUESTS, 100), Limit("key", 1, TOKENS, 100)

    def let_in(limit: Limit, count: int, **body: Any) -> int:
        passed = 0
        for _ in range(count):
            try:
                asyncio.run(alone.admit([limit], chat(**body)))
            except RateLimited:
                continue
            passed += 1
        return passed

    assert let_in(few, 60) == 25
    assert let_in(Limit("key", 2, REQUESTS, 2), 3) == 1
    assert let_in(many, 3, max_tokens=80) == 1


def test_threads_count_together_too() -> None:
    counters, limit = MemoryCounters(), Limit("key", 1, REQUESTS, 1000)
    usual = sys.getswitchinterval()
    # As often as can be, so that a count without a lock would be interrupted.
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda _: counters.take([Claim(limit, 1)]), range(4000)))
    finally:
        sys.setswitchinterval(usual)
    assert sum(outcome.refused is None for outcome in outcomes) == 1000
