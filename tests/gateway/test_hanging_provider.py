"""One provider that hangs holds up no other one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from gateway.breaker import breaker
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

HANGING = 200


@pytest.fixture(autouse=True)
def fresh_breaker() -> None:
    breaker.clear()


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def test_two_hundred_requests_that_hang_leave_another_provider_as_quick_as_ever(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Settings
) -> None:
    settings.MAX_STREAMS_PER_KEY = 0
    assert gateway.key
    provider.on("stuck", answers.silent())
    gateway.add_provider(provider, "stuck", name="Stuck")
    with ScriptedProvider() as well:
        gateway.add_provider(well, "quick", name="Well")
        seconds = asyncio.run(timed_beside_the_stuck(gateway, provider))
    assert len(provider.chats) == HANGING
    assert max(seconds) < 1


async def timed_beside_the_stuck(gateway: LiveGateway, provider: ScriptedProvider) -> list[float]:
    """How long each of 20 requests to the good provider took while the others hung."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.auth(), timeout=30, limits=limits) as client:
        stuck = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body("stuck", stream=bool(number % 2))))
            for number in range(HANGING)
        ]
        await asyncio.to_thread(provider.wait_for, HANGING, 20)
        taken = []
        for number in range(20):
            begun = time.monotonic()
            response = await client.post("/v1/chat/completions", json=body("quick", stream=bool(number % 2)))
            taken.append(time.monotonic() - begun)
            assert response.status_code == 200
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    return taken


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_beyond_its_connections_the_next_provider_is_asked(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Settings, stream: bool
) -> None:
    settings.MAX_CONNECTIONS_PER_PROVIDER = 1
    assert gateway.key
    provider.on("m", answers.silent())
    gateway.add_provider(provider, "m", name="Stuck", connect_timeout=1)
    with ScriptedProvider() as well:
        gateway.add_provider(well, "m", name="Well")
        asyncio.run(beyond(gateway, provider, stream))


async def beyond(gateway: LiveGateway, provider: ScriptedProvider, stream: bool) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.auth(), timeout=30) as client:
        stuck = asyncio.create_task(client.post("/v1/chat/completions", json=body("m")))
        await asyncio.to_thread(provider.wait_for, 1)
        response = await client.post("/v1/chat/completions", json=body("m", stream=stream))
        assert response.headers["x-gateway-attempts"] == "Stuck/m 504, Well/m 200"
        only = await client.post("/v1/chat/completions", json=body("Stuck/m", stream=stream))
        assert (only.status_code, only.json()["error"]["code"]) == (504, "provider_timeout")
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
    assert len(provider.chats) == 1
