"""Every event through both encoders of OpenAI's surface."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest

from gateway import events
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken
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
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder
from gateway.tokens import read_usage


def request(*, include_usage: bool = False) -> ChatRequest:
    return ChatRequest("m", None, True, include_usage, {"messages": [{"role": "user", "content": "hello there"}]})


def chunks(found: list[Event], *, include_usage: bool = False) -> list[Any]:
    encoder = ChunkEncoder(request(include_usage=include_usage))
    data = b"".join([*(encoder.encode(event) for event in found), encoder.end()])
    lines = [line[6:] for line in data.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [orjson.loads(line) for line in lines]


def reply(found: list[Event]) -> Any:
    encoder = ReplyEncoder(request())
    for event in found:
        encoder.take(event)
    return orjson.loads(encoder.body())


ANSWER: list[Event] = [Started("Acme", "m"), TextDelta("Hel"), TextDelta("lo"), Usage(5, 2), Finished("stop")]


def test_a_stream_has_openais_order() -> None:
    first, second, last = chunks(ANSWER)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Hel"}
    assert second["choices"][0]["delta"] == {"content": "lo"}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert last["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert first["provider"] == "Acme"
    assert len({item["id"] for item in (first, second, last)}) == 1


def test_usage_comes_apart_when_asked_for() -> None:
    *_, finish, usage = chunks(ANSWER, include_usage=True)
    assert "usage" not in finish
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 7)


def test_tool_calls_are_pieces_with_a_stable_index() -> None:
    found = chunks(
        [Started("A", "m"), ToolCallDelta(0, "call_1", "f"), ToolCallDelta(0, arguments="{}"), Finished("tool_calls")]
    )
    first = found[0]["choices"][0]["delta"]
    assert first["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert first["content"] is None
    assert found[1]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]


def test_several_choices_each_end_and_the_last_carries_usage() -> None:
    found = chunks(
        [Started("A", "m"), TextDelta("a"), Finished("stop"), TextDelta("b", 1), Finished("length", 1), Usage(1, 2)]
    )
    ends = [(item["choices"][0]["index"], item["choices"][0]["finish_reason"], "usage" in item) for item in found]
    assert ends == [(0, None, False), (1, None, False), (0, "stop", False), (1, "length", True)]


def test_usage_is_estimated_where_the_provider_is_silent() -> None:
    encoder = ChunkEncoder(request())
    encoder.encode(TextDelta("a"))
    encoder.encode(Finished("stop"))
    encoder.end()
    assert encoder.usage is not None
    assert encoder.usage.estimated
    assert encoder.usage.completion_tokens == 1


FINISH = {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USED = {"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "odd": 1}}


def closing(finish: Any, usage: Any) -> RawClosing:
    return RawClosing(
        finish,
        b"data: " + orjson.dumps(finish) if finish else b"",
        usage,
        b"data: " + orjson.dumps(usage) if usage else b"",
    )


def test_raw_usage_rides_on_the_finishing_chunk_or_comes_apart() -> None:
    assert chunks([closing(FINISH, USED)]) == [{**FINISH, "usage": USED["usage"]}]
    assert chunks([closing(FINISH, USED)], include_usage=True) == [FINISH, USED]


def test_raw_usage_that_came_on_the_finishing_chunk() -> None:
    both = {**FINISH, "usage": USED["usage"]}
    assert chunks([closing(both, None)]) == [both]
    assert chunks([closing(both, None)], include_usage=True) == [
        FINISH,
        {"id": "x", "choices": [], "usage": USED["usage"]},
    ]


def test_raw_without_usage_gets_an_estimate() -> None:
    encoder = ChunkEncoder(request())
    assert encoder.encode(RawChunks(b"data: {}\n\ndata: {}\n\n")) == b"data: {}\n\ndata: {}\n\n"
    last = orjson.loads(encoder.encode(closing(FINISH, None))[6:])
    assert last["usage"]["completion_tokens"] == 2
    assert encoder.usage is not None
    assert encoder.usage.estimated


def test_raw_without_an_end_invents_nothing() -> None:
    assert chunks([closing(None, USED)]) == []
    assert chunks([closing(None, USED)], include_usage=True) == [USED]


def test_a_failure_is_an_error_frame() -> None:
    encoder = ChunkEncoder(request())
    frame = orjson.loads(encoder.encode(Failed(UpstreamBroken("Acme broke off.")))[6:])
    assert frame == {
        "error": {"message": "Acme broke off.", "type": "provider_error", "param": None, "code": "provider_not_working"}
    }


def test_a_plain_answer_is_collected() -> None:
    body = reply([Started("Acme", "m"), ReasoningDelta("hm"), *ANSWER[1:]])
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "hm"}
    assert (choice["finish_reason"], choice["logprobs"], body["provider"]) == ("stop", None, "Acme")


def test_a_plain_answer_with_tools() -> None:
    body = reply(
        [
            ToolCallDelta(0, "1", "f"),
            ToolCallDelta(0, arguments="{}"),
            ToolCallDelta(1, "2", "g"),
            Finished("tool_calls"),
        ]
    )
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": ""},
    ]


COMPLETE = {
    "id": "x",
    "choices": [
        {
            "index": 0,
            "logprobs": None,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "é", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "unknown": {"kept": 1.50},
}


def test_a_raw_reply_passes_with_the_provider_spliced_in() -> None:
    data = b' {"a":1.50 , ' + orjson.dumps(COMPLETE)[1:]
    encoder = ReplyEncoder(request())
    encoder.take(Started("Acme", "m"))
    encoder.take(RawReply(data, orjson.loads(data)))
    assert encoder.body() == b' {"provider":"Acme","a":1.50 , ' + orjson.dumps(COMPLETE)[1:]


def test_a_raw_reply_that_names_its_provider_passes_as_it_is() -> None:
    data = orjson.dumps({**COMPLETE, "provider": "Theirs"})
    encoder = ReplyEncoder(request())
    encoder.take(RawReply(data, orjson.loads(data)))
    assert encoder.body() == data


def test_a_raw_reply_gets_the_keys_that_openai_promises() -> None:
    bare = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}]}
    body = reply([Started("Acme", "m"), RawReply(orjson.dumps(bare), bare)])
    message = body["choices"][0]["message"]
    assert (message["content"], message["refusal"], body["choices"][0]["logprobs"]) == (None, None, None)
    assert body["usage"]["total_tokens"] > 0
    assert body["provider"] == "Acme"


def test_a_failure_in_a_plain_answer_is_raised() -> None:
    with pytest.raises(UpstreamBroken):
        reply([Failed(UpstreamBroken("x"))])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": 3}, Usage(3, 0)),
        (
            {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1},
             "completion_tokens_details": {"reasoning_tokens": 2}},
            Usage(3, 4, 1, 2),
        ),
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(3, 4)),
    ],
)  # fmt: skip
def test_a_providers_usage_is_read_with_care(value: Any, expected: Usage | None) -> None:
    assert read_usage(value) == expected


def test_raw_events_belong_to_their_own_encoder() -> None:
    with pytest.raises(TypeError):
        ChunkEncoder(request()).encode(RawReply(b"{}", {}))
    with pytest.raises(TypeError):
        ReplyEncoder(request()).take(RawChunks(b""))


SAMPLES: dict[type, Event] = {
    Started: Started("A", "m"),
    TextDelta: TextDelta("x"),
    ReasoningDelta: ReasoningDelta("x"),
    ReasoningSignature: ReasoningSignature("c2ln"),
    Citation: Citation("https://example.com/", "Example", 0, 4),
    MediaOutput: MediaOutput("image/png", "aGk="),
    Refusal: Refusal("no"),
    ToolCallDelta: ToolCallDelta(0, "1", "f"),
    Usage: Usage(1, 1, 1, 1),
    Finished: Finished("stop"),
    Failed: Failed(UpstreamBroken("x")),
    RawChunks: RawChunks(b"data: {}\n\n"),
    RawClosing: closing(FINISH, USED),
    RawReply: RawReply(b"{}", {}),
    Sound: Sound(b"ID3", "audio/mpeg"),
    Transcript: Transcript("x"),
}
# Of answers that no chat has.
OTHERS = (RawReply, Sound, Transcript)


def test_no_event_is_forgotten() -> None:
    assert set(SAMPLES) == set(get_args(events.Event))
    for kind, event in SAMPLES.items():
        if kind not in OTHERS:
            assert isinstance(ChunkEncoder(request()).encode(event), bytes)
