"""The demo provider answers the same each time and honours what clients exercise."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.adapters import demo
from gateway.adapters.demo import DemoAdapter
from gateway.adapters.samples import sample_of
from gateway.chat import ChatRequest
from gateway.errors import UpstreamRejected
from gateway.events import Event, Finished, TextDelta, ToolCallDelta, Usage
from gateway.targets import Endpoint, Target
from gateway.upstream import upstream

TARGET = Target("demo", 1, "Demo", 1, "demo", "demo", Endpoint("Demo", ""))
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get current weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


def ask(text: str = "Hello", **body: Any) -> list[Event]:
    body = {"messages": [{"role": "user", "content": text}], **body}

    async def collect() -> list[Event]:
        chat = ChatRequest("demo", None, bool(body.get("stream")), False, body)
        return [event async for event in DemoAdapter().answer(upstream, TARGET, chat)]

    return asyncio.run(collect())


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Finished)]


def test_it_says_what_it_is_and_how_to_add_a_provider() -> None:
    events = ask("What now?")
    assert "demo provider" in text_of(events)
    assert "provider add --preset" in text_of(events)
    assert "What now?" in text_of(events)
    assert reasons(events) == ["stop"]
    assert events == ask("What now?")


def test_it_counts_usage() -> None:
    usage = ask("one two three")[-1]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens == 4
    assert usage.completion_tokens > 20


def test_it_ends_at_max_tokens() -> None:
    events = ask(max_tokens=3)
    assert text_of(events) == "This is g4fsite's"
    assert reasons(events) == ["length"]
    assert ask(max_completion_tokens=3) == events


def test_it_ends_before_a_stop_sequence() -> None:
    assert text_of(ask(stop=["demo", "zzz"])) == "This is g4fsite's "
    assert text_of(ask(stop="demo")) == "This is g4fsite's "


def test_it_gives_several_choices() -> None:
    events = ask(n=2, max_tokens=2)
    assert text_of(events, 0) == text_of(events, 1) == "This is"
    assert reasons(events) == ["length", "length"]


def test_it_streams_at_a_readable_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACE_SECONDS", 0)
    assert ask(stream=True) == ask()


def calls(events: list[Event]) -> dict[str, Any]:
    found: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            found.setdefault(event.position, []).append(event.name or event.arguments)
    return {pieces[0]: orjson.loads("".join(pieces[1:])) for pieces in found.values()}


def test_it_calls_a_tool_that_the_question_is_about() -> None:
    events = ask("What's the weather in Paris?", tools=[WEATHER])
    assert calls(events) == {"get_weather": {"location": "Paris"}}
    assert reasons(events) == ["tool_calls"]


def test_it_answers_in_words_when_no_tool_fits_or_none_is_wanted() -> None:
    assert calls(ask("Tell me a joke", tools=[WEATHER])) == {}
    assert calls(ask("weather?", tools=[WEATHER], tool_choice="none")) == {}


def test_a_forced_tool_is_called() -> None:
    assert "get_weather" in calls(ask("joke", tools=[WEATHER], tool_choice="required"))
    forced = {"type": "function", "function": {"name": "get_weather"}}
    assert "get_weather" in calls(ask("joke", tools=[WEATHER], tool_choice=forced))
    with pytest.raises(UpstreamRejected):
        ask("joke", tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "other"}})


def test_one_call_at_a_time_when_asked() -> None:
    second = {"type": "function", "function": {"name": "weather_map"}}
    assert len(calls(ask("weather", tools=[WEATHER, second]))) == 2
    assert len(calls(ask("weather", tools=[WEATHER, second], parallel_tool_calls=False))) == 1


def test_after_a_tools_answer_it_speaks() -> None:
    messages = [
        {"role": "user", "content": "weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "get_weather"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]
    assert "sunny" in text_of(ask(messages=messages, tools=[WEATHER]))


def test_it_answers_in_json_when_asked() -> None:
    assert orjson.loads(text_of(ask(response_format={"type": "json_object"})))["provider"] == "demo"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert orjson.loads(text_of(ask("give me 42", response_format=wanted))) == {"n": 42}
    assert text_of(ask(response_format={"type": "text"})).startswith("This is")


NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["next"],
}
SCHEMAS = [
    {"type": "string", "format": "email", "maxLength": 30},
    {"type": "string", "minLength": 20},
    {"enum": ["a", "b"]},
    {"const": 5},
    {"type": ["null", "number"], "minimum": 3, "exclusiveMaximum": 4},
    {"type": "integer", "minimum": 10, "maximum": 20, "multipleOf": 7},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3},
    {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "maxItems": 2},
    {"anyOf": [{"type": "null"}, {"type": "string"}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"type": "object"}]},
    {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    {"type": "object", "properties": {"child": {"$ref": "#"}, "x": {"type": "boolean"}}, "required": ["x"]},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_sample_fits_its_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator(schema).validate(sample_of(schema, "What is 12.5 of Berlin?"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "type $ref properties items enum anyOf allOf required minItems maxLength default minimum".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "items", "$ref", "allOf"]), anything))
def test_no_schema_breaks_it(schema: dict[str, Any]) -> None:
    orjson.dumps(sample_of(schema, "x"))


def test_a_schema_of_schemas_ends() -> None:
    wide = {"type": "object", "properties": {str(n): {"$ref": "#"} for n in range(100)}, "required": ["1", "2"]}
    assert len(orjson.dumps(sample_of(wide))) < 100_000
