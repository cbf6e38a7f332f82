"""Azure OpenAI's two styles of URL, its header, and what only its answers hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from gateway.adapters.openai_events import ChunkEvents
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import Records
from gateway.events import Finished, TextDelta, Usage
from gateway.presets import PresetError, preset_named
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.protocols import PathProvider, fixture, target

HI: Any = [{"role": "user", "content": "hi"}]
KEY = "azure-key-0123456789abcdef"
STYLES = {
    "azure": ({"resource": "acme"}, "/openai/v1/chat/completions"),
    "azuredated": (
        {"resource": "acme", "deployment": "gpt-4.1_eu"},
        "/openai/deployments/gpt-4.1_eu/chat/completions?api-version=2024-10-21",
    ),
}


@pytest.fixture
def azure() -> Iterator[PathProvider]:
    with PathProvider(lambda path: path.endswith("/chat/completions")) as running:
        yield running


def add(gateway: LiveGateway, azure: PathProvider, key: str) -> None:
    """The preset's row, with the scripted peer in the place of the resource's host."""
    preset = preset_named(key)
    path = urlsplit(preset.filled_base_url(STYLES[key][0])).path
    fields = {**preset.provider_fields(), "allow_private": True, "name": preset.name, "credentials": (KEY,)}
    gateway.add_provider(azure.base_url + path, {"public_id": "m", "upstream_name": "gpt-4.1_eu"}, **fields)


@pytest.mark.parametrize("key", STYLES)
def test_path_query_and_header_are_azures(gateway: LiveGateway, azure: PathProvider, key: str) -> None:
    add(gateway, azure, key)
    azure.enqueue(answers.sse([fixture("azure/stream.sse")]), answers.reply("Hello"))
    client = gateway.client()
    chunks = list(
        client.chat.completions.create(model="m", messages=HI, stream=True, stream_options={"include_usage": True})
    )
    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.delta]
    assert "".join(said) == "Hello"
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 11
    assert client.chat.completions.create(model="m", messages=HI).choices[0].message.content == "Hello"
    for asked in azure.chats:
        assert asked.path == STYLES[key][1]
        assert asked.header("api-key") == KEY
        assert asked.header("authorization") is None
        assert asked.json["model"] == "gpt-4.1_eu"


def test_its_content_filter_keeps_its_code(gateway: LiveGateway, azure: PathProvider) -> None:
    add(gateway, azure, "azuredated")
    azure.enqueue(answers.reply_json(fixture("azure/filtered.json"), status=400))
    with pytest.raises(openai.BadRequestError, match="content management policy") as caught:
        gateway.client().chat.completions.create(model="m", messages=HI)
    assert caught.value.code == "content_filter"


def test_its_stream_as_events() -> None:
    at = target("openai_chat")
    found = Records(at, ChunkEvents(at), EventSplitter()).feed(fixture("azure/stream.sse"))
    assert found == [TextDelta("Hel"), TextDelta("lo"), Finished("stop"), Usage(9, 2, 0)]


@pytest.mark.parametrize("value", ["", "a/b", "..", ".", "a?b", "a b", "ä", "a\n", "x" * 65, "%2e"])
def test_a_deployment_cannot_leave_its_place_in_the_path(value: str) -> None:
    with pytest.raises(PresetError, match="part of a path"):
        preset_named("azuredated").filled_base_url({"resource": "acme", "deployment": value})
