"""The official Python client against the demo provider and a scripted one: what every provider must give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import openai
import pytest

from tests.clients import core
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider


@pytest.fixture(params=["demo", "scripted"])
def model(request: pytest.FixtureRequest, gateway: LiveGateway, provider: ScriptedProvider) -> str:
    if request.param == "demo":
        gateway.add_demo()
        return "demo"
    provider.on("org/capable", core.capable)
    gateway.add_provider(provider, "org/capable")
    return "org/capable"


@pytest.mark.parametrize("sentence", core.CORE, ids=lambda sentence: sentence.__name__)
def test_it(sentence: Callable[[openai.OpenAI, str], None], gateway: LiveGateway, model: str) -> None:
    with gateway.client() as client:
        sentence(client, model)


def test_it_streams_async(gateway: LiveGateway, model: str) -> None:
    asyncio.run(core.streams_async(gateway.async_client(), model))
