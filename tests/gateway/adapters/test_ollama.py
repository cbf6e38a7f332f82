"""Ollama's protocol: what is asked in its words, and its answers as events."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.ollama import OllamaAdapter
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamError, UpstreamLimited
from gateway.events import Finished, MediaOutput, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from tests.support.protocols import chat, fixture, over, read_stream, said, target

ADAPTER = OllamaAdapter()
TARGET = target("ollama", upstream_model="llama3.1:8b")
TEXT = {"type": "text", "text": "a"}
AUDIO = {"type": "input_audio", "input_audio": {"data": "aaaa", "format": "wav"}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def body(**fields: Any) -> dict[str, Any]:
    return dict(ADAPTER.body(TARGET, chat(**fields)))


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_a_whole_request_is_translated() -> None:
    recorded = fixture("ollama/request.json")
    at = target("ollama", upstream_model="llama3.1:8b", context_length=8192)
    assert ADAPTER.body(at, chat(stream=True, **recorded["openai"])) == recorded["ollama"]
    assert ADAPTER.path(at, chat()) == "/api/chat"


def test_what_was_not_said_is_not_sent() -> None:
    assert body() == {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "medium"),
        ({"reasoning_effort": "xhigh"}, "high"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "low"),
        ({"reasoning": {"enabled": False}}, False),
        ({"reasoning": {"max_tokens": 1000}}, True),
        ({"think": True, "reasoning_effort": "none"}, True),
        ({"think": "medium"}, "medium"),
        ({"reasoning": {}}, None),
    ],
)
def test_effort_becomes_think(fields: dict[str, Any], think: Any) -> None:
    assert body(**fields).get("think") == think


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}, {"type": "array"}),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json"),
    ],
)
def test_the_form_of_an_answer(asked: Any, sent: Any) -> None:
    assert body(response_format=asked).get("format") == sent


def test_tools_that_may_not_be_called_are_left_out() -> None:
    assert "tools" not in body(tools=[TOOL], tool_choice="none")
    assert body(tools=[TOOL], tool_choice="auto")["tools"][0]["function"]["name"] == "add"


def test_a_result_without_a_known_call_keeps_the_name_it_brings() -> None:
    messages = [
        {"role": "tool", "tool_call_id": "x", "content": "1"},
        {"role": "tool", "tool_call_id": "x", "name": "add", "content": "2"},
        {"role": "function", "name": "add", "content": "3"},
    ]
    sent = body(messages=messages)["messages"]
    assert [message.get("tool_name") for message in sent] == [None, "add", "add"]
    assert {message["role"] for message in sent} == {"tool"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"reasoning": "high"}, "reasoning"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"think": "very"}, "think"),
        ({"think": {}}, "think"),
        ({"top_k": "many"}, "top_k"),
        ({"keep_alive": True}, "keep_alive"),
        ({"messages": user(TEXT, image("https://x.test/a.png"))}, "messages[0].content[1].image_url.url"),
        ({"messages": user(image("data:image/png,abc"))}, "messages[0].content[0].image_url.url"),
        ({"messages": user(image("data:image/png;base64,%%%"))}, "messages[0].content[0].image_url.url"),
        ({"messages": user(image("data:image/png;base64,"))}, "messages[0].content[0].image_url.url"),
        ({"messages": user(TEXT, AUDIO)}, "messages[0].content[1]"),
        ({"messages": user({"bucket_id": "b"})}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        body(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400


def test_values_that_ask_for_nothing_are_no_fault() -> None:
    neutral = {"n": 1, "logprobs": False, "logit_bias": {}, "modalities": ["text"], "tool_choice": "auto", "user": "u"}
    assert body(**neutral) == body()


@pytest.mark.parametrize("arguments", ["[1]", "{", "3", '{"a":' * 300 + "1" + "}" * 300])
def test_arguments_that_are_no_object_are_named(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": arguments}}
    with pytest.raises(UnsupportedParameter) as caught:
        body(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert caught.value.param == "messages[0].tool_calls[0].function.arguments"


def test_a_part_is_named_by_its_place_in_the_content() -> None:
    message = {
        "role": "assistant",
        "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
        "content": [{"type": "refusal", "refusal": "No."}, image("https://x.test/a.png")],
    }
    with pytest.raises(UnsupportedParameter) as caught:
        body(messages=[message])
    assert caught.value.param == "messages[0].content[1].image_url.url"


def test_a_plain_answer_becomes_events() -> None:
    thought, text, call, usage, end = ADAPTER.answer(TARGET, fixture("ollama/answer.json"))
    assert (thought, text) == (ReasoningDelta("The tool said 11."), TextDelta("11 degrees."))
    assert isinstance(call, ToolCallDelta)
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Toronto", "days": 2}
    assert (usage, end) == (Usage(11, 18), Finished("tool_calls"))


@pytest.mark.parametrize("packet", [0, 1, 7, 100])
def test_a_stream_becomes_events(packet: int) -> None:
    events = read_stream(ADAPTER, TARGET, fixture("ollama/stream.ndjson"), packet)
    first, second = (event for event in events if isinstance(event, ToolCallDelta))
    assert [event for event in events if not isinstance(event, ToolCallDelta)] == [
        ReasoningDelta("The user"),
        ReasoningDelta(" greets."),
        TextDelta("Good "),
        TextDelta("day."),
        Usage(26, 282),
        Finished("tool_calls"),
    ]
    assert (first.position, first.name, first.arguments) == (0, "get_weather", '{"city":"Tokyo"}')
    assert first.id
    assert first.id.startswith("call_")
    assert second == ToolCallDelta(1, "call_given", "get_time", "{}")


@pytest.mark.parametrize(
    ("reason", "finish"), [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop"), (7, "stop")]
)
def test_why_it_ended(reason: Any, finish: str) -> None:
    assert ADAPTER.answer(TARGET, over(reason))[-1] == Finished(finish)


def test_a_picture_that_was_made_is_passed_on() -> None:
    picture = base64.b64encode(b"\xff\xd8\xff\xe0rest").decode()
    assert ADAPTER.answer(TARGET, over(message={"images": [picture, 3]}))[0] == MediaOutput("image/jpeg", picture)


def test_without_counts_no_usage_is_invented() -> None:
    events = ADAPTER.answer(TARGET, over(prompt_eval_count=None, eval_count="3"))
    assert events == [Finished("stop")]


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"message": None}, {"message": []}, {"done": False, "message": {}}, {"error": "no"}, {"error": {"code": 1}},
        over(message={"tool_calls": [3]}), over(message={"tool_calls": 3}), over(message={"tool_calls": [{}]}),
        over(message={"tool_calls": [{"function": {"name": 4}}]}), over(message={"tool_calls": [{"function": []}]}),
        over(message={"images": 4}),
    ],
)  # fmt: skip
def test_an_answer_of_another_shape_is_the_providers_failure(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamBroken):
        ADAPTER.answer(TARGET, answer)


def test_an_error_is_one_whatever_else_its_line_says() -> None:
    with pytest.raises(UpstreamBroken, match="reported an error"):
        read_stream(ADAPTER, TARGET, orjson.dumps(over(error="the runner stopped")) + b"\n")
    with pytest.raises(UpstreamLimited):
        ADAPTER.answer(TARGET, over(error={"code": "429"}))


def test_a_stream_without_its_end_is_broken() -> None:
    with pytest.raises(UpstreamBroken, match="broke off"):
        read_stream(ADAPTER, TARGET, orjson.dumps(said("Hel")) + b"\n")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["message", "content", "thinking", "tool_calls", "function", "name", "arguments", "done"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_read_or_is_the_providers_failure(sent: Any) -> None:
    data = orjson.dumps(sent)
    with contextlib.suppress(UpstreamError):
        read_stream(ADAPTER, TARGET, data + b"\n" + data)
    if isinstance(sent, dict):
        with contextlib.suppress(UpstreamError):
            ADAPTER.answer(TARGET, sent)


NAMES = st.sampled_from(["add", "get_weather", "x"])
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.text(max_size=4) | st.none(), max_size=3)
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS), min_size=0, max_size=3)


@given(st.text(max_size=20), st.text(max_size=20), CALLS)
@settings(max_examples=100, deadline=None)
def test_a_turn_survives_the_way_there_and_back(text: str, thought: str, calls: list[tuple[str, Any]]) -> None:
    """What is sent as an assistant's turn, if the provider says it again, is the same turn."""
    made = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(given_)}}
        for n, (name, given_) in enumerate(calls)
    ]
    turn = {
        "role": "assistant",
        "content": text,
        "tool_calls": made,
        "reasoning_details": [{"type": "reasoning.text", "text": thought}],
    }
    sent = body(messages=[turn])["messages"][0]
    events = ADAPTER.answer(TARGET, over(message=json.loads(orjson.dumps(sent))))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == thought
    back = [(event.id, event.name, event.arguments) for event in events if isinstance(event, ToolCallDelta)]
    assert [(call, name, json.loads(given_)) for call, name, given_ in back] == [
        (f"call_{n}", name, given_) for n, (name, given_) in enumerate(calls)
    ]
