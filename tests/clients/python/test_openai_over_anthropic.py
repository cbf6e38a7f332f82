"""The official OpenAI client over a provider that speaks Anthropic's protocol."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from gateway.models import UsageEvent
from gateway.usage import writer
from tests.clients import core
from tests.clients.core import QUESTION, WEATHER
from tests.support.anthropic_answers import capable, played, refused
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider


@pytest.fixture
def client(gateway: LiveGateway, provider: ScriptedProvider) -> openai.OpenAI:
    provider.on("claude-x", capable)
    gateway.add_provider(provider, {"public_id": "scripted", "upstream_name": "claude-x"}, adapter="anthropic")
    return gateway.client()


def test_it_chats_and_streams(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    core.chats(client, "scripted")
    core.streams(client, "scripted")
    assert [request.path for request in provider.requests] == ["/v1/messages"] * 3


def test_it_calls_tools_and_its_thoughts_go_back_with_the_results(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    fields: dict[str, Any] = {"model": "scripted", "tools": [WEATHER], "reasoning_effort": "low"}
    called = client.chat.completions.create(messages=QUESTION, **fields).choices[0]
    assert called.finish_reason == "tool_calls"
    message: Any = called.message.model_dump(exclude_none=True)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "rain"} for call in message["tool_calls"]]
    client.chat.completions.create(messages=[*QUESTION, message, *results], **fields)
    sent = provider.requests[1].json
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert [block["type"] for block in sent["messages"][1]["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert sent["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "Two cities, two calls.",
        "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h",
    }
    assert [block["type"] for block in sent["messages"][2]["content"]] == ["tool_result", "tool_result"]


def test_a_stream_of_tools_has_pieces_with_a_stable_index(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="scripted", messages=QUESTION, tools=[WEATHER], stream=True))
    pieces = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    whole: dict[int, str] = {}
    for piece in pieces:
        assert piece.function
        whole[piece.index] = whole.get(piece.index, "") + (piece.function.arguments or "")
    assert whole == {0: '{"city":"Oslo"}', 1: "{}"}
    assert [piece.function.name for piece in pieces if piece.id and piece.function] == ["get_weather", "get_time"]


def test_usage_is_booked_with_what_the_cache_gave(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="scripted", messages=QUESTION)
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6197, 503)
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.prompt_tokens, row.cached_tokens, row.reasoning_tokens) == (6197, 2051, 100)


def test_what_cannot_be_said_is_400_or_goes_to_who_can_say_it(
    client: openai.OpenAI, gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(model="scripted", messages=QUESTION, seed=7)
    assert (failure.value.code, failure.value.param) == ("unsupported_parameter", "seed")
    assert provider.requests == []
    with ScriptedProvider() as second:
        gateway.add_provider(second, name="Second")
        answer = client.chat.completions.create(model="scripted", messages=QUESTION, seed=7)
        assert answer.choices[0].message.content == QUESTION[0]["content"]


@pytest.mark.parametrize("streamed", [False, True])
def test_its_errors_are_openais(client: openai.OpenAI, provider: ScriptedProvider, streamed: bool) -> None:
    said = refused(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")
    provider.on("claude-x", said)
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(model="scripted", messages=QUESTION, stream=streamed)
    assert failure.value.code == "context_length_exceeded"
    provider.on("claude-x", played("overloaded") if streamed else refused(529, "overloaded_error"))
    with pytest.raises(openai.InternalServerError) as overloaded:
        client.chat.completions.create(model="scripted", messages=QUESTION, stream=streamed)
    assert (overloaded.value.status_code, overloaded.value.code) == (503, "overloaded")
