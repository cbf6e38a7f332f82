"""The demo provider answers the same each time and honours what clients exercise."""

from __future__ import annotations

import asyncio
import time
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
        if not chat.stream:
            return list(await DemoAdapter().complete(upstream, TARGET, chat))
        return [event async for event in DemoAdapter().stream(upstream, TARGET, chat)]

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


BROKE_IT = [
    {"type": "integer"},
    {"type": ["integer", "null"]},
    {"type": "number"},
    {"type": "integer", "minimum": 1e300},
    {"type": "integer", "exclusiveMinimum": 1e308, "exclusiveMaximum": 1e308},
    {"type": "number", "exclusiveMinimum": 1.7e308},
    {"type": "number", "multipleOf": 5e-324},
    {"type": "integer", "multipleOf": 5e-324},
    {"type": "number", "multipleOf": -1, "minimum": 10**400},
    {"anyOf": [{"$ref": "#"}]},
    {"anyOf": [5]},
    {"type": "array", "minItems": 1, "items": {"$ref": "#"}},
    {"type": "array", "minItems": 100, "items": {"$ref": "#"}},
    {"allOf": [{"$ref": "#"}], "$ref": "#"},
    {"const": 2**70},
    {"enum": [-(2**70)]},
    {"default": [{"a": 2**70}]},
    {"properties": {"a": {"const": 2**70}, "b": {"type": "boolean"}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", BROKE_IT)
@pytest.mark.parametrize("question", ["what is 99999999999999999999999", "9" * 1000, "-1e5 and 1.5"])
def test_a_strange_schema_still_gets_json(schema: dict[str, Any], question: str) -> None:
    assert orjson.dumps(sample_of(schema, question))
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    orjson.loads(text_of(ask(question, response_format=wanted)))
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert "f" in calls(ask(question, tools=[tool], tool_choice="required"))


def test_a_whole_number_keeps_its_lower_limit() -> None:
    assert sample_of({"type": "integer", "minimum": 1.5}) == 2


def square(item: dict[str, Any]) -> dict[str, Any]:
    row = {"type": "array", "minItems": 100, "items": item}
    return {"type": "array", "minItems": 100, "items": row}


def as_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def as_tools(number: int, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tools": [{"function": {"name": f"find_{at}", "parameters": schema, **more}} for at in range(number)]}


def about(length: int) -> str:
    return ("find 1 Anna " * (length // 12 + 1))[:length]


def many(number: int, value: Any) -> dict[str, Any]:
    return {f"p{at}": value for at in range(number)}


LINKED = {"$defs": {"big": {"allOf": [{"properties": many(9000, {})}, {"properties": many(9000, True)}]}}}
HEAVY: dict[str, dict[str, Any]] = {
    "a long reference": as_schema(square({"$ref": "#/" + "a/" * 200_000})),
    "many tools and a long question": {"text": about(500_000), **as_tools(512, {"properties": many(20, {})})},
    "many tools with no word of the question": {"text": "zz " * 160_000, **as_tools(512, {}, description="x y " * 200)},
    "many parts": as_schema(
        {"allOf": [{"properties": {f"a{at}": {}}} for at in range(20_000)], "properties": many(20_000, {})}
    ),
    "many linked properties": as_schema({**LINKED, "properties": many(5000, {"$ref": "#/$defs/big", "a": 1})}),
    "many large answers": {"text": about(100), **as_tools(60, square({"type": "string", "minLength": 10_000}))},
    "a large constant": {"text": about(100), **as_tools(10, {"properties": many(9, {"const": "a " * 4000})}), "n": 8},
    "a constant used often": as_schema(
        {"$defs": {"c": {"const": "a " * 200_000}}, **square({"$ref": "#/$defs/c"})}
    ),
    "a large enum and default": as_schema(
        {"properties": {"a": {"enum": [list(range(90_000))]}, "b": {"default": "b " * 90_000}, "c": {"const": "a"}}}
    ),
    "a long name of a property": as_schema({**square({"$ref": "#/x"}), "x": {"properties": {"n" * 9000: {}}}}),
    "many required": as_schema({**square({"$ref": "#/x"}), "x": {"type": "object", "required": [1] * 200_000}}),
    "many options": as_schema({**square({"$ref": "#/x"}), "x": {"anyOf": [{"type": "null"}, {"a": 1}] * 20_000}}),
    "a long name of a tool": {"text": "b", "tools": [{"function": {"name": "b " * 250_000}}], "n": 8},
    "a large format": as_schema({**square({"$ref": "#/x"}), "x": {"format": [1.5] * 100_000}}),
    "long stops": {"stop": ["a" * 49 + "b" + "a" * 49] * 15 + ["x" * 900_000], **as_schema({"const": "a" * 30_000})},
    "a long answer of a tool": {"messages": [{"role": "tool", "tool_call_id": "1", "content": "a " * 500_000}], "n": 8},
    "a long prompt": {"text": "a " * 500_000, "n": 8},
    "a blank question": {"text": " " * 1_000_000, "n": 8},
}  # fmt: skip


@pytest.mark.parametrize("heavy", HEAVY)
def test_no_request_stalls_it_or_gets_a_huge_answer(heavy: str) -> None:
    body = HEAVY[heavy]
    assert len(orjson.dumps(body)) < 1_100_000
    began = time.process_time()
    events = ask(**body)
    took = time.process_time() - began
    said = [event.text if isinstance(event, TextDelta) else (event.name or "") + event.arguments
            for event in events if isinstance(event, (TextDelta, ToolCallDelta))]  # fmt: skip
    assert took < 1.5
    assert len("".join(said).encode()) <= 270_000
    assert len(events) < 5000


def test_at_most_sixteen_tools_are_called() -> None:
    assert len(calls(ask("find", **as_tools(40, {})))) == 16


def test_a_forced_tool_with_a_very_long_name_is_named_briefly() -> None:
    name = "x" * 5000
    with pytest.raises(UpstreamRejected) as caught:
        ask(tools=[{"function": {"name": name}}], tool_choice={"function": {"name": name}})
    assert len(caught.value.message) < 300


def test_tools_and_choices_share_one_budget() -> None:
    body = as_tools(16, square({"type": "string", "minLength": 100}))
    made = calls(ask("find", **body))
    assert 1 <= len(made) <= 16
    assert len(orjson.dumps(list(made.values()))) <= 33_000


def test_parts_and_references_keep_what_is_nearer() -> None:
    schema = {
        "$defs": {"base": {"properties": {"a": {"const": 1}, "b": {"const": 1}}, "required": ["a"]}},
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"const": 2}, "c": {"const": 2}}}],
        "properties": {"c": {"const": 3}},
    }
    assert sample_of(schema) == {"a": 1, "b": 2, "c": 3}
