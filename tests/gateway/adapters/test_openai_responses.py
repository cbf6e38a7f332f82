"""Requests in the Responses protocol's words, and its answers and streams as events."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.openai_responses import OpenAIResponsesAdapter
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import Records
from gateway.chat import ChatRequest
from gateway.errors import (
    UnsupportedParameter,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRejected,
)
from gateway.events import (
    Citation,
    Event,
    Finished,
    MediaOutput,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.surfaces.responses.encoder import ResponseCollector, ResponseEncoder
from gateway.surfaces.responses.parser import ResponsesRequest, parse_response
from gateway.targets import Endpoint, Target
from tests.support.openai_schema import check

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/openai_responses"
TARGET = Target("openai_responses", 1, "Acme", 1, "m", "gpt-upstream", Endpoint("Acme", "http://127.0.0.1:1/v1"))
ADAPTER = OpenAIResponsesAdapter()
HELLO = [{"role": "user", "content": "hello"}]


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def chat(stream: bool = False, **body: Any) -> ChatRequest:
    return ChatRequest("m", None, stream, False, {"messages": HELLO, **body})


def sent(request: ChatRequest) -> dict[str, Any]:
    return dict(ADAPTER.body(TARGET, request))


def streamed(data: bytes, packet: int | None = None) -> list[Event]:
    records = Records(TARGET, ADAPTER.reader(TARGET), EventSplitter())
    events: list[Event] = []
    for start in range(0, len(data), packet or len(data) or 1):
        if not records.done:
            events += records.feed(data[start : start + (packet or len(data))])
        if records.failure is not None:
            raise records.failure
    if not records.done:
        events += records.end()
    return events


def frames(*events: Any) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)


def joined(events: Sequence[Event]) -> list[Event]:
    """Pieces of the same thing put together, so that a stream and a whole answer can be compared."""
    found: list[Event] = []
    calls: dict[int, ToolCallDelta] = {}
    for event in events:
        last = found[-1] if found else None
        match event, last:
            case TextDelta(text), TextDelta(before):
                found[-1] = TextDelta(before + text)
            case ReasoningDelta(text), ReasoningDelta(before):
                found[-1] = ReasoningDelta(before + text)
            case Refusal(text), Refusal(before):
                found[-1] = Refusal(before + text)
            case ToolCallDelta(), _ if event.position in calls:
                calls[event.position].arguments += event.arguments
            case ToolCallDelta(), _:
                calls[event.position] = ToolCallDelta(event.position, event.id, event.name, event.arguments)
                found.append(calls[event.position])
            case _:
                found.append(event)
    return found


WHOLE: list[Event] = [
    ReasoningDelta("First thought.\n\nSecond thought."),
    ReasoningSignature("gAAAA-signed"),
    TextDelta("It is 4 degrees."),
    Citation("https://example.com/oslo", "Oslo", 0, 13),
    MediaOutput("image/webp", "aW1hZ2U="),
    ToolCallDelta(0, "call_1", "get_weather", '{"city":"Oslo"}'),
    ToolCallDelta(1, "call_2", "get_weather", '{"city":"Bergen"}'),
    Finished("tool_calls"),
    Usage(36, 87, cached_tokens=12, reasoning_tokens=64, cache_write_tokens=4),
]


def test_a_whole_request_is_translated() -> None:
    body = sent(chat(**fixture("chat.json")))
    assert json.loads(orjson.dumps(body)) == fixture("request.json")
    # OpenAI's document wants ids of reasoning, which belong to what its servers have stored; encrypted it needs none.
    check("CreateResponse", {**body, "input": [item for item in body["input"] if item["type"] != "reasoning"]})


def test_a_whole_answer_becomes_events() -> None:
    assert list(ADAPTER.answer(TARGET, fixture("answer.json"))) == WHOLE


@pytest.mark.parametrize("packet", [None, 1, 50])
def test_a_stream_becomes_the_same_events(packet: int | None) -> None:
    assert joined(streamed((FIXTURES / "stream.sse").read_bytes(), packet)) == WHOLE


def test_a_stream_without_deltas_loses_nothing() -> None:
    """Some servers send items only when they are done."""
    kept = ("response.created", "response.output_item.done", "response.completed")
    events = [json.loads(line[6:]) for line in (FIXTURES / "stream.sse").read_text().splitlines() if "data: " in line]
    assert joined(streamed(frames(*(event for event in events if event["type"] in kept)))) == WHOLE


def test_nothing_is_stored_at_the_provider() -> None:
    assert sent(chat(stream=True)) == {
        "model": "gpt-upstream",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
        "store": False,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("stop", "x"), ("stop", ["x"]), ("n", 2), ("presence_penalty", 1), ("frequency_penalty", 0.5), ("top_k", 4),
     ("logit_bias", {"1": 2}), ("logprobs", True), ("audio", {}), ("prediction", {})],
)  # fmt: skip
def test_what_the_protocol_lacks_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        sent(chat(**{name: value}))
    assert (caught.value.status, caught.value.param) == (400, name)


@pytest.mark.parametrize(("name", "value"), [("n", 1), ("presence_penalty", 0), ("stop", []), ("logprobs", False)])
def test_what_asks_for_nothing_is_not_refused(name: str, value: Any) -> None:
    assert name not in sent(chat(**{name: value}))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "function", "name": "f", "content": "x"},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "video_url", "video_url": {}}]},
        {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "https://x/"}}]},
    ],
)
def test_messages_that_cannot_be_said_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        sent(chat(messages=[message]))
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("body", "reasoning", "included"),
    [
        ({}, None, False),
        ({"reasoning_effort": "high"}, {"effort": "high"}, True),
        ({"reasoning_effort": "none"}, {"effort": "none"}, False),
        ({"reasoning": {"effort": "low"}}, {"effort": "low", "summary": "auto"}, True),
        ({"reasoning": {"effort": "low", "exclude": True}}, {"effort": "low"}, True),
        ({"reasoning": {"max_tokens": 4000}}, {"effort": "medium", "summary": "auto"}, True),
        ({"reasoning": {"max_tokens": 40000}}, {"effort": "high", "summary": "auto"}, True),
        ({"reasoning": "nonsense"}, None, False),
    ],
)
def test_reasoning_is_asked_for_only_where_the_caller_wants_it(body: Any, reasoning: Any, included: bool) -> None:
    found = sent(chat(**body))
    assert found.get("reasoning") == reasoning
    assert ("include" in found) is included


def test_a_caller_of_the_same_protocol_is_heard_in_its_own_words() -> None:
    asked = {"model": "m", "input": "hi", "truncation": "auto", "reasoning": {"effort": "low", "summary": "detailed"},
             "include": ["reasoning.encrypted_content"]}  # fmt: skip
    found = sent(parse_response(orjson.dumps(asked)))
    assert found["truncation"] == "auto"
    assert found["reasoning"] == {"effort": "low", "summary": "detailed"}
    assert found["include"] == ["reasoning.encrypted_content"]


def test_a_providers_own_tools_go_as_they_were_named() -> None:
    assert sent(chat(tools=[{"type": "web_search"}]))["tools"] == [{"type": "web_search"}]
    with pytest.raises(UnsupportedParameter):
        sent(chat(tools=[{"type": "custom", "custom": {"name": "x"}}]))


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "length"), ({"reason": "content_filter"}, "content_filter"), (None, "length")],
)
def test_an_incomplete_answer_says_why(details: Any, reason: str) -> None:
    body = {"status": "incomplete", "incomplete_details": details, "output": []}
    assert list(ADAPTER.answer(TARGET, body)) == [Finished(reason)]
    assert streamed(frames({"type": "response.incomplete", "response": body})) == [Finished(reason)]


FAILURES = [
    ({"code": "rate_limit_exceeded", "message": "slow"}, UpstreamLimited, "rate_limit_exceeded"),
    ({"code": "server_error", "message": "secret internals"}, UpstreamBroken, "provider_not_working"),
    ({"code": "invalid_prompt", "message": "no such prompt"}, UpstreamRejected, "invalid_prompt"),
    ({"code": "invalid_image_url", "message": "no image"}, UpstreamRejected, "invalid_image_url"),
    ({"code": "context_length_exceeded", "message": "long"}, UpstreamRejected, "context_length_exceeded"),
    (None, UpstreamBroken, "provider_not_working"),
    ("text", UpstreamBroken, "provider_not_working"),
]


@pytest.mark.parametrize(("error", "kind", "code"), FAILURES)
def test_a_failure_has_its_class_wherever_it_is_told(error: Any, kind: type, code: str) -> None:
    failed = {"status": "failed", "error": error, "output": []}
    with pytest.raises(UpstreamError) as plain:
        list(ADAPTER.answer(TARGET, failed))
    with pytest.raises(UpstreamError) as late:
        streamed(frames({"type": "response.failed", "response": failed}))
    for caught in (plain.value, late.value):
        assert (type(caught), caught.code) == (kind, code)
        assert "internals" not in caught.message


@pytest.mark.parametrize("nested", [False, True])
def test_an_error_event_is_a_failure_in_either_form(nested: bool) -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow", "param": None}
    with pytest.raises(UpstreamLimited):
        streamed(frames({"type": "error", "error": error} if nested else {"type": "error", **error}))


def test_an_answer_that_is_still_under_way_is_none() -> None:
    for body in ({"status": "in_progress", "output": []}, {"status": "completed"}, {"output": [7]}):
        with pytest.raises(UpstreamBroken):
            list(ADAPTER.answer(TARGET, body))


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    with pytest.raises(UpstreamBroken):
        streamed(frames({"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"}))


KEYS = st.sampled_from(
    ["type", "item", "delta", "response", "output", "status", "output_index", "content", "summary", "annotation",
     "usage", "error", "code", "text", "arguments", "incomplete_details", "result", "input_tokens", "call_id", "name",
     "url"]
)  # fmt: skip
KINDS = st.sampled_from(
    ["response.output_item.done", "response.output_item.added", "response.output_text.delta", "response.completed",
     "response.function_call_arguments.delta", "response.failed", "response.incomplete", "error", "message",
     "reasoning", "function_call", "image_generation_call", "response.output_text.annotation.added", "output_text",
     "url_citation"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
OBJECT = st.dictionaries(KEYS, JSON, max_size=6)
SPOKEN = st.builds(lambda kind, body: {**body, "type": kind}, KINDS, OBJECT)


@settings(max_examples=150, deadline=None)
@given(OBJECT, st.lists(SPOKEN, max_size=4))
def test_whatever_a_provider_sends_is_an_answer_or_a_failure(body: dict[str, Any], events: list[Any]) -> None:
    for read in (lambda: ADAPTER.answer(TARGET, body), lambda: streamed(frames(*events))):
        with contextlib.suppress(UpstreamError):
            read()


WORDS = st.text(min_size=1, max_size=8)
SAID = st.one_of(
    st.builds(TextDelta, WORDS),
    st.builds(ReasoningDelta, WORDS),
    st.builds(Refusal, WORDS),
    st.builds(lambda data: MediaOutput("image/png", data), WORDS),
    st.builds(lambda url: Citation(url, "t", 0, 1), WORDS),
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = draw(st.lists(SAID, max_size=6))
    for position in range(draw(st.integers(0, 2))):
        events.append(ToolCallDelta(position, f"call_{position}", draw(WORDS), draw(st.text(max_size=5))))
        events += [ToolCallDelta(position, arguments=piece) for piece in draw(st.lists(WORDS, max_size=2))]
    calls = any(isinstance(event, ToolCallDelta) for event in events)
    return [*events, Finished("tool_calls" if calls else "stop"), Usage(3, 4, 1, 2, cache_write_tokens=0)]


def ordered(events: Sequence[Event]) -> list[Event]:
    """Where words are cited is not kept exactly: a citation goes to the words before it."""
    noted = [event for event in joined(events) if isinstance(event, Citation)]
    return [*joined([event for event in events if not isinstance(event, Citation)]), *noted]


@settings(max_examples=150, deadline=None)
@given(answers())
def test_an_answer_survives_the_way_out_and_in_again(events: list[Event]) -> None:
    request = parse_response(b'{"model":"m","input":"hi"}')
    assert isinstance(request, ResponsesRequest)
    collector, encoder = ResponseCollector(request), ResponseEncoder(request)
    for event in events:
        collector.take(event)
    stream = b"".join(encoder.encode(event) for event in events) + encoder.end()
    whole = list(ADAPTER.answer(TARGET, orjson.loads(collector.body())))
    wanted = sorted(map(repr, ordered(events)))
    assert sorted(map(repr, ordered(whole))) == wanted
    assert sorted(map(repr, ordered(streamed(stream)))) == wanted


@pytest.mark.parametrize("again", [False, True])
def test_a_request_survives_the_way_in_and_out_again(again: bool) -> None:
    """What the surface reads of a request is what the adapter sends, whatever was said."""
    wire = fixture("request.json")
    if again:
        wire["tool_choice"] = "auto"
    found = json.loads(orjson.dumps(sent(parse_response(orjson.dumps(wire)))))
    for body in (wire, found):
        for item in body["input"]:
            item.pop("status", None)
            for part in item["content"] if isinstance(item.get("content"), list) else ():
                part.pop("annotations", None), part.pop("logprobs", None)
    assert found == wire
