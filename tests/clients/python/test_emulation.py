"""The official Python client on models whose tools, JSON and reasoning are the gateway's doing."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from gateway.breaker import breaker
from gateway.models import UsageEvent
from gateway.usage import writer
from tests.clients import core
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_completion, check_stream
from tests.support.provider import Recorded, ScriptedProvider

PLAIN = {"public_id": "plain", "chat": True, "tools": False, "json": False}
HELPED = {**PLAIN, "public_id": "helped", "emulate_tools": True, "emulate_json": True}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
SCHEMA = core.PERSON_FORMAT


def simple(request: Recorded) -> answers.Answer:
    """A model that only writes text, and follows instructions."""
    body = request.json
    assert not {"tools", "tool_choice", "response_format"} & body.keys()
    said = json.dumps(body["messages"])
    text = "It rains."
    if "<tool_call>" in said and "<tool_result name" not in said:
        text = f"I look. {CALL}"
    elif "by this JSON Schema:" in said:
        text = '```json\n{"name": "Ada", "age": 36}\n```'
    return answers.stream(*text) if body.get("stream") else answers.reply(text)


@pytest.fixture
def model(gateway: LiveGateway, provider: ScriptedProvider) -> str:
    provider.on("helped", simple)
    gateway.add_provider(provider, HELPED, PLAIN)
    return "helped"


@pytest.mark.parametrize(
    "sentence",
    [core.chats, core.streams, core.calls_a_tool, core.calls_a_tool_streamed, core.fits_a_schema, core.parses],
    ids=lambda sentence: sentence.__name__,
)
def test_it_does_what_every_provider_must(gateway: LiveGateway, model: str, sentence: Any) -> None:
    with gateway.client() as client:
        sentence(client, model)


def test_calls_are_of_openais_form(gateway: LiveGateway, provider: ScriptedProvider, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "messages": core.QUESTION, "tools": [core.WEATHER]}
    answer = gateway.client().chat.completions.create(**fields)
    check_completion(answer.model_dump(exclude_unset=True))
    message = answer.choices[0].message
    assert (message.content, answer.choices[0].finish_reason) == ("I look.", "tool_calls")
    chunks = [
        chunk.model_dump(exclude_unset=True)
        for chunk in gateway.client().chat.completions.create(**fields, stream=True)
    ]
    check_stream(chunks, include_usage=False)
    # The tool's result ends the round.
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}  # type: ignore[index]
    fields["messages"] = [*core.QUESTION, message.model_dump(exclude_none=True), result]
    assert gateway.client().chat.completions.create(**fields).choices[0].message.content == "It rains."
    assert "<tool_result name=" in json.dumps(provider.requests[-1].json).replace("\\", "")


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"tools": [core.WEATHER]}, "tools"), ({"response_format": {"type": "json_object"}}, "response_format")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_explicit_no_without_help_names_the_parameter(
    gateway: LiveGateway, provider: ScriptedProvider, model: str, fields: Any, param: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client().chat.completions.create(model="plain", messages=core.QUESTION, stream=stream, **fields)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert not provider.requests
    # Another target may know it.
    provider.on("plain", core.capable)
    gateway.add_provider(provider, "plain", name="Able")
    assert gateway.client().chat.completions.create(model="plain", messages=core.QUESTION, **fields).choices


def test_a_caller_may_force_it_or_forbid_it(gateway: LiveGateway, provider: ScriptedProvider, model: str) -> None:
    provider.on("unknown", simple)
    provider.on("able", core.capable)
    gateway.add_provider(provider, "unknown", {"public_id": "able", "tools": True, "emulate_tools": True}, name="More")
    fields: dict[str, Any] = {"messages": core.QUESTION, "tools": [core.WEATHER]}
    client = gateway.client()
    forced = client.chat.completions.create(model="unknown", **fields, extra_body={"tool_emulation": True})
    assert forced.choices[0].message.tool_calls
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, **fields, extra_body={"tool_emulation": False})
    assert caught.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, **fields, extra_body={"tool_emulation": "yes"})
    assert caught.value.param == "tool_emulation"
    # Off where native.
    assert client.chat.completions.create(model="able", **fields).choices[0].message.tool_calls
    assert provider.requests[-1].json["tools"]


@pytest.mark.parametrize("stream", [False, True])
def test_json_that_does_not_fit_is_repaired_once(
    gateway: LiveGateway, provider: ScriptedProvider, model: str, stream: bool
) -> None:
    provider.enqueue(answers.reply('{"name": "Ada"}'), answers.reply('{"name": "Ada", "age": 36}'))
    answer = gateway.client().chat.completions.create(
        model=model, messages=core.QUESTION, response_format=SCHEMA, stream=stream
    )
    if stream:
        chunks = [chunk.model_dump(exclude_unset=True) for chunk in answer]
        check_stream(chunks, include_usage=False)
        text, total = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks), chunks[-1]["usage"]
    else:
        text, total = answer.choices[0].message.content, answer.usage.model_dump()
    assert json.loads(text) == {"name": "Ada", "age": 36}
    # Both attempts were paid for.
    assert total["total_tokens"] == 20
    assert "'age' is a required property" in provider.requests[1].json["messages"][-1]["content"]
    provider.enqueue(answers.reply("no"), answers.reply("still no"))
    with pytest.raises(openai.InternalServerError):
        gateway.client().chat.completions.create(
            model=model, messages=core.QUESTION, response_format=SCHEMA, stream=stream
        )


def test_json_that_was_cut_by_the_limit_is_given_as_it_is(
    gateway: LiveGateway, provider: ScriptedProvider, model: str
) -> None:
    provider.enqueue(answers.reply('{"na', finish_reason="length"))
    answer = gateway.client().chat.completions.create(
        model=model, messages=core.QUESTION, response_format={"type": "json_object"}
    )
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ('{"na', "length")


@pytest.mark.parametrize("stream", [False, True])
def test_think_tags_become_reasoning(gateway: LiveGateway, provider: ScriptedProvider, stream: bool) -> None:
    text = "<think>Oslo is wet.</think>\n\nIt rains."
    provider.on("r1", answers.stream(*text) if stream else answers.reply(text))
    gateway.add_provider(provider, {"public_id": "r1", "think_tags": True})
    answer = gateway.client().chat.completions.create(model="r1", messages=core.QUESTION, stream=stream)
    if stream:
        chunks = [chunk.model_dump(exclude_unset=True) for chunk in answer]
        check_stream(chunks, include_usage=False)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        said = ["".join(delta.get(name) or "" for delta in deltas) for name in ("reasoning_content", "content")]
    else:
        message = answer.choices[0].message
        said = [message.reasoning_content, message.content]
    assert said == ["Oslo is wet.", "It rains."]
    writer.flush()
    assert UsageEvent.objects.get().prompt_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
def test_an_impossible_form_is_paid_once_booked_and_no_fault_of_the_provider(
    gateway: LiveGateway, provider: ScriptedProvider, model: str, stream: bool
) -> None:
    gateway.add_provider(provider, HELPED, name="Second")
    never = {"type": "json_schema", "json_schema": {"name": "never", "schema": {"not": {}}}}
    provider.on("helped", answers.reply("{}"))
    for _ in range(4):
        with pytest.raises(openai.InternalServerError) as caught:
            gateway.client(max_retries=0).chat.completions.create(
                model=model, messages=core.QUESTION, response_format=never, stream=stream
            )
        assert caught.value.status_code == 502
    assert len(provider.requests) == 8
    assert not breaker.suspects()
    writer.flush()
    assert {(row.status, row.prompt_tokens, row.completion_tokens) for row in UsageEvent.objects.all()} == {
        ("error", 14, 6)
    }


def test_a_model_that_gives_json_by_itself_is_asked_after_one_that_does_not(
    gateway: LiveGateway, provider: ScriptedProvider, model: str
) -> None:
    gateway.add_provider(provider, {"public_id": "helped", "upstream_name": "able", "json": True}, name="Second")
    provider.on("helped", answers.reply("no"))
    provider.on("able", answers.reply('{"name": "Ada", "age": 36}'))
    answer = gateway.client().chat.completions.create(model=model, messages=core.QUESTION, response_format=SCHEMA)
    assert json.loads(answer.choices[0].message.content or "")["name"] == "Ada"
    assert answer.usage
    assert answer.usage.total_tokens == 10
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.status, row.provider_name, row.prompt_tokens, row.completion_tokens) == ("ok", "Second", 21, 9)
