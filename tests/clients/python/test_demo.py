"""The embedded demo provider: deterministic, honest about itself, and enough to try any client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.clients.core import QUESTION, WEATHER
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider


@pytest.fixture
def client(gateway: LiveGateway) -> openai.OpenAI:
    gateway.add_demo()
    return gateway.client()


def say(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "demo", "messages": QUESTION, **fields})


def test_it_says_what_it_is_and_how_to_add_a_provider(client: openai.OpenAI) -> None:
    answer = say(client)
    text = answer.choices[0].message.content
    assert "demo" in text.lower()
    assert "provider add" in text
    assert "demo" in str(answer.model_extra["provider"]).lower()


def test_it_answers_the_same_each_time_streamed_or_not(client: openai.OpenAI) -> None:
    first, second = say(client), say(client)
    streamed = list(say(client, stream=True))
    text = first.choices[0].message.content
    assert text == second.choices[0].message.content
    assert text == "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert len(streamed) > 10
    assert first.usage == second.usage == streamed[-1].usage


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("streamed", [False, True])
def test_it_honours_limits(client: openai.OpenAI, field: str, streamed: bool) -> None:
    answer = say(client, **{field: 3}, stream=streamed)
    end = list(answer)[-1] if streamed else answer
    assert end.choices[0].finish_reason == "length"
    assert end.usage.completion_tokens == 3


@pytest.mark.parametrize("stop", ["provider", ["zebra", "provider"]])
def test_it_stops_before_stop_sequences(client: openai.OpenAI, stop: Any) -> None:
    whole = say(client).choices[0].message.content
    answer = say(client, stop=stop).choices[0]
    assert answer.message.content == whole[: whole.index("provider")]
    assert answer.finish_reason == "stop"


def test_it_gives_several_choices(client: openai.OpenAI) -> None:
    assert [choice.index for choice in say(client, n=3, max_tokens=2).choices] == [0, 1, 2]
    streamed = [choice for chunk in say(client, n=2, max_tokens=2, stream=True) for choice in chunk.choices]
    assert {choice.index for choice in streamed if choice.finish_reason} == {0, 1}


@pytest.mark.parametrize(("choice", "calls"), [("none", 0), ("auto", 1), ("required", 1), (None, 1)])
def test_it_chooses_tools_as_told(client: openai.OpenAI, choice: str | None, calls: int) -> None:
    fields = {"tool_choice": choice} if choice else {}
    answer = say(client, tools=[WEATHER], **fields).choices[0]
    assert len(answer.message.tool_calls or []) == calls
    assert answer.finish_reason == ("tool_calls" if calls else "stop")


def test_it_uses_what_a_tool_answered(client: openai.OpenAI) -> None:
    called = say(client, tools=[WEATHER]).choices[0].message
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "12 degrees and rain"}
    final = say(client, tools=[WEATHER], messages=[*QUESTION, called, result]).choices[0]
    assert "12 degrees and rain" in final.message.content
    assert final.finish_reason == "stop"


def test_it_gives_json_when_asked(client: openai.OpenAI) -> None:
    assert isinstance(json.loads(say(client, response_format={"type": "json_object"}).choices[0].message.content), dict)


def test_it_never_takes_unknown_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        say(client, model="gpt-4o")


def test_it_is_the_default_only_while_alone(
    client: openai.OpenAI, gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    for model in ("default", ""):
        assert "demo" in say(client, model=model).choices[0].message.content.lower()
    gateway.add_provider(provider, default_model="scripted")
    assert say(client, model="default").choices[0].message.content == QUESTION[0]["content"]
    assert "demo" in say(client, model="demo").choices[0].message.content.lower()
