"""What a chat request may look like, and what is said of one that does not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat import ImagePart, OtherPart, Preferences, TextPart, ToolCall
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import CONSUMED, IGNORED, SOMEWHERE, parse_chat

HELLO = [{"role": "user", "content": "hi"}]


def parse(**body: Any) -> Any:
    return parse_chat(orjson.dumps({"model": "m", "messages": HELLO, **body}))


def refusal(**body: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_chat(orjson.dumps({"model": "m", "messages": HELLO, **body}))
    return caught.value


def test_it_works() -> None:
    chat = parse(stream=True, stream_options={"include_usage": True}, temperature=0.5, made_up={"a": 1})
    assert (chat.model, chat.provider, chat.stream, chat.include_usage) == ("m", None, True, True)
    assert chat.body == {
        "messages": HELLO,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "made_up": {"a": 1},
    }


def test_fields_that_steer_us_are_taken_out() -> None:
    chat = parse(
        **dict.fromkeys(CONSUMED - {"model", "models", "stream", "extra_body", "tool_emulation"}, "x"),
        models=["n"],
        user="u",
    )
    assert set(chat.body) == {"messages", "user"}
    assert set(chat.warnings) == {*IGNORED, *SOMEWHERE, "cache"}


def test_empty_steering_fields_are_not_worth_a_warning() -> None:
    chat = parse(proxy="", api_key=None, web_search=False, conversation={})
    assert chat.warnings == ()


def test_extra_body_is_merged_under_the_body() -> None:
    chat = parse(extra_body={"top_k": 4, "temperature": 1, "api_key": "x"}, temperature=0)
    assert chat.body["top_k"] == 4
    assert chat.body["temperature"] == 0
    assert "api_key" not in chat.body
    assert refusal(extra_body=[]).param == "extra_body"


def test_the_provider_may_be_in_body_or_path() -> None:
    assert parse(provider="Acme").provider == "Acme"
    assert parse(provider="").provider is None
    raw = orjson.dumps({"model": "", "messages": HELLO, "provider": "Acme"})
    assert parse_chat(raw, "Other").provider == "Other"


def test_openrouters_provider_object_is_read() -> None:
    chat = parse(provider={"order": ["Acme", "beta"], "only": ["ACME"], "ignore": [], "allow_fallbacks": False})
    assert chat.preferences == Preferences(("acme", "beta"), frozenset({"acme"}), frozenset(), allow_fallbacks=False)
    assert (chat.provider, chat.warnings) == (None, ())
    for nothing in ({}, {"order": None}, {"allow_fallbacks": True}, {"only": []}):
        assert parse(provider=nothing).preferences is None


def test_what_of_it_has_no_effect_is_said_in_our_words_alone() -> None:
    chat = parse(provider={"sort": "price", "zdr": None, 'x"\r\n': 1, "order": ["a"]}, proxy="p")
    assert chat.warnings == ("proxy", "provider.sort", "provider")


def test_further_models_are_a_list_and_may_stand_alone() -> None:
    assert parse(models=["a", "", "b"]).fallbacks == ("a", "b")
    alone = parse_chat(orjson.dumps({"messages": HELLO, "models": ["a", "b"]}))
    assert (alone.model, alone.fallbacks) == ("a", ("a", "b"))
    with pytest.raises(BadRequest) as caught:
        parse_chat(orjson.dumps({"messages": HELLO, "models": []}))
    assert caught.value.code == "missing_required_parameter"


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"models": "m"}, 400, "invalid_type", "models"),
        ({"models": ["a", 5]}, 400, "invalid_type", "models[1]"),
        ({"models": ["a"] * 33}, 400, "array_above_max_length", "models"),
        ({"models": ["x" * 201]}, 400, "invalid_value", "models[0]"),
        ({"provider": {"order": "a"}}, 400, "invalid_type", "provider.order"),
        ({"provider": {"only": [None]}}, 400, "invalid_type", "provider.only[0]"),
        ({"provider": {"ignore": {"a": 1}}}, 400, "invalid_type", "provider.ignore"),
        ({"provider": {"allow_fallbacks": "no"}}, 400, "invalid_type", "provider.allow_fallbacks"),
        ({"provider": ["a"]}, 400, "invalid_type", "provider"),
        ({"model": None}, 400, "invalid_type", "model"),
        ({"model": 5}, 400, "invalid_type", "model"),
        ({"model": "x" * 65536}, 400, "invalid_value", "model"),
        ({"model": "a\x00b"}, 400, "invalid_value", "model"),
        ({"provider": 5}, 400, "invalid_type", "provider"),
        ({"provider": "x" * 300}, 400, "invalid_value", "provider"),
        ({"messages": None}, 400, "invalid_type", "messages"),
        ({"messages": []}, 400, "empty_array", "messages"),
        ({"messages": HELLO * 2001}, 400, "array_above_max_length", "messages"),
        ({"messages": ["x"]}, 400, "invalid_type", "messages[0]"),
        ({"messages": [{"content": "x"}]}, 400, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": 1}]}, 400, "invalid_type", "messages[0].role"),
        ({"messages": [{"role": "king", "content": ""}]}, 400, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, 400, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [5]}]}, 400, "invalid_type", "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{}]}]},
            400,
            "missing_required_parameter",
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": 1}]}]},
            400,
            "invalid_type",
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            400,
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            400,
            "invalid_type",
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "", "text": 5}]}]},
            400,
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"bucket_id": "x", "text": 5}]}]},
            400,
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"bucket_id": "x", "text": None}]}]},
            400,
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": 5}}]}
                ]
            },
            400,
            "invalid_type",
            "messages[0].content[0].image_url.detail",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            400,
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, 400, "invalid_type", "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [5]}]}, 400, "invalid_type", "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]},
            400,
            "invalid_type",
            "messages[0].tool_calls[0].function.name",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": {}}}]}]},
            400,
            "invalid_type",
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_call_id": 5}]},
            400,
            "invalid_type",
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": 5}]}]},
            400,
            "invalid_type",
            "messages[0].tool_calls[0].id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 2001}]},
            400,
            "array_above_max_length",
            "messages[0].content",
        ),
        ({"tools": {}}, 400, "invalid_type", "tools"),
        ({"tools": [{}] * 5000}, 400, "array_above_max_length", "tools"),
        ({"tools": [5]}, 400, "invalid_type", "tools[0]"),
        ({"tools": [{"type": "function"}]}, 400, "missing_required_parameter", "tools[0].function"),
        ({"tools": [{"function": {}}]}, 400, "invalid_type", "tools[0].function.name"),
        ({"tools": [{"function": {"name": "x", "parameters": []}}]}, 400, None, None),
        (
            {"tools": [{"function": {"name": "x", "parameters": [1]}}]},
            400,
            "invalid_type",
            "tools[0].function.parameters",
        ),
        (
            {"tools": [{"function": {"name": "x", "description": 1}}]},
            400,
            "invalid_type",
            "tools[0].function.description",
        ),
        ({"tool_choice": 5}, 400, "invalid_type", "tool_choice"),
        ({"tool_choice": {"function": 5}}, 400, "invalid_type", "tool_choice.function"),
        ({"stream": "yes"}, 400, "invalid_type", "stream"),
        ({"stream_options": 5}, 400, "invalid_type", "stream_options"),
        ({"temperature": "hot"}, 400, "invalid_type", "temperature"),
        ({"temperature": True}, 400, "invalid_type", "temperature"),
        ({"temperature": 2.1}, 422, "decimal_above_max_value", "temperature"),
        ({"temperature": -0.1}, 422, "decimal_below_min_value", "temperature"),
        ({"top_p": 1.5}, 422, "decimal_above_max_value", "top_p"),
        ({"presence_penalty": -3}, 422, "decimal_below_min_value", "presence_penalty"),
        ({"max_tokens": 0}, 422, "decimal_below_min_value", "max_tokens"),
        ({"max_tokens": 1.5}, 400, "invalid_type", "max_tokens"),
        ({"n": 9}, 422, "decimal_above_max_value", "n"),
        ({"user": 5}, 400, "invalid_type", "user"),
        ({"logprobs": 1}, 400, "invalid_type", "logprobs"),
        ({"metadata": []}, 400, "invalid_type", "metadata"),
        ({"modalities": "text"}, 400, "invalid_type", "modalities"),
        ({"stop": 5}, 400, "invalid_type", "stop"),
        ({"stop": [5]}, 400, "invalid_type", "stop"),
        ({"stop": ["x"] * 17}, 400, "array_above_max_length", "stop"),
        ({"response_format": 5}, 400, "invalid_type", "response_format"),
        ({"response_format": {}}, 400, "missing_required_parameter", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            400,
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
            400,
            "invalid_type",
            "response_format.json_schema.schema",
        ),
    ],
)
def test_what_is_refused(body: dict[str, Any], status: int, code: str | None, param: str | None) -> None:
    if code is None:
        assert parse(**body)
        return
    error = refusal(**body)
    assert (error.status, error.code, error.param) == (status, code, param)


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_required_fields(missing: str) -> None:
    body = {"model": "m", "messages": HELLO}
    del body[missing]
    with pytest.raises(BadRequest) as caught:
        parse_chat(orjson.dumps(body))
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", missing)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"nope", b"[]", b'"x"', b"null", b'{"a": NaN}', b'{"a": "\xff"}', b'{"a":"\\ud800"}']
)
def test_what_is_no_object(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_chat(raw)


def test_depth_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(62):
        deep = [deep]
    assert parse(deep=deep)
    assert "deep" in refusal(deep=[[deep]]).message


def test_too_many_values_are_refused_before_they_are_made() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "x": [' + b"[]," * 600_000 + b"[]]}"
    with pytest.raises(BadRequest, match="too many values"):
        parse_chat(body)
    numbers = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "x": [' + b"1, " * 2_100_000 + b"1]}"
    with pytest.raises(BadRequest, match="too many values"):
        parse_chat(numbers)
    long = 'a "quoted", comma, [bracket] {brace} ' * 50_000
    assert parse_chat(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": long}]}))


def test_nulls_count_as_absent() -> None:
    names = [
        "temperature",
        "max_tokens",
        "stop",
        "tools",
        "tool_choice",
        "user",
        "response_format",
        "stream",
        "provider",
    ]
    assert parse(**dict.fromkeys(names)).stream is False


def test_the_typed_view() -> None:
    chat = parse(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}, {"bucket_id": "k"}]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}, {"id": "2"}],
            },
        ],
        stop="x",
        tools=[{"function": {"name": "f"}}, {"type": "custom", "custom": {}}],
    )
    first, second, third = chat.messages()
    assert first.text == "ab"
    assert first.parts == (TextPart("a"), TextPart("b"))
    assert second.parts == (ImagePart("data:x"), OtherPart("", {"bucket_id": "k"}))
    assert third.tool_calls == (ToolCall("1", "f", "{}"),)
    assert chat.stops() == ("x",)
    assert [tool.name for tool in chat.tools()] == ["f"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [
    "model",
    "messages",
    "stream",
    "tools",
    "tool_choice",
    "stop",
    "response_format",
    "extra_body",
    "n",
    "seed",
    "provider",
]
messages = st.lists(
    st.fixed_dictionaries(
        {}, optional={"role": st.sampled_from(["user", "assistant", "tool"]) | json_values, "content": json_values,
                      "tool_calls": json_values, "tool_call_id": json_values}
    ) | json_values,
    max_size=3,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(body=st.dictionaries(st.sampled_from(FIELDS), json_values | messages, max_size=6))
def test_any_json_is_parsed_or_refused(body: dict[str, Any]) -> None:
    try:
        chat = parse_chat(orjson.dumps({"model": "m", "messages": HELLO, **body}))
    except BadRequest as error:
        refused = error.status
    else:
        chat.messages(), chat.tools(), chat.stops(), chat.max_tokens()
        return
    assert refused in (400, 422)


loose: st.SearchStrategy[Any] = st.none() | st.just("") | st.just("x") | st.integers(0, 1) | st.just({}) | st.just([])
parts = st.fixed_dictionaries(
    {}, optional={"type": loose | st.sampled_from(["text", "image_url", "file"]), "text": loose, "bucket_id": loose,
                  "image_url": loose | st.fixed_dictionaries({}, optional={"url": loose, "detail": loose})}
)  # fmt: skip
functions = st.fixed_dictionaries({}, optional={"name": loose, "arguments": loose, "description": loose,
                                                "parameters": loose})  # fmt: skip
tool_calls = st.fixed_dictionaries({}, optional={"id": st.just("1"), "type": loose, "function": loose | functions})
near_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.lists(parts, max_size=2) | loose},
    optional={"tool_calls": loose | st.lists(tool_calls, max_size=2), "tool_call_id": st.just("1"), "name": loose},
)
near_tools = st.fixed_dictionaries({}, optional={"type": loose | st.just("function"), "function": loose | functions})


@settings(max_examples=1500, deadline=None)
@given(
    talk=st.lists(near_messages, min_size=1, max_size=2),
    tools=loose | st.lists(near_tools, max_size=2),
    stop=loose | st.lists(loose, max_size=2),
)
def test_what_passes_has_the_types_of_the_view(talk: Any, tools: Any, stop: Any) -> None:
    try:
        chat = parse(messages=talk, tools=tools, stop=stop)
    except BadRequest:
        return
    for message in chat.messages():
        strings = [message.text]
        for part in message.parts:
            match part:
                case TextPart():
                    strings.append(part.text)
                case ImagePart():
                    strings += [part.url, part.detail or ""]
                case OtherPart():
                    strings.append(part.type)
        strings += [text for call in message.tool_calls for text in (call.id, call.name, call.arguments)]
        assert all(isinstance(text, str) for text in strings)
    assert all(isinstance(text, str) for tool in chat.tools() for text in (tool.name, tool.description))
    assert all(isinstance(tool.parameters, dict) for tool in chat.tools())
    assert all(isinstance(text, str) for text in chat.stops())
