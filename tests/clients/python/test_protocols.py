"""The official Python clients over providers of every protocol, each as strict as its real server.

Every answer, chunk and event on the wire is held against OpenAI's description of its API.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest

from tests.clients import core
from tests.clients.conftest import Obliged
from tests.support.dialects import PROTOCOLS, ObligingProvider, embeds
from tests.support.dialects.openai import vector_of
from tests.support.tap import Tap, check_all

# The first one waits for a server to start.
pytestmark = pytest.mark.timeout(120)
QUESTION = "What is the weather in Oslo?"
WEATHER: dict[str, Any] = {"type": "function", "strict": False, **core.WEATHER["function"]}
NAMED: Any = {"type": "function", "name": "get_weather"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(64)).decode()
PICTURE = f"data:image/png;base64,{PNG}"
# What their protocols have no word for.
NO_STOP = ("openai_responses", "copilot")
NO_PICTURES = ("copilot",)
NO_THOUGHTS = ("copilot",)
NO_USAGE = ("copilot",)


@dataclass
class Served:
    """A model that is named as the protocol behind it."""

    client: openai.OpenAI
    model: str
    key: str
    url: str
    provider: ObligingProvider


@pytest.fixture(params=PROTOCOLS)
def served(request: pytest.FixtureRequest, obliged: Obliged) -> Iterator[Served]:
    with Tap(obliged.gateway.url) as tap:
        options: dict[str, Any] = {"base_url": f"{tap.url}/v1", "max_retries": 0, "timeout": 20}
        with openai.OpenAI(api_key=obliged.gateway.key, **options) as client:
            yield Served(client, request.param, obliged.gateway.key, tap.url, obliged.provider)
        checked = check_all(tap)
    assert checked or "messages" in tap.exchanges[0].path


@pytest.mark.parametrize("sentence", core.CORE, ids=lambda sentence: sentence.__name__)
def test_chat(sentence: Callable[[openai.OpenAI, str], None], served: Served) -> None:
    sentence(served.client, served.model)


def test_chat_async(served: Served) -> None:
    client = openai.AsyncOpenAI(api_key=served.key, base_url=f"{served.url}/v1", max_retries=0, timeout=20)
    asyncio.run(core.streams_async(client, served.model))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_result_taken(served: Served, streamed: bool) -> None:
    fields: dict[str, Any] = {"model": served.model, "tools": [core.WEATHER], "parallel_tool_calls": False}
    if streamed:
        with served.client.chat.completions.stream(messages=core.QUESTION, **fields) as stream:
            message = stream.get_final_completion().choices[0].message
    else:
        message = served.client.chat.completions.create(messages=core.QUESTION, **fields).choices[0].message
    (call,) = message.tool_calls or ()
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    # The accumulator's own additions are no part of a message.
    made = {"id": call.id, "type": "function", "function": call.function.model_dump(include={"name", "arguments"})}
    history = [*core.QUESTION, {"role": "assistant", "content": message.content, "tool_calls": [made]}, result]
    answer = served.client.chat.completions.create(messages=history, **fields)
    assert answer.choices[0].message.content == "It is as you say, and so on. Goodbye."
    assert answer.choices[0].finish_reason == "stop"


def test_stop_words_end_an_answer_or_are_refused(served: Served) -> None:
    fields: dict[str, Any] = {"model": served.model, "messages": core.QUESTION, "stop": ["and", "Goodbye"]}
    if served.model in NO_STOP:
        with pytest.raises(openai.BadRequestError) as caught:
            served.client.chat.completions.create(**fields)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "stop")
        return
    answer = served.client.chat.completions.create(**fields)
    assert answer.choices[0].message.content == "It is as you say, "
    streamed = served.client.chat.completions.create(stream=True, **fields)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == "It is as you say, "


@pytest.mark.parametrize("surface", ["chat", "responses", "messages"])
def test_pictures_reach_who_can_see(served: Served, surface: str) -> None:
    if served.model in NO_PICTURES:
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError), match="only text can be sent"):
            seen(served, surface)
    else:
        assert seen(served, surface).startswith("I see 2 of them.")


def seen(served: Served, surface: str) -> str:
    if surface == "chat":
        parts: list[Any] = [{"type": "image_url", "image_url": {"url": PICTURE}}] * 2
        messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "How many?"}, *parts]}]
        answer = served.client.chat.completions.create(model=served.model, messages=messages)
        return answer.choices[0].message.content or ""
    if surface == "responses":
        parts = [{"type": "input_image", "detail": "auto", "image_url": PICTURE}] * 2
        items: Any = [{"role": "user", "content": [{"type": "input_text", "text": "How many?"}, *parts]}]
        return served.client.responses.create(model=served.model, input=items).output_text
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    parts = [{"type": "image", "source": source}] * 2
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "How many?"}]}]
    with claude(served) as client:
        message = client.messages.create(model=served.model, max_tokens=50, messages=messages)
    return "".join(block.text for block in message.content if block.type == "text")


def claude(served: Served) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=served.key, base_url=served.url, max_retries=0, timeout=20)


def test_thoughts_are_told(served: Served) -> None:
    fields: dict[str, Any] = {"model": served.model, "messages": core.QUESTION, "reasoning_effort": "low"}
    plain: Any = served.client.chat.completions.create(**fields).choices[0].message
    chunks: list[Any] = list(served.client.chat.completions.create(stream=True, **fields))
    deltas = [chunk.choices[0].delta.model_dump() for chunk in chunks if chunk.choices]
    told = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    expected = "" if served.model in NO_THOUGHTS else "They want to know, so I tell."
    assert told == (plain.model_dump().get("reasoning_content") or "") == expected


def called(answer: Any) -> Any:
    """The one call of an answer; what signs it may stand before it."""
    (call,) = [item for item in answer.output if item.type != "reasoning"]
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert json.loads(call.arguments) == {"city": "Oslo"}
    return call


def test_responses(served: Served) -> None:
    client, model = served.client, served.model
    first = client.responses.create(model=model, input=QUESTION, tools=[WEATHER], tool_choice=NAMED)
    call = called(first)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "4 degrees"}
    events = list(client.responses.create(model=model, input=[result], previous_response_id=first.id, stream=True))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "It is as you say, and so on. Goodbye."
    assert client.responses.retrieve(last.response.id).output_text == last.response.output_text
    assert client.responses.input_items.list(last.response.id).data
    usage = last.response.usage
    assert usage
    assert (usage.input_tokens, usage.output_tokens) == (7, 3) or model in NO_USAGE
    client.responses.delete(first.id)


def test_responses_streamed_and_parsed(served: Served) -> None:
    client, model = served.client, served.model
    with client.responses.stream(model=model, input=QUESTION, tools=[WEATHER], tool_choice=NAMED) as stream:
        for _ in stream:
            pass
        called(stream.get_final_response())
    answer = client.responses.parse(model=model, input=QUESTION, text_format=core.Person)
    assert isinstance(answer.output_parsed, core.Person)


def test_completions(served: Served) -> None:
    client, model = served.client, served.model
    answer = client.completions.create(model=model, prompt=["one", "two"], max_tokens=20)
    assert [choice.text for choice in answer.choices] == ["It is as you say, and so on. Goodbye."] * 2
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage
    assert answer.usage.total_tokens == 20 or model in NO_USAGE
    options: Any = {"include_usage": True}
    chunks = list(client.completions.create(model=model, prompt="one", echo=True, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices).startswith("oneIt is")
    assert chunks[-1].usage


def test_embeddings(served: Served) -> None:
    ask: dict[str, Any] = {"model": served.model, "input": ["one", "three"]}
    if not embeds(served.model):
        with pytest.raises(openai.BadRequestError) as caught:
            served.client.embeddings.create(**ask)
        assert caught.value.code == "unsupported_operation"
        return
    for form in ("float", "base64", None):
        fields = {**ask, "encoding_format": form} if form else ask
        answer = served.client.embeddings.create(**fields)
        found = [item.embedding for item in answer.data]
        if form == "base64":
            assert all(isinstance(item, str) for item in found)
        else:
            assert found == [vector_of("one"), vector_of("three")]
    short = served.client.embeddings.create(**{**ask, "dimensions": 2})
    assert [len(item.embedding) for item in short.data] == [2, 2]
    assert short.usage.prompt_tokens > 0


TOOL: dict[str, Any] = {
    "name": "get_weather",
    "description": "Current weather of a city",
    "input_schema": WEATHER["parameters"],
}
BODY: dict[str, Any] = {"max_tokens": 200, "messages": [{"role": "user", "content": QUESTION}]}


def test_messages(served: Served) -> None:
    with claude(served) as client:
        plain = client.messages.create(model=served.model, system="Be brief.", **BODY)
        with client.messages.stream(model=served.model, **BODY) as stream:
            text = "".join(stream.text_stream)
            streamed = stream.get_final_message()
        for message in (plain, streamed):
            assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
            assert message.usage.output_tokens > 0
            # What came out of a cache counts apart here.
            read = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
            assert (read, message.usage.output_tokens) == (7, 3) or served.model in NO_USAGE
        assert text == plain.content[0].text == "It is as you say, and so on. Goodbye."  # type: ignore[union-attr]
        counted = client.messages.count_tokens(model=served.model, messages=BODY["messages"])
        assert counted.input_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("choice", ["auto", "any", "tool"])
def test_messages_with_tools(served: Served, choice: str, streamed: bool) -> None:
    named = {"name": "get_weather"} if choice == "tool" else {}
    fields: dict[str, Any] = {**BODY, "tools": [TOOL], "tool_choice": {"type": choice, **named}}
    with claude(served) as client:
        if streamed:
            with client.messages.stream(model=served.model, **fields) as stream:
                message = stream.get_final_message()
        else:
            message = client.messages.create(model=served.model, **fields)
        assert message.stop_reason == "tool_use"
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert (call.name, call.input) == ("get_weather", {"city": "Oslo"})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]}
        fields["messages"] = [
            *BODY["messages"],
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
            {"role": "user", "content": [result]},
        ]
        fields["tool_choice"] = {"type": "auto"}
        final = client.messages.create(model=served.model, **fields)
    assert final.stop_reason == "end_turn"


def test_messages_that_think(served: Served) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 2000}
    fields: dict[str, Any] = {**BODY, "max_tokens": 4000, "thinking": thinking, "model": served.model}
    with claude(served) as client:
        plain = client.messages.create(**fields)
        with client.messages.stream(**fields) as stream:
            streamed = stream.get_final_message()
    for message in (plain, streamed):
        kinds = [block.type for block in message.content]
        assert kinds == (["text"] if served.model in NO_THOUGHTS else ["thinking", "text"])


def test_messages_stop_words(served: Served) -> None:
    fields: dict[str, Any] = {**BODY, "stop_sequences": ["Goodbye"], "model": served.model}
    with claude(served) as client:
        if served.model in NO_STOP:
            with pytest.raises(anthropic.BadRequestError, match="stop"):
                client.messages.create(**fields)
            return
        message = client.messages.create(**fields)
    assert message.content[0].text.strip() == "It is as you say, and so on."  # type: ignore[union-attr]
