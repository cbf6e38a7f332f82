"""Every event through both encoders of Anthropic's surface."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest

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
from gateway.surfaces.anthropic.encoder import MessageStream
from gateway.surfaces.anthropic.reply import MessageReply

CHAT = ChatRequest("m", None, True, False, {"messages": [{"role": "user", "content": "hello there"}]}, raw=False)
STARTED = Started("Acme", "m")


def stream(*found: Event) -> list[Any]:
    encoder = MessageStream(CHAT)
    data = b"".join([*(encoder.encode(event) for event in found), encoder.end()])
    events = []
    for piece in data.decode().split("\n\n")[:-1]:
        name, _, line = piece.partition("\n")
        events.append(orjson.loads(line.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def reply(*found: Event) -> Any:
    encoder = MessageReply(CHAT)
    for event in found:
        encoder.take(event)
    return orjson.loads(encoder.body())


def collected(events: list[Any]) -> list[Any]:
    """The blocks as a client puts them together; blocks must follow one another."""
    blocks: list[Any] = []
    is_open = False
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
            is_open = True
        elif event["type"] == "content_block_delta":
            assert is_open
            assert event["index"] == len(blocks) - 1
            _add(blocks[-1], event["delta"])
        elif event["type"] == "content_block_stop":
            assert is_open
            assert event["index"] == len(blocks) - 1
            is_open = False
    assert not is_open
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = orjson.loads(block.pop("json", "") or "{}")
    return blocks


def _add(block: Any, delta: Any) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": text}:
            block["thinking"] += text
        case {"type": "signature_delta", "signature": data}:
            block["signature"] = data
        case {"type": "input_json_delta", "partial_json": text}:
            block["json"] = block.get("json", "") + text
        case {"type": "citations_delta", "citation": source}:
            block.setdefault("citations", []).append(source)
        case _:
            raise AssertionError(delta)


def test_a_stream_has_anthropics_order() -> None:
    start, ping, opened, first, second, closed, delta, stop = stream(
        STARTED, TextDelta("Hel"), TextDelta("lo"), Usage(9, 2, 4, 1, cache_write_tokens=3), Finished("stop")
    )
    message = start["message"]
    assert message["id"].startswith("msg_")
    assert (message["model"], message["content"], message["stop_reason"]) == ("m", [], None)
    assert message["usage"]["input_tokens"] > 0
    assert ping == {"type": "ping"}
    assert opened["content_block"] == {"type": "text", "text": ""}
    assert [first["delta"]["text"], second["delta"]["text"]] == ["Hel", "lo"]
    assert closed == {"type": "content_block_stop", "index": 0}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
        "output_tokens_details": {"thinking_tokens": 1},
    }
    assert stop == {"type": "message_stop"}


SOURCE = {
    "type": "web_search_result_location",
    "url": "https://a.example/",
    "title": "A",
    "cited_text": "",
    "encrypted_index": "",
}
TABLE: list[tuple[list[Event], list[Any]]] = [
    ([TextDelta("a"), TextDelta("b")], [{"type": "text", "text": "ab"}]),
    (
        [ReasoningDelta("a"), ReasoningDelta("b"), TextDelta("c")],
        [{"type": "thinking", "thinking": "ab", "signature": ""}, {"type": "text", "text": "c"}],
    ),
    (
        [ReasoningDelta("a"), ReasoningSignature("s"), ReasoningDelta("b"), ReasoningSignature("t")],
        [
            {"type": "thinking", "thinking": "a", "signature": "s"},
            {"type": "thinking", "thinking": "b", "signature": "t"},
        ],
    ),
    ([ReasoningSignature("s")], [{"type": "thinking", "thinking": "", "signature": "s"}]),
    ([ReasoningSignature("r", redacted=True)], [{"type": "redacted_thinking", "data": "r"}]),
    ([TextDelta("a"), Citation("https://a.example/", "A")], [{"type": "text", "text": "a", "citations": [SOURCE]}]),
    ([MediaOutput("image/png", "QQ==")], [{"type": "text", "text": "![image](data:image/png;base64,QQ==)"}]),
    ([MediaOutput("audio/wav", "QQ==")], [{"type": "text", "text": "[audio](data:audio/wav;base64,QQ==)"}]),
    ([Refusal("No.")], [{"type": "text", "text": "No."}]),
    (
        [
            TextDelta("a"),
            ToolCallDelta(0, "i", "f"),
            ToolCallDelta(0, arguments='{"x"'),
            ToolCallDelta(0, arguments=":1}"),
        ],
        [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "i", "name": "f", "input": {"x": 1}}],
    ),
    (
        # Side by side, as some servers write them.
        [
            ToolCallDelta(0, "i", "f"),
            ToolCallDelta(1, "j", "g"),
            ToolCallDelta(0, arguments='{"x":1}'),
            ToolCallDelta(1, arguments='{"y":2}'),
            TextDelta("after"),
            ToolCallDelta(2, "k", "h", "{}"),
        ],
        [
            {"type": "tool_use", "id": "i", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "j", "name": "g", "input": {"y": 2}},
            {"type": "text", "text": "after"},
            {"type": "tool_use", "id": "k", "name": "h", "input": {}},
        ],
    ),
    ([TextDelta("other choice", 1)], []),
    ([], []),
]


@pytest.mark.parametrize(("found", "blocks"), TABLE)
def test_events_become_blocks_in_streams_and_whole_messages(found: list[Event], blocks: list[Any]) -> None:
    assert collected(stream(STARTED, *found, Finished("stop"))) == blocks
    assert reply(STARTED, *found, Finished("stop"))["content"] == blocks


@pytest.mark.parametrize(
    ("found", "reason", "sequence"),
    [
        ([Finished("stop")], "end_turn", None),
        ([Finished("stop", stop="END")], "stop_sequence", "END"),
        ([Finished("length")], "max_tokens", None),
        ([Finished("tool_calls")], "tool_use", None),
        ([Finished("content_filter")], "refusal", None),
        ([Finished("odd")], "end_turn", None),
        ([ToolCallDelta(0, "i", "f"), Finished("stop")], "tool_use", None),
        ([Refusal("No."), Finished("stop")], "refusal", None),
        ([TextDelta("a")], "end_turn", None),
        ([Finished("length"), Finished("stop", 1)], "max_tokens", None),
    ],
)
def test_why_it_ended(found: list[Event], reason: str, sequence: str | None) -> None:
    expected = {"stop_reason": reason, "stop_sequence": sequence}
    assert stream(STARTED, *found)[-2]["delta"] == expected
    message = reply(STARTED, *found)
    assert {name: message[name] for name in expected} == expected


def test_what_a_provider_of_this_protocol_sent_passes_unchanged() -> None:
    encoder = MessageStream(CHAT)
    sent = b"event: ping\ndata: {}\n\n"
    assert encoder.encode(RawChunks(sent)) == sent
    assert encoder.encode(Usage(1, 2)) + encoder.encode(Finished("stop")) + encoder.end() == b""
    assert encoder.usage == Usage(1, 2)
    whole = MessageReply(CHAT)
    whole.take(RawReply(b'{"odd": 1}', {"odd": 1}))
    assert whole.body() == b'{"odd": 1}'


def test_a_failure_is_the_last_event_of_a_stream_or_the_answer() -> None:
    error = UpstreamBroken("Acme broke off its answer.")
    error.request_id = "req_1"
    frame = MessageStream(CHAT).encode(Failed(error))
    assert frame.startswith(b"event: error\ndata: ")
    assert orjson.loads(frame.split(b"data: ")[1]) == {
        "type": "error",
        "error": {"type": "api_error", "message": "Acme broke off its answer."},
        "request_id": "req_1",
    }
    with pytest.raises(UpstreamBroken):
        reply(Failed(error))


def test_usage_is_estimated_where_the_provider_is_silent() -> None:
    encoder = MessageStream(CHAT)
    encoder.encode(TextDelta("a"))
    encoder.end()
    assert encoder.usage is not None
    assert encoder.usage.estimated


def test_arguments_that_are_no_object_stay_readable() -> None:
    assert reply(ToolCallDelta(0, "i", "f", "{bad"))["content"][0]["input"] == {"arguments": "{bad"}


def test_events_of_another_kind_of_answer_are_a_mistake_of_ours() -> None:
    for event in (RawClosing(None, b"", None, b""), RawReply(b"", {}), Sound(b"x", "audio/mpeg"), Transcript("x")):
        with pytest.raises(TypeError):
            MessageStream(CHAT).encode(event)
    for other in (RawClosing(None, b"", None, b""), RawChunks(b""), Sound(b"x", "audio/mpeg"), Transcript("x")):
        with pytest.raises(TypeError):
            MessageReply(CHAT).take(other)


def test_no_event_is_forgotten() -> None:
    tried = {type(event) for found, _ in TABLE for event in found}
    others = {Started, Usage, Finished, Failed, RawChunks, RawClosing, RawReply, Sound, Transcript}
    assert tried | others == set(get_args(Event))
