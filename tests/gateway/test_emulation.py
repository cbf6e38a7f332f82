"""What the gateway does for models that cannot: the pieces by themselves, wherever a stream is cut."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.answer_schema import CHECK_SECONDS, Check
from gateway.chat import AnswerFormat, ChatRequest
from gateway.errors import UpstreamRejected
from gateway.events import Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from gateway.prompted_tools import ToolFilter, with_tools
from gateway.schema_bounds import bounded
from gateway.think_tags import ThinkFilter

WEATHER = {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": {}}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
OSLO = ("weather", {"city": "Oslo"})


def chat(**body: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER], **body}
    return ChatRequest("m", None, True, False, body)


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


def through(filtering: Any, pieces: list[str]) -> list[Event]:
    events = [*(TextDelta(piece) for piece in pieces), Finished("stop")]
    return [passed for event in events for passed in filtering.take(event)]


def told(events: list[Event]) -> tuple[str, str, list[tuple[str, Any]], str]:
    """Text, reasoning, calls and the reason."""
    calls = [(event.name, orjson.loads(event.arguments)) for event in events if isinstance(event, ToolCallDelta)]
    return (
        "".join(event.text for event in events if isinstance(event, TextDelta)),
        "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        calls,  # type: ignore[return-value]
        next(event.reason for event in events if isinstance(event, Finished)),
    )


THOUGHTS = [
    ("<think>why</think>\n\nbecause", "because", "why"),
    ("\n<think>\nwhy</think>", "", "\nwhy"),
    ("<think>never ended </thi", "", "never ended </thi"),
    ("plain", "plain", ""),
    ("<thin", "<thin", ""),
    ("<b>bold</b>", "<b>bold</b>", ""),
    ("The tag <think>x</think> is text here", "The tag <think>x</think> is text here", ""),
    ("", "", ""),
]
ANSWERS = [
    (CALL, "", [OSLO]),
    (f"I look.\n{CALL}", "I look.", [OSLO]),
    (f"{CALL}\n{CALL}", "", [OSLO, OSLO]),
    (f"{CALL}<tool_result>invented</tool_result>", "", [OSLO]),
    (CALL.removesuffix("</tool_call>"), "", [OSLO]),
    ('{"name": "weather", "arguments": {"city": "Oslo"}}', "", [OSLO]),
    ('```json\n{"tool_calls": [{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}]}\n```', "", [OSLO]),
    ('<tool_call>{"function": {"name": "weather", "parameters": {"city": "Oslo"}}}</tool_call>', "", [OSLO]),
    ('<tool_call>{"name": "other"}</tool_call>!', '<tool_call>{"name": "other"}</tool_call>!', []),
    ("<tool_call>nonsense", "<tool_call>nonsense", []),
    ('{"rain": true}', '{"rain": true}', []),
    ("```python\nprint()\n```", "```python\nprint()\n```", []),
    ("```js", "```js", []),
    ("It rains <tool", "It rains <tool", []),
    ('<tool_call>{"name": "weather"}</tool_call>', "", [("weather", {})]),
    ('<tool_call>{"name": "weather", "arguments": [1]}</tool_call>', None, []),
    ("", "", []),
]


@given(st.sampled_from(THOUGHTS), st.lists(st.integers(0, 200)))
def test_thoughts_are_told_from_text_wherever_they_are_cut(case: tuple[str, str, str], places: list[int]) -> None:
    whole, text, reasoning = case
    assert told(through(ThinkFilter(), cut(whole, places)))[:2] == (text, reasoning)


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200)))
def test_calls_are_told_from_text_wherever_they_are_cut(case: tuple[Any, Any, Any], places: list[int]) -> None:
    whole, text, calls = case
    found = told(through(ToolFilter(chat()), cut(whole, places)))
    assert found[0] == (whole if text is None else text)
    assert found[2] == calls
    assert found[3] == ("tool_calls" if calls else "stop")


@given(st.text(alphabet="<>/tool_callthink{}[]`\"' \nab"), st.lists(st.integers(0, 200)))
@settings(max_examples=300)
def test_no_text_is_lost_or_made_up(text: str, places: list[int]) -> None:
    assert told(through(ToolFilter(chat()), cut(text, places)))[0] == text
    found = told(through(ThinkFilter(), cut(text, places)))
    assert found[0].strip() + found[1].strip() == text.strip() or "think>" in text


def test_what_cannot_be_a_call_is_not_held_back() -> None:
    filtering = ToolFilter(chat())
    assert list(filtering.take(TextDelta("It "))) == [TextDelta("It ")]
    assert list(filtering.take(TextDelta("rains <"))) == [TextDelta("rains ")]
    assert list(filtering.take(TextDelta("b>"))) == [TextDelta("<b>")]


def test_the_lines_before_a_call_are_nobodys_also_when_they_come_alone() -> None:
    assert told(through(ToolFilter(chat()), ["I look.", "\n\n", CALL]))[:1] == ("I look.",)
    assert told(through(ToolFilter(chat()), ["I look.", "\n\n", "No."]))[:1] == ("I look.\n\nNo.",)


def test_ids_are_ours_and_differ() -> None:
    events = through(ToolFilter(chat()), [CALL, CALL])
    ids = [event.id for event in events if isinstance(event, ToolCallDelta)]
    assert len(set(ids)) == 2
    assert all(str(found).startswith("call_") for found in ids)
    positions = [event.position for event in events if isinstance(event, ToolCallDelta)]
    assert positions == [0, 1]


def test_the_choice_of_a_tool_is_respected() -> None:
    def calls(text: str, **body: Any) -> Any:
        return told(through(ToolFilter(chat(**body)), [text]))[2]

    named = {"type": "function", "function": {"name": "weather"}}
    assert calls(CALL, tool_choice="none") == []
    assert calls(CALL + CALL, parallel_tool_calls=False) == [OSLO]
    assert calls('{"city": "Oslo"}', tool_choice=named) == [OSLO]
    assert calls(CALL, tool_choice={"type": "function", "function": {"name": "other"}}) == []
    assert "weather" not in str(with_tools(chat(tool_choice="none")))
    assert "You must call the tool weather" in str(with_tools(chat(tool_choice=named)))
    assert "You must call a tool" in str(with_tools(chat(tool_choice="required")))


def test_what_was_called_and_returned_becomes_text() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "no"}], "is_error": True},
        {"role": "user", "content": "and?"},
    ]
    body = with_tools(chat(messages=messages, tool_choice="auto", parallel_tool_calls=True, temperature=1))
    system, user, assistant, results, last = body["messages"]
    assert system["content"][0]["text"] == "Be kind."
    assert '"weather"' in system["content"][1]["text"]
    assert assistant == {"role": "assistant", "content": f"I look.\n{CALL}"}
    assert results["role"] == "user"
    assert results["content"] == (
        '<tool_result name="weather">\nrain\n</tool_result>\n<tool_result error="true">\nno\n</tool_result>'
    )
    assert (user["content"], last["content"]) == ("hi", "and?")
    assert body.keys() == {"messages", "temperature"}


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "pattern": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"name": "Ada"}', True),
        ('```json\n{"name": "Ada", "pattern": 1}\n```', True),
        ('{"name": 1}', False),
        ('{"name": "Ada", "more": 1}', False),
        ("Here you are: {}", False),
        ("", False),
        ("[]", False),
    ],
)
def test_answers_are_checked_by_their_schema(text: str, fits: bool) -> None:
    found, fault = Check(AnswerFormat("json_schema", "person", PERSON)).read(text)
    assert (not fault) is fits
    if fits:
        assert orjson.loads(found)["name"] == "Ada"


def test_expressions_of_callers_are_not_run() -> None:
    evil = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "patternProperties": {}}
    assert "^(a+)+$" not in str(bounded(evil))
    assert bounded(PERSON) == PERSON
    text = orjson.dumps({"a": "a" * 40 + "!"}).decode()
    assert Check(AnswerFormat("json_schema", "x", evil)).read(text)[1] == ""


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "#/$defs/no"}])
def test_a_schema_that_cannot_be_used_names_its_parameter(schema: Any) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        Check(AnswerFormat("json_schema", "x", schema)).read("{}")
    assert caught.value.param == "response_format.json_schema.schema"


def doubling(levels: int) -> dict[str, Any]:
    """Each definition refers to the next one twice."""
    two = [{"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(levels)]
    return {"$ref": "#/$defs/d0", "$defs": {f"d{at}": part for at, part in enumerate([*two, {"type": "object"}])}}


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{}] * 33_000},
        {"type": [1, "a"] * 10_000},
        doubling(31),
        {"anyOf": [{"type": "string"}, {"$ref": "#"}]},
        {"properties": {"a": doubling(0) | {"$ref": "#/$defs/no"}}},
        {"allOf": [{"$id": "http://a.example/b", "allOf": [{"$ref": "#"}]}]},
    ],
)
def test_a_schema_that_would_cost_too_much_is_refused_at_once(schema: Any) -> None:
    began = time.monotonic()
    with pytest.raises(UpstreamRejected) as caught:
        Check(AnswerFormat("json_schema", "x", schema))
    assert time.monotonic() - began < 2
    assert (caught.value.status, caught.value.param) == (400, "response_format.json_schema.schema")


def test_schemas_of_recursive_data_are_taken() -> None:
    node = {"type": "object", "properties": {"left": {"$ref": "#/$defs/n"}, "right": {"$ref": "#/$defs/n"}}}
    check = Check(AnswerFormat("json_schema", "x", {"$ref": "#/$defs/n", "$defs": {"n": node}}))
    assert check.read('{"left": {"left": {}, "right": {}}}')[1] == ""
    assert "is not of type" in check.read('{"left": {"left": 1}}')[1]


def test_a_check_ends_in_time_whatever_the_answer_makes_of_the_schema() -> None:
    """Two ways into each level of the answer: small by itself, endless for a deep answer."""
    again = {"properties": {"a": {"$ref": "#"}}}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "allOf": [again, again], "required": ["b"]}
    deep = '{"a":' * 40 + "{}" + "}" * 40
    began = time.monotonic()
    with pytest.raises(UpstreamRejected, match="too long"):
        Check(AnswerFormat("json_schema", "x", {**schema, "required": []})).read(deep)
    assert time.monotonic() - began < CHECK_SECONDS + 3


def test_items_are_told_apart_without_comparing_each_with_each() -> None:
    check = Check(AnswerFormat("json_schema", "x", {"uniqueItems": True}))
    assert check.read("[1, true, 0, false, {}, [], null]")[1] == ""
    assert "unique" in check.read('[{"a": 1}, {"a": 1.0}]')[1]
    many = orjson.dumps([each for at in range(20_000) for each in (at, str(at))]).decode()
    began = time.monotonic()
    assert check.read(many)[1] == ""
    assert time.monotonic() - began < 2


def test_an_endless_answer_is_not_checked() -> None:
    check = Check(AnswerFormat("json_schema", "x", {}))
    assert "longer" in check.read(f'"{"x" * 1_000_001}"')[1]
    assert "deep" in Check(AnswerFormat("json_schema", "x", {"items": {"$ref": "#"}})).read("[" * 900 + "]" * 900)[1]


@pytest.mark.parametrize(
    "schema",
    [
        {"default": {"pattern": "^(a+)+$"}, "$ref": "#/default"},
        {"x": {"properties": {"pattern": "^(a+)+$"}}, "$ref": "#/x/properties"},
        {"examples": [{"patternProperties": {"^(a+)+$": False}}], "$ref": "#/examples/0"},
    ],
)
def test_no_expression_of_a_callers_runs_wherever_it_is_hidden(schema: dict[str, Any]) -> None:
    begun = time.process_time()
    check = Check(AnswerFormat("json_schema", "x", schema))
    for value in ("a" * 60 + "!", {"a" * 60 + "!": 1}):
        assert check.read(orjson.dumps(value).decode())[1] == ""
    assert time.process_time() - begun < 2


def test_no_part_of_a_schema_may_change_the_draft() -> None:
    hidden = {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "^(a+)+$"}
    with pytest.raises(UpstreamRejected, match="itself"):
        Check(AnswerFormat("json_schema", "x", {"default": hidden, "$ref": "#/default"}))
    assert Check(AnswerFormat("json_schema", "x", {"$schema": "https://json-schema.org/draft/2020-12/schema"}))
