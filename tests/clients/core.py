"""What the official Python client must get from any provider behind the gateway: checks of a client and a model."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.answers import Answer, completion, events_of, reply, reply_json, sse, stream, tool_deltas
from tests.support.openai_schema import check_completion, check_model, check_models, check_stream
from tests.support.provider import Recorded

QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


class Person(BaseModel):
    name: str
    age: int


PERSON_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
}


def capable(request: Recorded) -> Answer:
    """A scripted provider that does what a model would: calls the tool, fits the schema, or talks."""
    body = request.json
    if body.get("tools") and body.get("tool_choice") != "none":
        return _tool_answer(body)
    text = ['{"name": "Ada",', ' "age": 36}'] if body.get("response_format") else ["It ", "rains ", "in Oslo."]
    return stream(*text) if body.get("stream") else reply("".join(text))


def _tool_answer(body: dict[str, Any]) -> Answer:
    if body.get("stream"):
        return sse(events_of(tool_deltas("get_weather", ['{"ci', 'ty": "Oslo"}']), finish="tool_calls"))
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    return reply_json(completion(message=message, finish_reason="tool_calls"))


def lists_models(client: openai.OpenAI, model: str) -> None:
    page = client.models.list()
    check_models(page.model_dump())
    assert model in [item.id for item in page.data]
    found = client.models.retrieve(model)
    check_model(found.model_dump())
    assert found.id == model


def chats(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16)
    check_completion(answer.model_dump(exclude_unset=True))
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def streams(client: openai.OpenAI, model: str) -> None:
    """Without `stream_options` usage rides on the finishing chunk; with it, it comes alone."""
    for options in ({}, {"stream_options": {"include_usage": True}}):
        answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, stream=True, **options)
        chunks = [chunk.model_dump(exclude_unset=True) for chunk in answer]
        check_stream(chunks, include_usage=bool(options))
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


async def streams_async(client: openai.AsyncOpenAI, model: str) -> None:
    async with client:
        plain = await client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16)
        assert plain.choices[0].message.content
        chunks = await client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, stream=True)
        text = [c.choices[0].delta.content or "" async for c in chunks if c.choices]
    assert "".join(text)


def calls_a_tool(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, tools=[WEATHER], tool_choice=NAMED)
    check_completion(answer.model_dump(exclude_unset=True))
    _check_call(answer.choices[0].message.tool_calls)


def calls_a_tool_streamed(client: openai.OpenAI, model: str, **options: Any) -> None:
    """The client's own accumulator puts the pieces together."""
    with client.chat.completions.stream(
        model=model, messages=QUESTION, tools=[WEATHER], tool_choice=NAMED, **options
    ) as answer:
        final = answer.get_final_completion()
    _check_call(final.choices[0].message.tool_calls)


def _check_call(calls: Any) -> None:
    assert calls
    (call,) = calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert call.id
    assert isinstance(json.loads(call.function.arguments)["city"], str)


def fits_a_schema(client: openai.OpenAI, model: str) -> None:
    for stream_it in (False, True):
        answer = client.chat.completions.create(
            model=model, messages=QUESTION, response_format=PERSON_FORMAT, max_tokens=400, stream=stream_it
        )
        if stream_it:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        else:
            text = answer.choices[0].message.content
        Person.model_validate_json(text)


def parses(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=QUESTION, response_format=Person, max_tokens=400)
    assert isinstance(answer.choices[0].message.parsed, Person)


def refuses_unknown_models(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=f"{model}-that-is-not", messages=QUESTION)
    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(f"{model}-that-is-not")


def refuses_wrong_keys(client: openai.OpenAI, model: str) -> None:
    stranger = client.with_options(api_key="sk-nobody")
    for ask in (
        lambda: stranger.chat.completions.create(model=model, messages=QUESTION),
        lambda: stranger.chat.completions.create(model=model, messages=QUESTION, stream=True),
        stranger.models.list,
    ):
        with pytest.raises(openai.AuthenticationError) as caught:
            ask()
        assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
        assert "sk-nobody" not in str(caught.value)


CORE = (
    lists_models, chats, streams, calls_a_tool, calls_a_tool_streamed, fits_a_schema, parses, refuses_unknown_models,
    refuses_wrong_keys,
)  # fmt: skip
