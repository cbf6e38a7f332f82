"""Limits beside chat: the same counting, and refusals in the words of each surface."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from gateway.breaker import breaker
from tests.support import answers
from tests.support.anthropic_answers import capable as claude
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error
from tests.support.provider import Recorded, ScriptedProvider

HI: list[Any] = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": HI},
    "responses": {"input": "hi"},
    "messages": {"messages": HI, "max_tokens": 10},
    "messages/count_tokens": {"messages": HI},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
}
STREAMED = ("chat/completions", "responses", "messages", "completions")
ANSWERS = [*((path, False) for path in BODIES), *((path, True) for path in STREAMED)]
# What an embedding is counted as is its prompt alone.
USED = {"embeddings": 90, "messages/count_tokens": 0}
each = pytest.mark.parametrize(("path", "stream"), ANSWERS)


@pytest.fixture(autouse=True)
def alone(settings: Settings) -> None:
    settings.REDIS_URL = ""
    breaker.clear()


def served(request: Recorded) -> answers.Answer:
    usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    if request.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [1.0]}]
        return answers.reply_json({"object": "list", "model": "m", "data": data, "usage": usage})
    if not request.json.get("stream"):
        return answers.reply("x", usage=usage)
    return answers.sse([*answers.events_of([{"content": "x"}], usage=None, done=False), {
        **answers.chunk(None), "usage": usage}, answers.DONE])  # fmt: skip


def ask(gateway: LiveGateway, path: str, *, key: str = "", stream: bool = False, **more: Any) -> httpx.Response:
    body = {"model": "m", **BODIES[path], **({"stream": True} if stream else {}), **more}
    return gateway.http.post(f"/v1/{path}", json=body, headers=gateway.auth(key or None))


def check_refusal(answer: httpx.Response, path: str, whose: str) -> None:
    assert answer.status_code == 429
    if path.startswith("messages"):
        body = answer.json()
        assert (body["type"], body["error"]["type"]) == ("error", "rate_limit_error")
        assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
        said = body["error"]["message"]
    else:
        error = check_error(answer.json())
        assert error["code"] == "rate_limit_exceeded"
        said = error["message"]
    assert f"of {whose} is reached" in said
    assert answer.headers["content-type"] == "application/json"
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000


@each
def test_requests_to_a_model_are_counted_and_refused(
    gateway: LiveGateway, provider: ScriptedProvider, path: str, stream: bool
) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, {"public_id": "m", "requests_per_minute": 2})
    found = [ask(gateway, path, stream=stream) for _ in range(3)]
    assert [answer.status_code for answer in found] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in found] == ["1", "0", "0"]
    check_refusal(found[-1], path, "this model")
    # One counter for all surfaces.
    other = "embeddings" if path == "responses" else "responses"
    check_refusal(ask(gateway, other), other, "this model")


@each
def test_requests_of_a_key_are_counted_and_refused(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, path: str, stream: bool
) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, "m")
    key = gateway.make_key(alice, requests_per_minute=1)
    assert ask(gateway, path, key=key, stream=stream).headers["x-ratelimit-remaining-requests"] == "0"
    check_refusal(ask(gateway, path, key=key, stream=stream), path, "this API key")
    assert ask(gateway, path, stream=stream).status_code == 200


@each
def test_tokens_are_settled_with_what_was_used(
    gateway: LiveGateway, provider: ScriptedProvider, path: str, stream: bool
) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, {"public_id": "m", "tokens_per_minute": 1000})
    for _ in range(3):
        assert ask(gateway, path, stream=stream).status_code == 200
    left = int(ask(gateway, "embeddings").headers["x-ratelimit-remaining-tokens"])
    # What is asked last counts as one token until it is over.
    assert left == 1000 - 3 * USED.get(path, 100) - 1


@pytest.mark.parametrize("path", BODIES)
def test_a_crowd_gets_just_as_much_as_is_allowed(gateway: LiveGateway, provider: ScriptedProvider, path: str) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, {"public_id": "m", "requests_per_minute": 7})
    assert gateway.key
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: ask(gateway, path).status_code, range(20)))
    assert sorted(found) == [200] * 7 + [429] * 13


def test_what_counts_tokens_asks_another_provider_when_the_first_is_full(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    """Their own limits of tokens hold nothing back: nothing is used."""
    provider.on("m", claude)
    limits = {"public_id": "m", "requests_per_minute": 1, "tokens_per_minute": 1}
    gateway.add_provider(provider, limits, name="A", adapter="anthropic")
    with ScriptedProvider() as second:
        second.on("m", claude)
        gateway.add_provider(second, "m", name="B", adapter="anthropic")
        text: Any = [{"role": "user", "content": "hi " * 100}]
        found = [ask(gateway, "messages/count_tokens", messages=text) for _ in range(2)]
        assert [answer.json()["input_tokens"] for answer in found] == [42, 42]
        assert (len(provider.requests), len(second.requests)) == (1, 1)


def test_a_response_that_goes_on_is_estimated_with_what_was_said(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, {"public_id": "m", "tokens_per_minute": 1000})
    first = ask(gateway, "responses", input="word " * 400).json()
    # 100 are used, 500 more may be: what was said before is sent again.
    second = ask(gateway, "responses", input="go on", previous_response_id=first["id"])
    assert int(second.headers["x-ratelimit-remaining-tokens"]) == pytest.approx(400, abs=5)
    check_refusal(ask(gateway, "responses", input="word " * 800), "responses", "this model")
