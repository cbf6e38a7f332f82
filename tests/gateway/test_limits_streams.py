"""Open streams of a key, a user and a model: counted together by all workers, and freed when one ends or dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from gateway import limiter as limiting
from gateway.breaker import breaker
from gateway.models import UsageEvent, UserLimits
from gateway.usage import writer
from tests.gateway.test_limits_redis import RedisServer
from tests.support import answers, services
from tests.support.gateway import LiveGateway
from tests.support.open_streams import ASK, Callers, endless
from tests.support.provider import ScriptedProvider


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


@pytest.fixture(params=["alone", "redis"])
def ready(
    request: pytest.FixtureRequest,
    settings: Settings,
    gateway: LiveGateway,
    provider: ScriptedProvider,
    held: threading.Event,
) -> Iterator[LiveGateway]:
    settings.REDIS_URL = "" if request.param == "alone" else request.getfixturevalue("server").url
    provider.on("scripted", endless(held))
    breaker.clear()
    yield gateway
    limiting.limiter._away_until = 0.0


@pytest.fixture
def callers(gateway: LiveGateway) -> Iterator[Callers]:
    made = Callers(gateway.url)
    yield made
    made.close()


def test_the_ninth_of_eight_is_refused_and_one_that_ends_makes_room(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User
) -> None:
    ready.add_provider(provider)
    key = ready.make_key(alice, max_streams=8)
    found = [callers.ask(key) for _ in range(8)]
    assert [answer.status_code for answer in found] == [200] * 8
    assert [answer.headers["x-ratelimit-remaining-streams"] for answer in found] == [str(7 - n) for n in range(8)]
    assert "x-ratelimit-reset-streams" not in found[0].headers
    ninth = callers.ask(key)
    error = ninth.json()["error"]
    assert (ninth.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "too_many_streams")
    assert "open streams of this API key is reached: Limit 8, Open 8" in error["message"]
    assert (ninth.headers["retry-after"], ninth.headers["retry-after-ms"]) == ("1", "1000")
    assert ninth.headers["x-ratelimit-remaining-streams"] == "0"
    assert len(provider.chats) == 8
    callers.end()
    assert callers.passes_within(2, key) < 2
    assert callers.ask(key).status_code == 429


def test_what_is_no_stream_needs_no_place(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User
) -> None:
    ready.add_provider(provider)
    key = ready.make_key(alice, max_streams=1)
    callers.ask(key)
    provider.enqueue(answers.reply("plain"))
    plain = ready.http.post("/v1/chat/completions", json={**ASK, "stream": False}, headers=ready.auth(key))
    assert (plain.status_code, "x-ratelimit-limit-streams" in plain.headers) == (200, False)


def test_a_users_keys_share_the_users_places(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User, bob: User
) -> None:
    ready.add_provider(provider)
    UserLimits.objects.create(user=alice, max_streams=2)
    keys = [ready.make_key(alice), ready.make_key(alice, max_streams=30)]
    others = ready.make_key(bob)
    assert [callers.ask(keys[number % 2]).status_code for number in range(3)] == [200, 200, 429]
    assert "of this user" in callers.ask(keys[0]).json()["error"]["message"]
    assert callers.ask(others).status_code == 200


def test_a_model_without_room_is_passed_by_and_then_all_are_full(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User
) -> None:
    ready.add_provider(provider, {"public_id": "scripted", "max_streams": 1}, name="A")
    ready.add_provider(provider, {"public_id": "scripted", "max_streams": 2}, name="B")
    keys = [ready.make_key(alice), ready.key]
    found = [callers.ask(keys[number % 2]) for number in range(4)]
    assert [answer.status_code for answer in found] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-limit-streams"] for answer in found] == ["1", "2", "2", "1"]
    error = found[-1].json()["error"]
    assert (error["code"], "of this model" in error["message"]) == ("too_many_streams", True)
    writer.flush()
    assert UsageEvent.objects.filter(http_status=429).count() == 0


def test_who_finds_no_place_has_used_no_request_and_the_other_way_round(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User
) -> None:
    ready.add_provider(provider)
    key = ready.make_key(alice, max_streams=1, requests_per_minute=2)
    assert callers.ask(key).headers["x-ratelimit-remaining-requests"] == "1"
    assert callers.ask(key).json()["error"]["code"] == "too_many_streams"
    callers.end()
    callers.passes_within(2, key)
    callers.end()
    time.sleep(0.3)
    refused = callers.ask(key)
    assert (refused.json()["error"]["code"], refused.headers["x-ratelimit-remaining-streams"]) == (
        "rate_limit_exceeded",
        "1",
    )


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"max_tokens": 5}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/api/Scripted/chat/completions", {}),
    ],
)
def test_streams_of_every_surface_share_them(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User, path: str, more: dict[str, Any]
) -> None:
    ready.add_provider(provider, name="Scripted")
    key = ready.make_key(alice, max_streams=1)
    callers.ask(key)
    refused = callers.ask(key, path, **more)
    assert refused.status_code == 429
    assert "open streams" in refused.text
    callers.end()
    callers.passes_within(2, key, path=path, **more)


def test_a_bucket_that_is_read_as_a_stream_needs_a_place_too(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User
) -> None:
    ready.add_provider(provider)
    key = ready.make_key(alice, max_streams=1)
    headers = ready.auth(key)
    assert ready.http.post("/files/b", files={"files": ("a.txt", b"one")}, headers=headers).status_code == 200
    callers.ask(key)
    refused = ready.http.get("/files/b/stream", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
    assert ready.http.get("/files/b", headers=headers).status_code == 200
    callers.end()
    deadline = time.monotonic() + 2
    while ready.http.get("/files/b/stream", headers=headers).status_code != 200:
        assert time.monotonic() < deadline
    # It is over, and so is its place.
    assert ready.http.get("/files/b/stream", headers=headers).status_code == 200


def test_who_is_refused_or_fails_leaves_no_place_behind(
    ready: LiveGateway, provider: ScriptedProvider, callers: Callers, alice: User
) -> None:
    ready.add_provider(provider)
    key = ready.make_key(alice, max_streams=1)
    provider.enqueue(answers.error(400, "no"), answers.error(500), answers.stream("whole"))
    assert callers.ask(key).status_code == 400
    assert callers.ask(key).status_code == 502
    assert "whole" in ready.http.post("/v1/chat/completions", json=ASK, headers=ready.auth(key)).text
    callers.passes_within(2, key)
    assert limiting.limiter._memory._holders
    callers.end()
    deadline = time.monotonic() + 2
    while limiting.limiter._memory._holders:
        assert time.monotonic() < deadline
        time.sleep(0.02)
