"""A provider that nobody here wrote: llama.cpp's server behind the gateway, asked by the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import openai
import pytest

from tests.clients import core
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.engine, pytest.mark.slow]

# The Python server of llama.cpp knows schemas by this older form only, so `json_schema` and `.parse()` are left out.
SCHEMA = {"type": "json_object", "schema": core.PERSON_FORMAT["json_schema"]["schema"]}
SENTENCES = [
    core.lists_models,
    core.chats,
    core.streams,
    core.calls_a_tool,
    core.refuses_unknown_models,
    core.refuses_wrong_keys,
]


@pytest.fixture
def model(gateway: LiveGateway, engine_url: str) -> str:
    row = gateway.add_provider(engine_url, "tiny", name="llama.cpp", credentials=(), auth_style="none")
    return f"{row.name}/tiny"


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.__name__)
def test_it(sentence: Callable[[openai.OpenAI, str], None], gateway: LiveGateway, model: str) -> None:
    with gateway.client() as client:
        sentence(client, "tiny")


def test_it_streams_async(gateway: LiveGateway, model: str) -> None:
    asyncio.run(core.streams_async(gateway.async_client(), model))


def test_it_streams_a_tool_call(gateway: LiveGateway, model: str) -> None:
    """This server repeats the tool's name in every piece, which the client's accumulator would join; we pass it on."""
    pieces = [
        chunk.choices[0].delta.tool_calls[0]
        for chunk in gateway.client().chat.completions.create(
            model=model,
            messages=core.QUESTION,
            tools=[core.WEATHER],
            tool_choice=core.NAMED,
            stream=True,
        )
        if chunk.choices and chunk.choices[0].delta.tool_calls
    ]
    assert pieces[0].function
    assert pieces[0].function.name == "get_weather"
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert isinstance(json.loads(arguments)["city"], str)


@pytest.mark.parametrize("streamed", [False, True])
def test_it_fits_a_schema(gateway: LiveGateway, model: str, streamed: bool) -> None:
    client = gateway.client()
    answer = client.chat.completions.create(
        model=model,
        messages=core.QUESTION,
        response_format=SCHEMA,
        max_tokens=400,
        stream=streamed,  # type: ignore[call-overload]
    )
    if streamed:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    else:
        text = answer.choices[0].message.content
    core.Person.model_validate_json(text)


def test_it_counts_real_tokens(gateway: LiveGateway, model: str) -> None:
    answer = gateway.client().chat.completions.create(model=model, messages=core.QUESTION, max_tokens=5)
    assert answer.usage
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.prompt_tokens > 10


def test_the_command_finds_its_models(engine_url: str, gateway: LiveGateway) -> None:
    """`provider add --sync` is how an operator connects it."""
    from django.core.management import call_command

    call_command("provider", "add", "engine", "--adapter", "openai_chat", "--base-url", engine_url, "--sync")
    gateway.reload()
    assert "tiny" in [item.id for item in gateway.client().models.list().data]
