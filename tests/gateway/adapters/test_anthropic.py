"""Anthropic's protocol: what is asked of it, and what its answers become."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.anthropic import AnthropicAdapter
from gateway.adapters.anthropic.answers import MessageEvents
from gateway.adapters.anthropic.passing import PassedEvents
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import Records, written
from gateway.chat import ChatRequest
from gateway.errors import (
    UnsupportedParameter,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.events import (
    Citation,
    Event,
    Finished,
    RawChunks,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.targets import Endpoint, Target
from gateway.upstream import Reply
from tests.support.anthropic_answers import recorded, recorded_events

TARGET = Target("anthropic", 1, "Acme", 1, "m", "claude-x", Endpoint("Acme", "http://127.0.0.1:1/v1"))
NEWER = replace(TARGET, upstream_model="claude-opus-4-7")
ADAPTER = AnthropicAdapter()
HELLO = [{"role": "user", "content": "hello"}]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
WEATHER = {"type": "function", "function": {"name": "w", "description": "d", "parameters": {"properties": {}}}}


def body(messages: list[Any] = HELLO, target: Target = TARGET, **fields: Any) -> dict[str, Any]:
    stream = fields.pop("stream", False)
    chat = ChatRequest("m", None, stream, False, {"messages": messages, **fields})
    return dict(ADAPTER.body(target, chat))


def turns(*messages: dict[str, Any]) -> Any:
    return body(list(messages))["messages"]


def test_a_plain_request_gets_the_limit_that_the_protocol_wants() -> None:
    assert body() == {
        "model": "claude-x",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "max_tokens": 8192,
    }


def test_instructions_become_the_system_prompt_with_their_cache_marks() -> None:
    mark = {"type": "ephemeral"}
    found = body(
        [
            {"role": "system", "content": "a"},
            *HELLO,
            {"role": "developer", "content": [{"type": "text", "text": "b", "cache_control": mark}]},
        ]
    )
    assert found["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": mark}]
    assert len(found["messages"]) == 1


def test_instructions_alone_are_a_turn() -> None:
    assert "system" not in body([{"role": "system", "content": "a"}])


def test_turns_of_one_role_are_merged_and_blank_texts_left_out() -> None:
    found = turns(
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "The answer is \n"},
    )
    assert [turn["role"] for turn in found] == ["user", "assistant"]
    assert [block["text"] for block in found[0]["content"]] == ["a", "b", "c"]
    assert found[1]["content"][0]["text"] == "The answer is"


def test_tool_calls_and_their_results_find_each_other() -> None:
    function = {"name": "w", "arguments": '{"city":"Oslo"}'}
    found = turns(
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "functions.w:0", "function": function}]},
        {"role": "tool", "tool_call_id": "functions.w:0", "content": "rain", "is_error": True},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{PNG}"}}],
        },
        {"role": "user", "content": "and?"},
    )
    assert found[1]["content"] == [{"type": "tool_use", "id": "functions_w_0", "name": "w", "input": {"city": "Oslo"}}]
    first, second, text = found[2]["content"]
    assert first == {"type": "tool_result", "tool_use_id": "functions_w_0", "content": "rain", "is_error": True}
    # The type is the picture's, whatever was said of it.
    assert second["content"][0]["source"] == {"type": "base64", "media_type": "image/png", "data": PNG}
    assert text["text"] == "and?"


@pytest.mark.parametrize("arguments", ["", "null", "[1]", "{bad"])
def test_arguments_are_always_an_object(arguments: str) -> None:
    call = {"id": "a", "function": {"name": "w", "arguments": arguments}}
    found = turns(*HELLO, {"role": "assistant", "tool_calls": [call]})
    assert found[1]["content"][0]["input"] == ({"arguments": arguments} if arguments else {})


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}},
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
            },
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/csv;base64,YSxi"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a,b"}},
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            {"type": "file", "file": {"file_data": "https://a.example/x.pdf"}},
            {"type": "document", "source": {"type": "url", "url": "https://a.example/x.pdf"}},
        ),
        (
            {"type": "file", "file": {"file_data": f"data:image/png;base64,{PNG}"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        (
            {"type": "search_result", "source": "s", "title": "t", "content": []},
            {"type": "search_result", "source": "s", "title": "t", "content": []},
        ),
    ],
)
def test_parts_become_blocks(part: dict[str, Any], block: dict[str, Any]) -> None:
    mark = {"type": "ephemeral"}
    assert turns({"role": "user", "content": [{**part, "cache_control": mark}]})[0]["content"] == [
        {**block, "cache_control": mark}
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "ftp://a"}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,QQ=="}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,?"}},
        {"bucket_id": "b"},
    ],
)
def test_parts_that_cannot_be_said_are_refused_by_name(part: dict[str, Any]) -> None:
    with pytest.raises(UpstreamRejected) as failure:
        turns({"role": "user", "content": [part]})
    assert (failure.value.status, failure.value.param) == (400, "messages")


def test_tools_and_their_choice() -> None:
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    marked = {**WEATHER, "cache_control": {"type": "ephemeral"}}
    found = body(tools=[marked, own], tool_choice="required", parallel_tool_calls=False)
    assert found["tools"] == [
        {
            "name": "w",
            "description": "d",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": {"type": "ephemeral"},
        },
        own,
    ]
    assert found["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("choice", "theirs"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "w"}}, {"type": "tool", "name": "w"}),
    ],
)
def test_each_choice_of_tools(choice: Any, theirs: Any) -> None:
    assert body(tools=[WEATHER], tool_choice=choice)["tool_choice"] == theirs
    assert "tool_choice" not in body(tool_choice=choice)


def test_a_schema_is_closed_and_its_unknown_bounds_are_told_in_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "tags": {"type": "array", "items": {"properties": {}}},
        },
    }
    asked = {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}
    form = body(response_format=asked)["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"] == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "(maxLength: 12)"},
            "tags": {"type": "array", "items": {"properties": {}, "additionalProperties": False}},
        },
    }


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    assert "JSON" in body(response_format={"type": "json_object"})["system"][0]["text"]


def test_sampling_and_identity() -> None:
    found = body(
        temperature=0.5,
        top_p=1,
        top_k=9,
        stop="END",
        max_completion_tokens=7,
        user="u",
        stream=True,
        n=1,
        logprobs=False,
    )
    assert {name: found[name] for name in found if name not in ("model", "messages")} == {
        "temperature": 0.5,
        "top_k": 9,
        "stop_sequences": ["END"],
        "max_tokens": 7,
        "metadata": {"user_id": "u"},
        "stream": True,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("seed", 7),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("logit_bias", {"1": 2}),
        ("temperature", 1.5),
        ("stop", ["\n"]),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "a"}),
        ("tools", [{"type": "custom", "custom": {"name": "x"}}]),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as failure:
        body(**{name: value})
    assert failure.value.param == name


@pytest.mark.parametrize(
    "fields", [{"n": 1}, {"presence_penalty": 0}, {"logit_bias": {}}, {"seed": None}, {"modalities": ["text"]}]
)
def test_what_says_nothing_is_left_out(fields: dict[str, Any]) -> None:
    assert body(**fields) == body()


class TestThinking:
    def test_effort_and_budget_become_a_budget_below_the_limit(self) -> None:
        assert body(reasoning_effort="low")["thinking"] == {"type": "enabled", "budget_tokens": 2048}
        assert body(reasoning_effort="low")["max_tokens"] == 8192 + 2048
        found = body(reasoning={"max_tokens": 9000}, max_tokens=4000)
        assert (found["thinking"]["budget_tokens"], found["max_tokens"]) == (3999, 4000)

    @pytest.mark.parametrize(
        "fields",
        [
            {"reasoning_effort": "none"},
            {"reasoning_effort": "high", "max_tokens": 1000},
            {"reasoning_effort": "high", "tools": [WEATHER], "tool_choice": "required"},
            {"reasoning": "odd"},
        ],
    )
    def test_it_is_dropped_where_it_cannot_be(self, fields: dict[str, Any]) -> None:
        assert "thinking" not in body(**fields)

    def test_it_is_dropped_after_calls_whose_thoughts_are_gone(self) -> None:
        call = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "w", "arguments": "{}"}}]}
        result = {"role": "tool", "tool_call_id": "a", "content": "rain"}
        assert "thinking" not in body([*HELLO, call, result], reasoning_effort="high")
        kept = {**call, "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}]}
        found = body([*HELLO, kept, result], reasoning_effort="high")
        assert found["thinking"]["budget_tokens"] == 16384
        assert found["messages"][1]["content"][0] == {"type": "thinking", "thinking": "t", "signature": "s"}

    def test_a_temperature_is_refused_beside_it(self) -> None:
        with pytest.raises(UnsupportedParameter, match="temperature"):
            body(reasoning_effort="high", temperature=0.2)

    @pytest.mark.parametrize(
        ("model", "adaptive"),
        [
            ("claude-2.1", False),
            ("claude-3-7-sonnet-20250219", False),
            ("claude-sonnet-4-20250514", False),
            ("claude-opus-4-1-20250805", False),
            ("claude-haiku-4-5", False),
            ("claude-opus-4-6", True),
            ("anthropic/claude-sonnet-4.6", True),
            ("us.anthropic.claude-opus-4-7-v1:0", True),
            ("claude-opus-5", True),
            ("claude-opus-5-20270101", True),
            ("MiniMax-M2.7", False),
        ],
    )
    def test_newer_models_are_told_an_effort_and_older_ones_a_budget(self, model: str, adaptive: bool) -> None:
        found = body(target=replace(TARGET, upstream_model=model), reasoning_effort="low")
        if adaptive:
            assert found["thinking"] == {"type": "adaptive", "display": "summarized"}
            assert found["output_config"] == {"effort": "low"}
        else:
            assert found["thinking"] == {"type": "enabled", "budget_tokens": 2048}
            assert "output_config" not in found
        assert found["max_tokens"] == 8192 + 2048

    @pytest.mark.parametrize(
        ("fields", "effort"),
        [
            ({"reasoning_effort": "minimal"}, "low"),
            ({"reasoning_effort": "xhigh"}, "xhigh"),
            ({"reasoning": {"effort": "max"}}, "max"),
            ({"reasoning": {"enabled": True}}, "medium"),
            ({"reasoning": {"max_tokens": 2000}}, "low"),
            ({"reasoning": {"max_tokens": 8000}}, "medium"),
            ({"reasoning": {"max_tokens": 30000}}, "high"),
            ({"reasoning_effort": "high", "tools": [WEATHER], "tool_choice": "required"}, "high"),
            ({"reasoning_effort": "none"}, None),
            ({"reasoning_effort": "huge"}, None),
            ({}, None),
        ],
    )
    def test_efforts_in_its_own_words(self, fields: dict[str, Any], effort: str | None) -> None:
        found = body(target=NEWER, **fields)
        assert found.get("output_config") == ({"effort": effort} if effort else None)
        assert ("thinking" in found) == (effort is not None and "tool_choice" not in fields)

    def test_an_effort_stands_beside_a_schema_and_what_the_caller_says_wins(self) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        found = body(target=NEWER, reasoning_effort="high", response_format=form)
        assert found["output_config"].keys() == {"effort", "format"}
        own = body(target=NEWER, reasoning_effort="high", output_config={"effort": "low"})
        assert own["output_config"] == {"effort": "low"}
        said = body(target=NEWER, reasoning_effort="high", thinking={"type": "disabled"})
        assert (said["thinking"], "output_config" in said) == ({"type": "disabled"}, False)

    def test_hidden_thoughts_and_an_older_xhigh(self) -> None:
        older = replace(TARGET, upstream_model="claude-opus-4-6")
        found = body(target=older, reasoning={"effort": "xhigh", "exclude": True})
        assert (found["thinking"]["display"], found["output_config"]) == ("omitted", {"effort": "high"})
        with pytest.raises(UnsupportedParameter, match="temperature"):
            body(target=NEWER, reasoning_effort="high", temperature=0.2)

    def test_thoughts_go_back_as_they_came(self) -> None:
        """As our own answers spell them: the text in one field, its signature in another."""
        message = {
            "role": "assistant",
            "content": "x",
            "reasoning_content": "t",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "", "signature": "s"},
                {"type": "reasoning.encrypted", "data": "r"},
                {"type": "reasoning.text", "text": "unsigned"},
            ],
        }
        assert turns(*HELLO, message)[1]["content"] == [
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "redacted_thinking", "data": "r"},
            {"type": "text", "text": "x"},
        ]

    def test_the_providers_own_words_pass(self) -> None:
        found = body(thinking={"type": "enabled", "budget_tokens": 2000}, output_config={"effort": "low"})
        assert found["thinking"] == {"type": "enabled", "budget_tokens": 2000}
        assert (found["output_config"], found["max_tokens"]) == ({"effort": "low"}, 8192 + 2000)


THOUGHTS: list[Event] = [
    ReasoningSignature("EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
    ReasoningSignature("EmwKAhgBEgy3va3pzix/LafPsn4a", redacted=True),
    TextDelta("I'll look both up."),
    ToolCallDelta(0, "toolu_01A09q90qw90lq917835lq9", "get_weather"),
]
SECOND: list[Event] = [ToolCallDelta(1, "toolu_01B", "get_time"), ToolCallDelta(1, arguments="{}")]
CALLED: list[Event] = [Usage(472, 89), Finished("tool_calls")]
SOURCE = Citation("https://en.wikipedia.org/wiki/Claude_Shannon", "Claude Shannon", 7, 19)
ANSWERS: dict[str, list[Event]] = {
    "text": [
        TextDelta("Hi! My name is Claude."),
        Usage(2095 + 2 * 2051, 503, 2051, 100, cache_write_tokens=2051),
        Finished("stop"),
    ],
    "tools": [
        ReasoningDelta("Two cities, two calls."),
        *THOUGHTS,
        ToolCallDelta(0, arguments='{"city":"Oslo"}'),
        *SECOND,
        *CALLED,
    ],
    "search": [TextDelta("He was "), TextDelta("born in 1916"), SOURCE, Usage(6039, 931), Finished("stop")],
}
STREAMS: dict[str, list[Event]] = {
    "text": [TextDelta("Hello"), TextDelta("!"), Usage(35, 15, 10), Finished("stop", stop="END")],
    "tools": [
        ReasoningDelta("Two cities, "),
        ReasoningDelta("two calls."),
        *THOUGHTS,
        ToolCallDelta(0, arguments='{"city":'),
        ToolCallDelta(0, arguments='"Oslo"}'),
        *SECOND,
        *CALLED,
    ],
    "search": [TextDelta("He was "), TextDelta("born in 1916"), SOURCE, Usage(6039, 931), Finished("stop")],
}


def streamed(data: bytes) -> list[Event]:
    records = Records(TARGET, MessageEvents(TARGET), EventSplitter())
    found = records.feed(data)
    if records.failure is not None:
        raise records.failure
    return [*found, *([] if records.done else records.end())]


@pytest.mark.parametrize("name", ANSWERS)
def test_each_recorded_answer_becomes_these_events(name: str) -> None:
    assert list(ADAPTER.answer(TARGET, recorded(name))) == ANSWERS[name]


@pytest.mark.parametrize("name", STREAMS)
def test_each_recorded_stream_becomes_these_events(name: str) -> None:
    assert streamed(b"".join(recorded_events(name))) == STREAMS[name]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "stop"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_each_reason_to_stop(theirs: Any, ours: str) -> None:
    assert list(ADAPTER.answer(TARGET, {"content": [], "stop_reason": theirs}))[-1] == Finished(ours)


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": None, "explanation": "No."}
    found = ADAPTER.answer(TARGET, {"content": [], "stop_reason": "refusal", "stop_details": details})
    assert list(found) == [Refusal("No."), Finished("content_filter")]


def test_a_stream_that_is_cut_is_no_answer() -> None:
    with pytest.raises(UpstreamBroken, match="broke off"):
        streamed(b"".join(recorded_events("text")[:4]))


def test_an_error_in_a_stream_has_its_class() -> None:
    with pytest.raises(UpstreamBroken, match="overloaded") as failure:
        streamed(b"".join(recorded_events("overloaded")))
    assert (failure.value.status, failure.value.code) == (503, "overloaded")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("rate_limit_error", UpstreamLimited),
        ("invalid_request_error", UpstreamRejected),
        ("request_too_large", UpstreamRejected),
        ("authentication_error", UpstreamRefused),
        ("billing_error", UpstreamRefused),
        ("timeout_error", UpstreamTimeout),
        ("api_error", UpstreamBroken),
        (None, UpstreamBroken),
    ],
)
def test_each_type_of_error(kind: Any, error: type[UpstreamError]) -> None:
    with pytest.raises(error):
        ADAPTER.answer(TARGET, {"type": "error", "error": {"type": kind, "message": "m"}})


@pytest.mark.parametrize(
    ("status", "message", "error", "code"),
    [
        (400, "max_tokens: too large", UpstreamRejected, "provider_rejected_request"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", UpstreamRejected, "context_length_exceeded"),
        (400, "Your credit balance is too low to access the API", UpstreamRefused, "provider_credential_refused"),
        (401, "invalid x-api-key", UpstreamRefused, "provider_credential_refused"),
        (404, "model: claude-9", UpstreamRejected, "provider_rejected_request"),
        (413, "Request exceeds the maximum size", UpstreamRejected, "provider_rejected_request"),
        (429, "slow down", UpstreamLimited, "rate_limit_exceeded"),
        (500, "Internal server error", UpstreamBroken, "provider_not_working"),
        (529, "Overloaded", UpstreamBroken, "overloaded"),
    ],
)
def test_each_status(status: int, message: str, error: type[UpstreamError], code: str) -> None:
    told = orjson.dumps({"type": "error", "error": {"type": "t", "message": message}})
    found = ADAPTER.failure(TARGET, Reply(status, ((b"retry-after", b"7"),), told))
    assert type(found) is error
    assert found.code == code
    if status in (429, 529):
        assert found.retry_after == 7


def test_for_its_own_clients_events_pass_and_are_held_until_something_is_said() -> None:
    reader = PassedEvents(TARGET)
    start, *_ = recorded_events("search")
    records = Records(TARGET, reader, EventSplitter())
    assert records.feed(start) == []
    found = records.feed(b"".join(recorded_events("search")[1:]))
    passed = b"".join(event.data for event in found if isinstance(event, RawChunks))
    assert passed.count(b"event: ") == len(recorded_events("search"))
    assert b"encrypted_index" in passed
    assert b"web_search_tool_result" in passed
    assert found[-2:] == [Usage(6039, 931), Finished("stop")]
    assert records.done


def test_pings_without_end_are_not_kept() -> None:
    reader = PassedEvents(TARGET)
    start, *rest = recorded_events("search")
    records = Records(TARGET, reader, EventSplitter())
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    assert records.feed(start + ping * 5000 + start) == []
    first = next(event for event in records.feed(b"".join(rest)) if isinstance(event, RawChunks))
    assert b"ping" not in first.data
    assert first.data.count(b"event: message_start") == 1


DEEP = b"[" * 300 + b"]" * 300


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UpstreamRejected):
        written(TARGET, {"a": orjson.loads(DEEP)})
    with pytest.raises(UpstreamRejected):
        written(TARGET, {"a": 2**64})


def test_an_event_with_too_many_values_is_not_read() -> None:
    with pytest.raises(UpstreamBroken, match="too many values"):
        streamed(b'data: {"type":"x","a":[' + b"{}," * 600_000 + b"{}]}\n\n")


JSON = st.sampled_from(
    [None, True, -1, 10**30, 1.5, "", "x", [], {}, [None], ["x"], [{}], {"type": 1}, {"type": "text", "text": []},
     {"usage": {"output_tokens": "9", "output_tokens_details": []}}, {"input_tokens": -5}, {"explanation": 1}]
)  # fmt: skip
KINDS = st.sampled_from(
    "message_start content_block_start content_block_delta content_block_stop message_delta message_stop error".split()
)
INNER = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "thinking", "text_delta", "input_json_delta", "citations_delta"])},
    optional={"text": JSON, "input": JSON, "citations": JSON, "citation": JSON, "partial_json": JSON, "thinking": JSON},
)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={"index": JSON, "delta": INNER | JSON, "content_block": INNER | JSON, "message": JSON, "usage": JSON},
)


@given(st.lists(EVENTS, max_size=6))
def test_whatever_a_provider_sends_is_an_answer_or_an_error_of_its(events: list[Any]) -> None:
    data = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events if _encodes(event))
    with contextlib.suppress(UpstreamError):
        streamed(data)


@given(
    st.dictionaries(
        st.sampled_from(["content", "usage", "stop_reason", "stop_details", "error"]), JSON | st.lists(INNER)
    )
)
def test_whatever_a_plain_answer_holds_too(answer: dict[str, Any]) -> None:
    with contextlib.suppress(UpstreamError):
        ADAPTER.answer(TARGET, answer)


def _encodes(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
