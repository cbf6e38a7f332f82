"""Events in the Responses API's words: each one, their order and numbers, and the object that they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import orjson
import pytest

from gateway import events
from gateway.errors import BadRequest, RateLimited, ServerStopping, Unavailable, UpstreamBroken
from gateway.events import (
    Citation,
    Event,
    Failed,
    Finished,
    MediaOutput,
    RawChunks,
    RawClosing,
    RawReply,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    Sound,
    Started,
    TextDelta,
    ToolCallDelta,
    Transcript,
    Usage,
)
from gateway.surfaces.responses.encoder import ResponseCollector, ResponseEncoder, response_error
from gateway.surfaces.responses.parser import ResponsesRequest, parse_response
from tests.support.openai_schema import check_events, check_response, typed_events

ENCRYPTED = ["reasoning.encrypted_content"]
SAMPLES: dict[type, tuple[Event, list[str]]] = {
    Started: (Started("A", "m"), ["created", "in_progress"]),
    TextDelta: (TextDelta("x"), ["output_item.added", "content_part.added", "output_text.delta"]),
    ReasoningDelta: (
        ReasoningDelta("x"),
        ["output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"],
    ),
    ReasoningSignature: (ReasoningSignature("c2ln"), ["output_item.added", "output_item.done"]),
    Citation: (
        Citation("https://example.com/", "Example", 0, 4),
        ["output_item.added", "content_part.added", "output_text.annotation.added"],
    ),
    MediaOutput: (
        MediaOutput("image/png", "aGk="),
        [
            "output_item.added",
            "image_generation_call.in_progress",
            "image_generation_call.generating",
            "image_generation_call.completed",
            "output_item.done",
        ],
    ),
    Refusal: (Refusal("no"), ["output_item.added", "content_part.added", "refusal.delta"]),
    ToolCallDelta: (ToolCallDelta(0, "1", "f", "{"), ["output_item.added", "function_call_arguments.delta"]),
    Usage: (Usage(1, 1, 1, 1), []),
    Finished: (Finished("stop"), []),
    Failed: (Failed(UpstreamBroken("x")), ["failed"]),
}
RAW: dict[type, Event] = {
    RawChunks: RawChunks(b""),
    RawClosing: RawClosing(None, b"", None, b""),
    RawReply: RawReply(b"", {}),
    Sound: Sound(b"x", "audio/mpeg"),
    Transcript: Transcript("x"),
}
EVERYTHING: list[Event] = [
    Started("Acme", "public-m"),
    ReasoningDelta("I th"),
    ReasoningDelta("ink."),
    ReasoningSignature("gAAAA"),
    TextDelta("It is "),
    TextDelta("4 degrees."),
    Citation("https://example.com/", "Oslo", 0, 5),
    Refusal("No more."),
    MediaOutput("image/png", "aGk="),
    ToolCallDelta(0, "call_1", "f"),
    ToolCallDelta(1, "call_2", "g", "{"),
    ToolCallDelta(0, arguments="{}"),
    ToolCallDelta(1, arguments="}"),
    Finished("tool_calls"),
    Usage(10, 5, 3, 2, cache_write_tokens=1),
]


def request(**fields: Any) -> ResponsesRequest:
    return parse_response(orjson.dumps({"model": "m", "input": "hi", **fields}))


def stream(given: Sequence[Event], **fields: Any) -> list[Any]:
    encoder = ResponseEncoder(request(stream=True, **fields))
    return typed_events(b"".join(encoder.encode(event) for event in given) + encoder.end())


def plain(given: Sequence[Event], **fields: Any) -> dict[str, Any]:
    collector = ResponseCollector(request(**fields))
    for event in given:
        collector.take(event)
    body: dict[str, Any] = orjson.loads(collector.body())
    return body


def test_no_event_is_forgotten() -> None:
    assert {*SAMPLES, *RAW} == set(get_args(events.Event))


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_each_event_is_told(kind: type) -> None:
    event, told = SAMPLES[kind]
    encoder = ResponseEncoder(request())
    assert [item["type"] for item in typed_events(encoder.encode(event))] == [f"response.{name}" for name in told]


@pytest.mark.parametrize("kind", RAW, ids=lambda kind: kind.__name__)
def test_bytes_of_another_protocol_are_refused(kind: type) -> None:
    with pytest.raises(TypeError):
        ResponseEncoder(request()).encode(RAW[kind])
    with pytest.raises(TypeError):
        ResponseCollector(request()).take(RAW[kind])


def test_a_stream_of_everything_is_as_openai_describes_it() -> None:
    told = stream(EVERYTHING, include=ENCRYPTED)
    check_events(told)
    kinds = [item["type"].removeprefix("response.") for item in told]
    for name in (
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_text.done", "content_part.done",
        "refusal.done", "function_call_arguments.done",
    ):  # fmt: skip
        assert name in kinds
    final = told[-1]["response"]
    done = {item["output_index"]: item["item"] for item in told if item["type"] == "response.output_item.done"}
    assert [done[at] for at in sorted(done)] == final["output"]


@pytest.mark.parametrize("fields", [{}, {"include": ENCRYPTED}, {"instructions": "x", "metadata": {"a": "b"}}])
def test_a_stream_and_a_plain_answer_come_to_the_same(fields: dict[str, Any]) -> None:
    final, whole = stream(EVERYTHING, **fields)[-1]["response"], plain(EVERYTHING, **fields)
    check_response(final)
    check_response(whole)
    changing = ("id", "created_at", "completed_at")
    ids = ("id",)
    for body in (final, whole):
        for name in changing:
            body.pop(name)
        for item in body["output"]:
            for name in ids:
                item.pop(name)
    assert final == whole


def test_a_plain_answer_holds_everything() -> None:
    body = plain(EVERYTHING, include=ENCRYPTED)
    thought, said, drawn, first, second = body["output"]
    assert (thought["summary"], thought["encrypted_content"]) == (
        [{"type": "summary_text", "text": "I think."}],
        "gAAAA",
    )
    text, refusal = said["content"]
    assert (text["text"], refusal["refusal"]) == ("It is 4 degrees.", "No more.")
    assert text["annotations"][0]["url"] == "https://example.com/"
    assert (drawn["type"], drawn["result"]) == ("image_generation_call", "aGk=")
    assert [(call["call_id"], call["name"], call["arguments"]) for call in (first, second)] == [
        ("call_1", "f", "{}"),
        ("call_2", "g", "{}"),
    ]
    assert body["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert (body["model"], body["provider"], body["output_text"]) == ("public-m", "Acme", "It is 4 degrees.")


def test_what_only_the_provider_can_read_is_shown_on_request_alone() -> None:
    assert "gAAAA" not in repr(plain(EVERYTHING))
    assert "gAAAA" not in repr(stream(EVERYTHING))
    assert "gAAAA" in repr(stream(EVERYTHING, include=ENCRYPTED))


def test_hidden_thoughts_are_an_item_without_words() -> None:
    body = plain([Started("A", "m"), ReasoningSignature("gAAAA", True), Finished("stop")], include=ENCRYPTED)
    check_response(body)
    assert (body["output"][0]["summary"], body["output"][0]["encrypted_content"]) == ([], "gAAAA")


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_the_end_says_whether_the_answer_is_whole(reason: str, status: str, why: Any) -> None:
    told = stream([Started("A", "m"), TextDelta("x"), Finished(reason)])
    check_events(told, f"response.{status}")
    final = told[-1]["response"]
    assert (final["status"], final["incomplete_details"], final["output"][0]["status"]) == (status, why, status)


def test_a_failure_is_the_last_event_and_says_its_class() -> None:
    encoder = ResponseEncoder(request(stream=True))
    given: list[Event] = [Started("A", "m"), TextDelta("Hel"), Failed(UpstreamBroken("it broke"))]
    told = typed_events(b"".join(encoder.encode(event) for event in given))
    assert [item["sequence_number"] for item in told] == list(range(6))
    check_response(told[-1]["response"])
    assert told[-1]["type"] == "response.failed"
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == "Hel"
    assert told[-1]["response"]["error"] == {"code": "server_error", "message": "it broke"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("x"), "rate_limit_exceeded"),
        (BadRequest("x"), "invalid_prompt"),
        (ServerStopping(), "server_error"),
    ],
)
def test_a_responses_own_error_has_a_code_that_openai_knows(error: Any, code: str) -> None:
    assert response_error(error)["code"] == code


def test_an_error_takes_the_number_of_the_end_that_could_not_be_sent() -> None:
    encoder = ResponseEncoder(request(stream=True))
    sent = typed_events(encoder.encode(Started("A", "m")) + encoder.encode(TextDelta("x")))
    encoder.end()
    (told,) = typed_events(encoder.error(Unavailable("no store", code="storage_unavailable")))
    assert told == {
        "type": "error",
        "sequence_number": len(sent),
        "code": "storage_unavailable",
        "message": "no store",
        "param": None,
    }


def test_pieces_of_calls_may_come_mixed_and_late_in_their_names() -> None:
    told = stream(
        [
            Started("A", "m"),
            ToolCallDelta(7, "call_a", None, '{"a"'),
            ToolCallDelta(10**9, "call_b", "g"),
            ToolCallDelta(7, None, "f", ":1"),
            ToolCallDelta(7, None, None, "}"),
            ToolCallDelta(8, "call_c"),
            Finished("tool_calls"),
        ]
    )
    check_events(told)
    found = [(call["call_id"], call["name"], call["arguments"]) for call in told[-1]["response"]["output"]]
    assert found == [("call_b", "g", ""), ("call_a", "f", '{"a":1}'), ("call_c", "", "")]


def test_a_call_without_an_id_gets_one() -> None:
    assert plain([Started("A", "m"), ToolCallDelta(0, None, "f"), Finished("tool_calls")])["output"][0]["call_id"]


def test_a_citation_may_come_after_the_words_were_over() -> None:
    told = stream(
        [Started("A", "m"), TextDelta("x"), ToolCallDelta(0, "1", "f"), Citation("https://e/"), Finished("tool_calls")]
    )
    check_events(told)
    assert len(told[-1]["response"]["output"][0]["content"][0]["annotations"]) == 1


def test_a_sound_is_a_part_of_a_message() -> None:
    told = stream([Started("A", "m"), MediaOutput("audio/wav", "aGk="), Finished("stop")])
    assert told[-1]["response"]["output"][0]["content"][0] == {"type": "output_audio", "data": "aGk=", "transcript": ""}


def test_other_choices_are_not_mixed_into_the_answer() -> None:
    body = plain([Started("A", "m"), TextDelta("a"), TextDelta("b", 1), Finished("stop"), Finished("length", 1)])
    assert (body["output_text"], body["status"]) == ("a", "completed")


def test_usage_is_estimated_where_the_provider_is_silent() -> None:
    encoder = ResponseEncoder(request(stream=True))
    encoder.encode(TextDelta("a"))
    encoder.end()
    assert encoder.usage
    assert encoder.usage.estimated
    assert encoder.usage.completion_tokens == 1


def test_a_failure_in_a_plain_answer_is_raised() -> None:
    with pytest.raises(UpstreamBroken):
        plain([Failed(UpstreamBroken("x"))])
