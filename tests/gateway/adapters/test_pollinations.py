"""Pollinations' differences from OpenAI's chat form."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.pollinations import PollinationsAdapter
from gateway.catalogue import read_pollinations
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamError, UpstreamLimited
from gateway.events import Event, Finished, MediaOutput, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from tests.support.protocols import chat, fixture, read_stream, target

ADAPTER = PollinationsAdapter()
TARGET = target("pollinations", upstream_model="openai")


def said(message: Any, key: str = "message") -> list[Event]:
    body = {"choices": [{"index": 0, key: message, "finish_reason": "stop"}]}
    if key == "message":
        return list(ADAPTER.answer(TARGET, body))
    return read_stream(ADAPTER, TARGET, b"data: " + orjson.dumps(body) + b"\n\ndata: [DONE]\n\n")


def test_a_request_goes_in_its_words() -> None:
    asked = chat(
        stream=True, seed=42, private=None, referrer="my-app", voice="nova", max_completion_tokens=5, unknown={"x": 1}
    )
    assert ADAPTER.path(TARGET, asked) == "/v1/chat/completions"
    assert ADAPTER.body(TARGET, asked) == {
        "model": "openai",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 42,
        "private": True,
        "referrer": "my-app",
        "voice": "nova",
        "max_tokens": 5,
        "unknown": {"x": 1},
    }


def test_only_the_caller_can_make_it_public() -> None:
    assert ADAPTER.body(TARGET, chat())["private"] is True
    assert ADAPTER.body(TARGET, chat(private=False))["private"] is False


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"enabled": False}}, {"reasoning_effort": "none"}),
        ({"reasoning": {"max_tokens": 512}}, {"thinking_budget": 512}),
        ({"reasoning": {"enabled": True}}, {}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
    ],
)
def test_reasoning_goes_in_its_words(asked: dict[str, Any], sent: dict[str, Any]) -> None:
    assert ADAPTER.body(TARGET, chat(**asked)) == {**ADAPTER.body(TARGET, chat()), **sent}


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"reasoning": 3}, "reasoning")]
)
def test_what_cannot_be_said_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        ADAPTER.body(TARGET, chat(**fields))
    assert caught.value.param == param


def test_a_picture_and_a_thought_inside_of_an_answer() -> None:
    assert ADAPTER.answer(TARGET, fixture("pollinations/answer.json")) == [
        ReasoningDelta("A sine will do."),
        TextDelta("Here is the plot."),
        MediaOutput("image/png", "iVBORw0KGgo="),
        Finished("stop"),
        Usage(9, 21, 2, 4),
    ]


def test_speech_and_what_is_spoken() -> None:
    assert ADAPTER.answer(TARGET, fixture("pollinations/audio.json")) == [
        TextDelta("Hello from here."),
        MediaOutput("audio/mpeg", "SUQzBAAAAAAAI1RTU0U="),
        Finished("stop"),
        Usage(5, 40),
    ]


@pytest.mark.parametrize("packet", [0, 3])
def test_a_stream_becomes_events(packet: int) -> None:
    assert read_stream(ADAPTER, TARGET, fixture("pollinations/stream.sse"), packet) == [
        ReasoningDelta("Easy."),
        TextDelta("Two"),
        ToolCallDelta(0, "call_9", "add", '{"a":'),
        ToolCallDelta(0, None, None, "1}"),
        Finished("tool_calls"),
        Usage(6, 8),
    ]


@pytest.mark.parametrize("key", ["message", "delta"])
def test_a_picture_elsewhere_becomes_a_link(key: str) -> None:
    url = "https://media.pollinations.ai/a.png"
    found = said({"content_blocks": [{"type": "image_url", "image_url": {"url": url}}]}, key)
    assert found == [TextDelta(f"\n[![image]({url})]({url})\n"), Finished("stop")]


def test_arguments_that_came_as_an_object_become_its_text() -> None:
    call = {"index": -1, "id": "c", "function": {"name": "add", "arguments": {"a": 1}}}
    assert said({"tool_calls": [call]})[0] == ToolCallDelta(0, "c", "add", '{"a":1}')


def test_an_error_inside_of_a_stream_keeps_its_class() -> None:
    error = {"error": {"code": "429", "message": "slow down"}}
    with pytest.raises(UpstreamLimited):
        read_stream(ADAPTER, TARGET, b"data: " + orjson.dumps(error) + b"\n\n")


@pytest.mark.parametrize("message", ["text", 3, {"tool_calls": 3}, {"tool_calls": [3]}])
def test_an_answer_of_another_shape_is_the_providers_failure(message: Any) -> None:
    with pytest.raises(UpstreamBroken):
        said(message)


KEYS = [
    "choices", "message", "delta", "content", "content_blocks", "image_url", "url", "thinking", "audio", "data", "text",
    "transcript", "tool_calls", "function", "arguments", "index", "finish_reason", "usage", "images", "annotations",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


@given(st.sampled_from(["message", "delta"]), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6))
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_read_or_is_the_providers_failure(key: str, sent: Any) -> None:
    with contextlib.suppress(UpstreamError):
        for event in said(sent, key):
            assert not isinstance(event, TextDelta) or isinstance(event.text, str)
            assert not isinstance(event, ToolCallDelta) or isinstance(event.arguments, str)


def test_its_list_says_what_models_can_do() -> None:
    openai, audio, mistral = read_pollinations(fixture("pollinations/models.json"))
    assert (openai.upstream_name, openai.context_length) == ("openai", 128000)
    assert (openai.flags["vision"], openai.flags["audio"], openai.flags["tools"]) == (True, False, True)
    assert (audio.flags["audio"], audio.flags["chat"]) == (True, True)
    assert not mistral.flags["vision"]
    assert read_pollinations([]) == []
    with pytest.raises(ValueError, match="not a list"):
        read_pollinations("x")
