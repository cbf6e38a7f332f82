"""Limits of a model at a provider: shared by all callers, and passed by where another model has room."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from gateway.breaker import breaker
from gateway.models import ProviderModel, UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def alone(settings: Settings) -> None:
    settings.REDIS_URL = ""
    breaker.clear()


def ask(gateway: LiveGateway, key: str = "", **more: Any) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json={**ASK, **more}, headers=gateway.auth(key or None))


@both
def test_a_full_model_is_passed_by_and_then_all_are_full(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, stream: bool
) -> None:
    gateway.add_provider(provider, {"public_id": "m", "requests_per_minute": 2}, name="A")
    gateway.add_provider(provider, {"public_id": "m", "requests_per_minute": 1}, name="B")
    keys = [gateway.make_key(alice), gateway.key]
    found = [ask(gateway, keys[number % 2], stream=stream) for number in range(4)]
    assert [response.status_code for response in found] == [200, 200, 200, 429]
    assert [response.headers["x-ratelimit-limit-requests"] for response in found] == ["2", "2", "1", "2"]
    error = found[-1].json()["error"]
    assert (error["code"], "of this model is reached" in error["message"]) == ("rate_limit_exceeded", True)
    assert len(provider.chats) == 3
    writer.flush()
    names = UsageEvent.objects.order_by("created_at").values_list("provider_name", flat=True)
    assert list(names) == ["A", "A", "B"]


def test_tokens_of_a_model_are_settled_with_what_was_used(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    provider.on("m", answers.reply("x", usage=usage))
    gateway.add_provider(provider, {"public_id": "m", "tokens_per_minute": 150})
    assert ask(gateway).status_code == 200
    assert ask(gateway).headers["x-ratelimit-remaining-tokens"] == "49"
    assert ask(gateway).status_code == 429


def test_a_request_larger_than_one_models_limit_goes_to_another(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    gateway.add_provider(provider, {"public_id": "m", "tokens_per_minute": 10}, name="Small")
    gateway.add_provider(provider, "m", name="Large")
    assert ask(gateway, max_tokens=100).json()["provider"] == "Large"
    assert ask(gateway, model="Small/m", max_tokens=100).headers["x-should-retry"] == "false"


def test_a_keys_own_limit_is_not_passed_by(gateway: LiveGateway, provider: ScriptedProvider, alice: User) -> None:
    key = gateway.make_key(alice, requests_per_minute=1)
    gateway.add_provider(provider, {"public_id": "m", "requests_per_minute": 5}, name="A")
    gateway.add_provider(provider, "m", name="B")
    assert ask(gateway, key).status_code == 200
    assert "of this API key" in ask(gateway, key).json()["error"]["message"]
    assert ProviderModel.objects.count() == 2
