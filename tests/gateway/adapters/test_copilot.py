"""Microsoft 365 Copilot's protocol: one message to a new conversation, and states of it as events."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.copilot import Conversations, FoldingSplitter, request_body
from gateway.adapters.translated import Records
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamError, UpstreamLimited
from gateway.events import Citation, Event, Finished, TextDelta
from tests.support.protocols import chat, fixture, target

TARGET = target("copilot")
PROMPT = "What meeting do I have at 9 AM tomorrow morning?"
TEXT = "You have **one** meeting at 9 AM: the standup [^1^]."
STANDUP = Citation("https://teams.test/l/meeting/1", "Engineering Standup")
TOOL = {"type": "function", "function": {"name": "add"}}


def state(*texts: str, turns: Any = 0, **more: Any) -> dict[str, Any]:
    messages = [{"text": text} for text in texts]
    return {"displayName": "Intermediate Conversation Update", "turnCount": turns, "messages": messages, **more}


def read(data: bytes, packet: int = 0, prompt: str = PROMPT) -> list[Event]:
    records = Records(TARGET, Conversations(TARGET, prompt), FoldingSplitter())
    found: list[Event] = []
    for start in range(0, len(data), packet or len(data)):
        found.extend(records.feed(data[start : start + (packet or len(data))]))
        if records.failure:
            raise records.failure
    if not records.done:
        found.extend(records.end())
    return found


def frames(*states: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(item) + b"\nid:1\n\n" for item in states)


def test_the_newest_message_is_sent_and_what_came_before_is_context() -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi.", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]},
    ]
    assert request_body(TARGET, chat(messages=messages)) == {
        "message": {"text": "And now?"},
        "additionalContext": [
            {"text": "Be short.", "description": "Instructions for the answer"},
            {"text": "Hello", "description": "What the user said earlier"},
            {"text": "Hi.", "description": "What was answered earlier"},
        ],
        "locationHint": {"timeZone": "UTC"},
    }


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (
            {"user_location": {"type": "approximate", "approximate": {"timezone": "Europe/Berlin", "country": "DE"}}},
            {"timeZone": "Europe/Berlin", "countryOrRegion": "DE"},
        ),
        ({"user_location": {"approximate": {"timezone": 3, "country": []}}}, {"timeZone": "UTC"}),
        ({"user_location": "here"}, {"timeZone": "UTC"}),
        ([], {"timeZone": "UTC"}),
    ],
)
def test_where_the_user_is(options: Any, hint: dict[str, str]) -> None:
    assert request_body(TARGET, chat(web_search_options=options)) == {
        "message": {"text": "hi"},
        "locationHint": hint,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"n": 3}, "n"),
        ({"stop": "x"}, "stop"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_a_conversation_cannot_do_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        request_body(TARGET, chat(**fields))
    assert caught.value.param == param


def test_settings_that_it_lacks_are_left_out() -> None:
    hints: dict[str, Any] = {
        "temperature": 0.1,
        "max_tokens": 5,
        "seed": 1,
        "tools": [TOOL],
        "tool_choice": "none",
        "user": "u",
    }
    assert request_body(TARGET, chat(**hints)) == request_body(TARGET, chat())


def test_a_plain_answer_becomes_events() -> None:
    found = Conversations(TARGET, PROMPT).whole(fixture("copilot/answer.json"))
    assert found == [TextDelta(TEXT), STANDUP, Finished("stop")]


@pytest.mark.parametrize("packet", [0, 1, 50])
def test_states_of_a_stream_become_what_is_new_in_each(packet: int) -> None:
    found = read(fixture("copilot/stream.sse"), packet)
    texts = [event.text for event in found if isinstance(event, TextDelta)]
    assert texts == ["You have", " **one** meeting at", " 9 AM: the standup [^1^]."]
    assert found[-2:] == [STANDUP, Finished("stop")]


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["Hel", "Hello"], "Hello"),
        (["Hello", "Hel", "Hello you"], "Hello you"),
        (["Hello [1", "Hello [^1^] x"], "Hello [1^1^] x"),
        (["Searching", "Found"], "SearchingFound"),
        (["", "a"], "a"),
    ],
)
def test_nothing_is_lost_when_a_text_is_changed(states: list[str], told: str) -> None:
    found = read(frames(*(state(text) for text in states), state(PROMPT, states[-1], turns=1)))
    assert "".join(event.text for event in found if isinstance(event, TextDelta)) == told


def test_the_question_that_is_said_again_is_no_answer() -> None:
    found = read(frames(state("hi"), state("hi", "hi", turns=1)), prompt="hi")
    assert found == [TextDelta("hi"), Finished("stop")]


def test_an_end_without_the_last_state_is_a_broken_answer() -> None:
    with pytest.raises(UpstreamBroken, match="broke off"):
        read(frames(state("Hel"), state("Hello")))
    # Named as a whole conversation is, it is one.
    assert read(frames(state("Hello", displayName="A question"))) == [TextDelta("Hello"), Finished("stop")]


def test_a_conversation_that_was_ended_for_its_content() -> None:
    ended = state(turns=1, state="disengagedForRai")
    assert read(frames(ended)) == [Finished("content_filter")]
    assert Conversations(TARGET, PROMPT).whole(ended) == [Finished("content_filter")]


def test_an_error_inside_of_a_stream_keeps_its_class() -> None:
    with pytest.raises(UpstreamLimited):
        read(frames({"error": {"code": "429", "message": "slow down"}}))
    with pytest.raises(UpstreamBroken):
        read(b'event: error\ndata: {"code": "serviceUnavailable"}\n\n')


@pytest.mark.parametrize(
    "answer",
    [{}, {"messages": []}, {"messages": 3}, {"messages": ["x"]}, {"messages": {}}, {"messages": [{"text": PROMPT}]},
     {"messages": [{"text": 3}]}, state("a", "b", turns=1) | {"messages": [{}, {"text": "b", "attributions": [3]}]}],
)  # fmt: skip
def test_an_answer_of_another_shape_is_the_providers_failure(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamBroken):
        Conversations(TARGET, PROMPT).whole(answer)


KEYS = ["messages", "text", "attributions", "turnCount", "displayName", "state", "seeMoreWebUrl", "attributionType"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_read_or_is_the_providers_failure(sent: list[dict[str, Any]]) -> None:
    with contextlib.suppress(UpstreamError):
        read(frames(*sent))
    with contextlib.suppress(UpstreamError):
        Conversations(TARGET, PROMPT).whole(sent[0])
