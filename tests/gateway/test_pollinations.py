"""Pollinations behind the gateway, played by a scripted provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway import operations
from gateway.models import Provider, ProviderModel
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.protocols import PathProvider, fixture
from tests.support.provider import ScriptedProvider

HI: Any = [{"role": "user", "content": "hi"}]
KEY = "sk_pollinations_0123456789"


@pytest.fixture
def pollinations() -> Iterator[PathProvider]:
    with PathProvider(lambda path: path == "/v1/chat/completions") as running:
        yield running


def add(gateway: LiveGateway, pollinations: PathProvider, **fields: Any) -> Provider:
    model = {"public_id": "m", "upstream_name": "openai"}
    fields = {"name": "PollinationsAI", "adapter": "pollinations", "credentials": (KEY,), **fields}
    return gateway.add_provider(pollinations.base_url, model, **fields)


def test_pictures_and_thoughts_reach_an_official_client(gateway: LiveGateway, pollinations: PathProvider) -> None:
    add(gateway, pollinations)
    pollinations.enqueue(answers.reply_json(fixture("pollinations/answer.json")))
    found = gateway.client().chat.completions.create(model="m", messages=HI)
    message = found.choices[0].message
    assert message.content == "Here is the plot."
    assert message.model_extra
    assert message.model_extra["reasoning_content"] == "A sine will do."
    assert message.model_extra["images"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert found.usage
    assert found.usage.total_tokens == 30
    asked = pollinations.chats[0]
    assert asked.header("authorization") == f"Bearer {KEY}"
    assert asked.json["private"] is True


def test_speech_has_openais_form(gateway: LiveGateway, pollinations: PathProvider) -> None:
    add(gateway, pollinations)
    pollinations.enqueue(answers.reply_json(fixture("pollinations/audio.json")))
    found = gateway.client().chat.completions.create(
        model="m", messages=HI, modalities=["text", "audio"], audio={"voice": "alloy", "format": "mp3"}
    )
    audio = found.choices[0].message.audio
    assert audio
    assert audio.data == "SUQzBAAAAAAAI1RTU0U="
    assert found.choices[0].message.content == "Hello from here."
    assert pollinations.chats[0].json["audio"] == {"voice": "alloy", "format": "mp3"}


def test_a_stream_with_a_tool(gateway: LiveGateway, pollinations: PathProvider) -> None:
    add(gateway, pollinations)
    data = fixture("pollinations/stream.sse")
    pollinations.enqueue(answers.sse([data], packet=11))
    with gateway.client().chat.completions.stream(model="m", messages=HI) as stream:
        for _ in stream:
            pass
        found = stream.get_final_completion()
    calls = found.choices[0].message.tool_calls
    assert calls
    assert (calls[0].id, calls[0].function.arguments) == ("call_9", '{"a":1}')
    assert found.choices[0].message.content == "Two"
    assert found.usage
    assert found.usage.total_tokens == 14


def test_what_fails_midway_is_an_error_and_what_fails_before_goes_on(
    gateway: LiveGateway, pollinations: PathProvider, provider: ScriptedProvider
) -> None:
    add(gateway, pollinations, priority=1)
    gateway.add_provider(provider, "m", name="Second", priority=2)
    client = gateway.client()
    begun = answers.chunk({"content": "Hel"})
    for ending in ({"error": {"message": "gone", "code": 500}}, answers.Reset(), b"data: [DONE]\n\n"):
        pollinations.enqueue(answers.sse([begun, ending]))
        with pytest.raises(openai.APIError, match="Pollinations"):
            list(client.chat.completions.create(model="m", messages=HI, stream=True))
    assert not provider.chats
    refusal = {"success": False, "error": {"message": "no pollen left", "code": "PAYMENT_REQUIRED"}, "status": 402}
    pollinations.enqueue(answers.reply_json(refusal, status=402), answers.sse([]))
    assert client.chat.completions.create(model="m", messages=HI).choices[0].message.content == "hi"
    assert list(client.chat.completions.create(model="m", messages=HI, stream=True))
    assert len(provider.chats) == 2


def test_a_row_is_synchronised_by_its_list_of_texts(gateway: LiveGateway, pollinations: PathProvider) -> None:
    row = add(gateway, pollinations)
    pollinations.says("/text/models", answers.reply_json(fixture("pollinations/models.json")))
    assert operations.sync_models(row).added == ["openai", "openai-audio", "mistral"]
    assert ProviderModel.objects.get(public_id="openai-audio").audio
    assert operations.test_provider(row)[0].connection
