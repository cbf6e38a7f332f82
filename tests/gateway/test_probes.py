"""A provider that failed comes back without a caller who pays for finding out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from gateway.breaker import breaker
from gateway.errors import UpstreamBroken, UpstreamLimited, UpstreamRefused
from gateway.probes import probes
from gateway.snapshot import store
from gateway.targets import Target
from tests.support import answers
from tests.support.gateway import LiveGateway, free_port
from tests.support.provider import ScriptedProvider

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def fresh_breaker() -> Iterator[None]:
    breaker.clear()
    yield
    breaker.clear()


def ask(gateway: LiveGateway) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json=CHAT, headers=gateway.auth())


def target_of(name: str) -> Target:
    return store.current.by_name[name.lower()].models["m"].targets[0]


def lists(provider: ScriptedProvider) -> int:
    return sum(request.path.endswith("/models") for request in provider.requests)


def test_what_was_down_and_is_up_again_serves_the_next_caller(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    port = free_port()
    gateway.add_provider(f"http://127.0.0.1:{port}/v1", "m", name="Down")
    gateway.add_provider(provider, "m", name="Other")
    for _ in range(3):
        assert ask(gateway).json()["provider"] == "Other"
    assert breaker.is_open(target_of("Down"))
    probes.look()
    assert ask(gateway).json()["provider"] == "Other"
    with ScriptedProvider(port) as back:
        probes.look()
        assert ask(gateway).json()["provider"] == "Down"
        assert "x-gateway-attempts" not in ask(gateway).headers
        assert back.chats[0].header("authorization")


def test_who_cannot_be_reached_stays_last_beyond_its_pause(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    monkeypatch.setattr(breaker, "_clock", lambda: time.monotonic() + ahead)
    gateway.add_provider(f"http://127.0.0.1:{free_port()}/v1", "m", name="Down")
    for _ in range(3):
        breaker.failed(target_of("Down"), UpstreamBroken("x"))
    ahead = 29
    probes.look()
    ahead = 40
    assert breaker.is_open(target_of("Down"))


def test_a_probe_that_tells_nothing_changes_nothing(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider._programme = lambda _: answers.error(404)  # type: ignore[method-assign]
    gateway.add_provider(provider, "m", name="Listless")
    breaker.failed(target_of("Listless"), UpstreamRefused("x"))
    before = breaker.pause(target_of("Listless"))
    probes.look()
    assert before - 1 < breaker.pause(target_of("Listless")) <= before


def test_a_limit_is_waited_for_and_a_provider_is_vouched_for_once(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    gateway.add_provider(provider, "m", name="A")
    breaker.failed(target_of("A"), UpstreamLimited("x", retry_after=60))
    probes.look()
    assert lists(provider) == 0
    breaker.clear()
    for _ in range(3):
        breaker.failed(target_of("A"), UpstreamRefused("x"))
        probes.look()
    assert lists(provider) == 1
    assert breaker.is_open(target_of("A"))


def test_the_server_probes_by_itself(gateway: LiveGateway, provider: ScriptedProvider, settings: Settings) -> None:
    settings.PROBE_SECONDS = 0.05
    gateway.add_provider(provider, "m", name="A")
    breaker.failed(target_of("A"), UpstreamRefused("x"))
    probes.stop()
    probes.start()
    deadline = time.monotonic() + 5
    while breaker.is_open(target_of("A")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not breaker.is_open(target_of("A"))
    probes.stop()
    settings.PROBE_SECONDS = 0
    probes.start()
    assert probes._thread is None
