"""What a request for a response may hold, what is said of it in chat's words, and what is refused by name."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat import Preferences
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import CHECKS
from gateway.surfaces.responses import parser
from gateway.surfaces.responses.items import messages_of, resolved, with_ids
from gateway.surfaces.responses.parser import ResponsesRequest, parse_response
from tests.support.openai_schema import check_items

WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
PING = {"type": "function", "name": "ping", "description": "Pings", "strict": True}


def parsed(**fields: Any) -> ResponsesRequest:
    return parse_response(orjson.dumps({"model": "m", "input": "hi", **fields}))


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    return caught.value


def test_a_text_is_a_users_message() -> None:
    assert parsed().body == {"messages": [{"role": "user", "content": "hi"}]}


def test_fields_are_said_in_chats_words() -> None:
    body = parsed(
        instructions="Be brief.",
        max_output_tokens=9,
        temperature=0.5,
        reasoning={"effort": "low", "summary": "auto"},
        text={
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            "verbosity": "low",
        },
        tools=[WEATHER, PING],
        tool_choice={"type": "function", "name": "ping"},
        parallel_tool_calls=False,
        metadata={"a": "b"},
        store=True,
        top_k=4,
        user=None,
    ).body
    assert body == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "tools": [
            {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "ping", "description": "Pings", "strict": True}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "ping"}},
        "parallel_tool_calls": False,
        "top_k": 4,
    }


def test_of_tools_that_are_not_there_nothing_is_said() -> None:
    assert set(parsed(tool_choice="auto", parallel_tool_calls=True, tools=[]).body) == {"messages"}


def test_tools_that_are_not_allowed_are_left_out() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "ping"}]}
    body = parsed(tools=[WEATHER, PING], tool_choice=choice).body
    assert ([tool["function"]["name"] for tool in body["tools"]], body["tool_choice"]) == (["ping"], "required")


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
CALL2 = {**CALL, "call_id": "c2"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "4"}
OUTPUT2 = {**OUTPUT, "call_id": "c2"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "g",
}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
ASKED = {"role": "user", "content": "q"}


def call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def tool(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "4"}


CALLS = [call("c1"), call("c2")]
PICTURE = {"type": "input_image", "image_url": "data:,"}
SIGNED = [{"type": "reasoning.text", "text": "hm", "signature": "g"}]


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([ASKED, SAID], [ASKED, {"role": "assistant", "content": "a"}]),
        ([SAID, SAID], [{"role": "assistant", "content": "a"}] * 2),
        (
            [THOUGHT, SAID, CALL, CALL2, OUTPUT, OUTPUT2],
            [
                {"role": "assistant", "content": "a", "reasoning_details": SIGNED, "tool_calls": CALLS},
                tool("c1"),
                tool("c2"),
            ],
        ),
        (
            [CALL, SAID, THOUGHT, CALL2, OUTPUT, OUTPUT2],
            [
                {"role": "assistant", "content": "a", "tool_calls": CALLS, "reasoning_details": SIGNED},
                tool("c1"),
                tool("c2"),
            ],
        ),
        (
            [CALL, OUTPUT, CALL2, OUTPUT2],
            [
                {"role": "assistant", "content": None, "tool_calls": [call("c1")]},
                tool("c1"),
                {"role": "assistant", "content": None, "tool_calls": [call("c2")]},
                tool("c2"),
            ],
        ),
        ([{"type": "reasoning", "summary": []}, ASKED], [ASKED]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "q"}, PICTURE]}],
            [{"role": "user", "content": [{"type": "text", "text": "q"},
                                          {"type": "image_url", "image_url": {"url": "data:,", "detail": "auto"}}]}],
        ),
        (
            [{"role": "user", "content": [{"type": "input_file", "file_data": "data:,x", "filename": "a"}]}],
            [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:,x", "filename": "a"}}]}],
        ),
    ],
)  # fmt: skip
def test_items_become_messages_in_which_calls_and_results_stay_together(items: Any, messages: Any) -> None:
    assert parsed(input=items).body["messages"] == messages


@pytest.mark.parametrize(("messages", "parts"), [(20, 2000), (1999, 20)])
@pytest.mark.parametrize("kind", ["text", "refusal"])
def test_a_turn_of_many_pieces_is_joined_in_one_go(kind: str, messages: int, parts: int) -> None:
    """4 MB in pieces of 100 bytes; joined piece by piece they hold up the loop for half a minute."""
    part = {"type": "output_text" if kind == "text" else kind, kind: "x" * 100}
    items = parsed(input=[CALL, *[{"role": "assistant", "content": [part] * parts}] * messages]).asked.items
    begun = time.process_time()
    (turn,) = messages_of(None, items)
    assert time.process_time() - begun < 1
    assert len(turn["content" if kind == "text" else kind]) == 100 * messages * parts


def test_items_are_kept_as_openai_lists_them() -> None:
    items = with_ids(parsed(input=[ASKED, THOUGHT, SAID, CALL, OUTPUT]).asked.items, "0" * 48)
    check_items({"object": "list", "data": items, "first_id": "a", "last_id": "b", "has_more": False})
    assert len({item["id"] for item in items}) == 5


def test_a_reference_stands_for_a_stored_item() -> None:
    items = parsed(input=[{"type": "item_reference", "id": "x"}, {"id": "y"}]).asked.items
    assert resolved(items, {"x": {**CALL, "id": "x"}, "y": {**OUTPUT, "id": "y"}}) == [CALL, OUTPUT]
    with pytest.raises(BadRequest) as caught:
        resolved(items, {"x": CALL})
    assert (caught.value.code, caught.value.param) == ("item_not_found", "input[1].id")


REFUSED = [
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ({"moderation": {"model": "x"}}, "moderation"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type"),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].type"),
    ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"include": ["message.output_text.logprobs"]}, "include[0]"),
    ({"input": [{"type": "computer_call_output"}]}, "input[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "input[0].content[0].file_id",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
        "input[0].content[0].file_url",
    ),
    ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", param)


@pytest.mark.parametrize("name", parser.REFUSED)
def test_what_asks_for_nothing_is_not_refused(name: str) -> None:
    for nothing in (None, False, 0, [], {}):
        parsed(**{name: nothing})


WRONG = [
    ({"input": None}, "input", "missing_required_parameter"),
    ({"input": 7}, "input", "invalid_type"),
    ({"input": []}, "input", "empty_array"),
    ({"input": [7]}, "input[0]", "invalid_type"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
    ({"input": [{"content": "x"}]}, "input[0].role", "missing_required_parameter"),
    ({"input": [{"type": ["x"]}]}, "input[0].type", "unsupported_parameter"),
    ({"input": [{**CALL, "arguments": {}}]}, "input[0].arguments", "invalid_type"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", "missing_required_parameter"),
    ({"input": [{"type": "reasoning", "summary": [7]}]}, "input[0].summary[0]", "invalid_type"),
    ({"input": [ASKED] * 2001}, "input", "array_above_max_length"),
    ({"model": None}, "model", "invalid_type"),
    ({"instructions": []}, "instructions", "invalid_type"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"metadata": []}, "metadata", "invalid_type"),
    ({"store": "yes"}, "store", "invalid_type"),
    ({"stream": 1}, "stream", "invalid_type"),
    ({"previous_response_id": 7}, "previous_response_id", "invalid_type"),
    ({"truncation": "maybe"}, "truncation", "invalid_value"),
    ({"include": "x"}, "include", "invalid_type"),
    ({"reasoning": "high"}, "reasoning", "invalid_type"),
    ({"reasoning": {"effort": 3}}, "reasoning.effort", "invalid_type"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
    ({"text": {"format": {}}}, "text.format.type", "missing_required_parameter"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "missing_required_parameter"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "invalid_type"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
    ({"tools": [{"type": "function", "name": "f", "parameters": 1}]}, "tools[0].parameters", "invalid_type"),
    ({"tools": [PING], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "invalid_value"),
    ({"tools": [PING], "tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
    ({"tools": [PING], "tool_choice": 3}, "tool_choice", "invalid_type"),
    ({"tools": [PING], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "x"}]}},
     "tool_choice.tools[0]", "invalid_value"),
    ({"extra_body": 1}, "extra_body", "invalid_type"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "code"), WRONG)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    error = refused(**fields)
    assert (error.status, error.param, error.code) == (400, param, code)


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {*parser.CHAT_WORDS, *parser.REFUSED}))
def test_what_passes_on_to_the_chat_is_checked_as_there(name: str) -> None:
    """Adapters read these fields and rely on their types."""
    for odd in ({"a": 5}, 5.5, True, ["x", 5], "x", 10**18):
        wrong = refusal_of(name, odd)
        if wrong is not None:
            error = refused(**{name: odd})
            assert (error.status, error.param) == (wrong.status, name)


def refusal_of(name: str, value: Any) -> BadRequest | None:
    try:
        CHECKS[name](name, value)
    except BadRequest as error:
        return error
    return None


def test_who_should_answer_is_read_as_in_a_chat() -> None:
    wish = {"order": ["B"], "only": ["a", "b"], "sort": "price"}
    found = parsed(provider=wish, models=["n"], proxy="x", messages=[ASKED])
    assert found.preferences == Preferences(("b",), frozenset({"a", "b"}))
    assert (found.provider, found.model, found.fallbacks) == (None, "m", ("n",))
    assert found.warnings == ("proxy", "provider.sort", "messages")
    assert "models" not in found.body
    assert parse_response(b'{"models": ["n"], "input": "hi"}').model == "n"
    assert refused(provider={"order": 5}).param == "provider.order"
    assert refused(models="n").param == "models"


@pytest.mark.parametrize(("name", "value"), [("temperature", 3), ("top_p", 2), ("max_output_tokens", 0)])
def test_what_is_out_of_range_is_422(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert (error.status, error.param) == (422, name)


def test_what_has_no_effect_is_named() -> None:
    drawn = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="}
    found = parsed(messages=[ASKED], proxy="x", input=[ASKED, drawn]).warnings
    assert found == ("proxy", "messages", "input.image_generation_call")


def test_the_documentation_has_a_row_for_each_field() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/responses.md").read_text(encoding="utf-8")
    translated, _, refused_fields = text.partition("## Fields that are refused")
    assert set(re.findall(r"^\| `(\w+)` \|", translated, re.MULTILINE)) == set(parser.TRANSLATED)
    assert set(re.findall(r"^\| `(\w+)` \|", refused_fields, re.MULTILINE)) == set(parser.REFUSED)
    assert all(f"`{name}`" in translated for name in parser.PASSED)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=4)
    | st.sampled_from(["message", "user", "function"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "name", "id", "output", "call_id"]), inner
        )
    ),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    [*parser.TRANSLATED, *parser.REFUSED, *CHECKS, "model", "models", "stream", "provider", "extra_body"]
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_whatever_a_caller_sends_is_read_or_refused(fields: dict[str, Any]) -> None:
    with contextlib.suppress(BadRequest):
        chat = parsed(**fields)
        chat.messages(), chat.tools(), chat.tool_choice(), chat.answer_format(), chat.stops()
