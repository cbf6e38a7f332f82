"""Ollama behind the gateway: official clients at one end, its own protocol on a socket at the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.models import UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.protocols import PathProvider, lines, ollama, over, said
from tests.support.provider import ScriptedProvider

TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def local() -> Iterator[PathProvider]:
    with ollama() as running:
        yield running


def add(gateway: LiveGateway, local: PathProvider, *models: Any, **fields: Any) -> None:
    models = models or ({"public_id": "m", "upstream_name": "llama3.1:8b", "context_length": 4096},)
    fields = {"name": "Ollama", "adapter": "ollama", "auth_style": "none", "credentials": (), **fields}
    gateway.add_provider(local.base_url, *models, **fields)


def test_a_plain_answer(gateway: LiveGateway, local: PathProvider) -> None:
    add(gateway, local)
    local.enqueue(answers.reply_json({**over(), **said("Hello there", thinking="A greeting."), "done": True}))
    found = gateway.client().chat.completions.create(
        model="m", messages=HI, max_tokens=9, seed=3, reasoning_effort="low", response_format={"type": "json_object"}
    )
    message = found.choices[0].message
    assert message.content == "Hello there"
    assert message.model_extra
    assert message.model_extra["reasoning_content"] == "A greeting."
    assert found.choices[0].finish_reason == "stop"
    assert found.usage
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (7, 3)
    asked = local.chats[0]
    assert asked.header("authorization") is None
    assert asked.json == {
        "model": "llama3.1:8b",
        "messages": HI,
        "stream": False,
        "format": "json",
        "think": "low",
        "options": {"num_predict": 9, "seed": 3, "num_ctx": 4096},
    }


def test_a_stream_with_thoughts_and_tools_and_the_turn_after_it(gateway: LiveGateway, local: PathProvider) -> None:
    add(gateway, local)
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    other = {"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    local.enqueue(
        lines(said("", thinking="Hm"), said("", tool_calls=[call]), said("", tool_calls=[other]), over(), packet=5)
    )
    with gateway.client().chat.completions.stream(
        model="m", messages=HI, tools=[TOOL], stream_options={"include_usage": True}
    ) as stream:
        for _ in stream:
            pass
        found = stream.get_final_completion()
    assert found.usage
    assert found.usage.total_tokens == 10
    assert found.choices[0].finish_reason == "tool_calls"
    calls = found.choices[0].message.tool_calls
    assert calls
    assert [json.loads(made.function.arguments) for made in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    first, second = (made.id for made in calls)
    assert first != second
    local.enqueue(lines(said("Wet."), over()))
    turn: Any = {
        "role": "assistant",
        "tool_calls": [
            {"id": made.id, "type": "function", "function": {"name": made.function.name, "arguments": "{}"}}
            for made in calls
        ],
    }
    results: Any = [{"role": "tool", "tool_call_id": made.id, "content": "rain"} for made in calls]
    chunks = gateway.client().chat.completions.create(model="m", messages=[*HI, turn, *results], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Wet."
    sent = local.chats[1].json["messages"]
    assert [message.get("tool_name") for message in sent] == [None, None, "get_weather", "get_weather"]
    assert [message.get("tool_call_id") for message in sent[2:]] == [first, second]


@pytest.mark.parametrize(
    "ending",
    [({"error": "an error was encountered while running the model"},), (answers.Reset(),), (), ({"hello": 1},)],
    ids=["error", "reset", "cut", "another shape"],
)
def test_what_fails_midway_is_an_error_event_and_not_a_second_answer(
    gateway: LiveGateway, local: PathProvider, provider: ScriptedProvider, ending: Any
) -> None:
    add(gateway, local, "m", priority=1)
    gateway.add_provider(provider, "m", name="Second", priority=2)
    local.enqueue(lines(said("Hel"), said("lo"), *ending))
    texts = []
    with pytest.raises(openai.APIError, match="Ollama"):
        for chunk in gateway.client().chat.completions.create(model="m", messages=HI, stream=True):
            texts.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - it fails on the way
    assert "".join(texts) == "Hello"
    assert not provider.chats


@pytest.mark.parametrize(
    "answer",
    [
        lines({"error": "model runner has unexpectedly stopped"}),
        lines(answers.Reset()),
        lines(),
        answers.reply_json({"error": "server busy"}, status=503),
        answers.reply_json({"error": "model 'm' not found"}, status=404),
        answers.raw(b"[1]"),
        answers.close_before_headers(),
    ],
    ids=["error line", "reset", "nothing", "busy", "not found", "no object", "closed"],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "plain"])
def test_what_fails_before_the_first_word_is_answered_by_another(
    gateway: LiveGateway, local: PathProvider, provider: ScriptedProvider, answer: Any, streamed: bool
) -> None:
    add(gateway, local, "m", priority=1)
    gateway.add_provider(provider, "m", name="Second", priority=2)
    local.enqueue(answer)
    body = {"model": "m", "messages": [{"role": "user", "content": "from the second"}], "stream": streamed}
    response = gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth())
    assert response.status_code == 200
    assert "second" in response.text
    assert "error" not in response.text
    assert (len(local.chats), len(provider.chats)) == (1, 1)


def test_what_it_cannot_say_goes_to_one_who_can_or_is_a_400(
    gateway: LiveGateway, local: PathProvider, provider: ScriptedProvider
) -> None:
    add(gateway, local, "m", priority=1)
    body = {"model": "m", "messages": HI, "logprobs": True}
    response = gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth())
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "logprobs"
    assert response.json()["error"]["code"] == "unsupported_parameter"
    gateway.add_provider(provider, "m", name="Second", priority=2)
    assert gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth()).status_code == 200
    assert not local.chats


def test_its_own_words_for_a_refusal_are_passed_on(gateway: LiveGateway, local: PathProvider) -> None:
    add(gateway, local)
    local.enqueue(answers.reply_json({"error": '"llama3.1:8b" does not support thinking'}, status=400))
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        gateway.client().chat.completions.create(model="m", messages=HI, reasoning_effort="high")


def test_a_caller_who_leaves_stops_it_and_what_was_used_is_booked(gateway: LiveGateway, local: PathProvider) -> None:
    add(gateway, local)
    local.enqueue(lines(said("one "), said("two "), answers.Stall()))
    stream = gateway.client().chat.completions.create(model="m", messages=HI, stream=True)
    assert next(iter(stream)).choices[0].delta.content == "one "
    stream.close()
    assert local.wait_for(1).left.wait(3)
    local.enqueue(lines(said("Hi"), over()))
    assert list(gateway.client().chat.completions.create(model="m", messages=HI, stream=True))
    deadline = time.monotonic() + 3
    while UsageEvent.objects.count() < 2 and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.02)
    rows = {row.status: row for row in UsageEvent.objects.all()}
    assert set(rows) == {"cancelled", "ok"}
    assert (rows["ok"].prompt_tokens, rows["ok"].completion_tokens) == (7, 3)


def test_a_key_of_a_hosted_one_is_sent(gateway: LiveGateway, local: PathProvider) -> None:
    add(gateway, local, auth_style="bearer", credentials=("ollama-cloud-key-123",))
    local.enqueue(lines(said("Hi"), over()))
    assert list(gateway.client().chat.completions.create(model="m", messages=HI, stream=True))
    assert local.chats[0].header("authorization") == "Bearer ollama-cloud-key-123"
