"""What the OpenAI-compatible adapter lets through, holds back and refuses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.adapters.openai_chat import ChunkReader, parse_reply, wire_body
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamLimited, UpstreamRejected
from gateway.targets import Endpoint, Target
from gateway.upstream import Reply

TARGET = Target("openai_chat", 1, "Acme", 1, "m", "acme-m", Endpoint("Acme", "http://127.0.0.1:1/v1"))


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "1", "choices": [choice], **fields}) + b"\n\n"


ROLE = chunk({"role": "assistant", "content": ""})
HELLO = chunk({"content": "Hello"})
STOP = chunk({}, "stop")
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def test_it_forwards_the_original_bytes() -> None:
    odd = b'data:   {"choices" : [ {"delta":{"content":"\\u00e9"},"x":1} ],  "unknown": [1.0, 1e5]}\n\n'
    assert ChunkReader(TARGET).feed(odd) == odd


def test_it_holds_the_role_until_something_is_said() -> None:
    reader = ChunkReader(TARGET)
    assert reader.feed(ROLE) == b""
    assert reader.feed(HELLO) == ROLE + HELLO


def test_it_holds_the_finishing_chunk_for_usage() -> None:
    reader = ChunkReader(TARGET)
    assert reader.feed(ROLE + HELLO + STOP) == ROLE + HELLO
    assert reader.feed(USAGE) == b""
    assert reader.feed(DONE) == b""
    assert reader.done
    closing = reader.closing()
    assert closing.finish_bytes + b"\n\n" == STOP
    assert closing.usage_bytes + b"\n\n" == USAGE


def test_only_the_last_end_of_several_choices_is_held() -> None:
    reader = ChunkReader(TARGET)
    first, second = chunk({}, "stop", 0), chunk({}, "length", 1)
    assert reader.feed(HELLO + first) == HELLO
    assert reader.feed(chunk({"content": "x"}, index=1)) == first + chunk({"content": "x"}, index=1)
    assert reader.feed(second + DONE) == b""
    assert reader.closing().finish_bytes + b"\n\n" == second


def test_usage_beside_a_repeated_role_is_the_usage_of_the_stream() -> None:
    reader = ChunkReader(TARGET)
    last = chunk({"role": "assistant", "content": ""}, usage={"prompt_tokens": 1, "completion_tokens": 2})
    assert reader.feed(ROLE + HELLO + STOP) == ROLE + HELLO
    assert reader.feed(last + DONE) == b""
    closing = reader.closing()
    assert closing.finish_bytes + b"\n\n" == STOP
    assert closing.usage is not None
    assert closing.usage["usage"] == {"prompt_tokens": 1, "completion_tokens": 2}
    assert orjson.loads(closing.usage_bytes[6:])["choices"] == []


def test_an_answer_that_says_nothing_is_an_answer() -> None:
    reader = ChunkReader(TARGET)
    assert reader.feed(ROLE + STOP + DONE) == ROLE
    assert reader.closing().finish is not None


def test_it_drops_comments_pings_and_unknown_events() -> None:
    reader = ChunkReader(TARGET)
    noise = b': ping\n\nevent: execute\ndata: {"choices":[]}\n\nid: 3\n\n'
    assert reader.feed(noise + HELLO) == HELLO


def test_it_puts_a_multi_line_event_on_one_line() -> None:
    reader = ChunkReader(TARGET)
    passed = reader.feed(b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"a"}}]}\n\n')
    assert passed.count(b"\n") == 2
    assert orjson.loads(passed[6:])["choices"][0]["delta"]["content"] == "a"


def test_a_missing_done_is_complete_after_the_finishing_chunk() -> None:
    reader = ChunkReader(TARGET)
    reader.feed(HELLO + STOP)
    assert reader.end() == b""
    assert reader.done


def test_an_end_without_a_finishing_chunk_is_a_failure() -> None:
    reader = ChunkReader(TARGET)
    reader.feed(HELLO)
    with pytest.raises(UpstreamBroken, match="broke off"):
        reader.end()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b"data: not json\n\n", UpstreamBroken),
        (b"data: [1]\n\n", UpstreamBroken),
        (b'data: {"choices": [1]}\n\n', UpstreamBroken),
        (b'data: {"choices": {"a": 1}}\n\n', UpstreamBroken),
        (b'data: {"error": {"message": "overloaded"}}\n\n', UpstreamBroken),
        (b'data: {"error": {"message": "slow down", "code": 429}}\n\n', UpstreamLimited),
        (b'data: {"error": {"message": "bad", "type": "invalid_request_error"}}\n\n', UpstreamRejected),
        (b'event: error\ndata: {"message": "x"}\n\n', UpstreamBroken),
        (b"data: " + b"[" * 2000 + b"\n\n", UpstreamBroken),
        (b'data: {"a": "\xff"}\n\n', UpstreamBroken),
    ],
)
def test_it_refuses_what_is_no_chunk(event: bytes, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind):
        ChunkReader(TARGET).feed(event)


def test_the_opening_is_held_but_not_without_end() -> None:
    reader = ChunkReader(TARGET)
    assert reader.feed(ROLE * 32) == b""
    assert reader.feed(ROLE) == ROLE * 33
    large = chunk({"role": "assistant"}, pad="x" * 70_000)
    assert ChunkReader(TARGET).feed(large) == large


def test_what_came_before_a_broken_event_still_goes_out() -> None:
    reader = ChunkReader(TARGET)
    assert reader.feed(HELLO + b"data: {broken\n\n") == HELLO
    assert isinstance(reader.failure, UpstreamBroken)


def request(**body: Any) -> ChatRequest:
    return ChatRequest("m", None, body.get("stream", False), False, {"messages": [], **body})


def test_it_asks_for_usage_and_names_the_providers_model() -> None:
    body = orjson.loads(wire_body(request(stream=True, seed=1, made_up={"x": 1}), TARGET))
    expected = {"messages": [], "stream": True, "seed": 1, "made_up": {"x": 1}, "model": "acme-m"}
    assert body == expected | {"stream_options": {"include_usage": True}}


def test_it_keeps_quiet_about_usage_where_the_server_refuses_it() -> None:
    shy = Target("openai_chat", 1, "Acme", 1, "m", "m", TARGET.endpoint, asks_usage=False)
    assert "stream_options" not in orjson.loads(wire_body(request(stream=True, stream_options={"x": 1}), shy))


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"choices": 1}', b'{"choices": [1]}', b'{"error": {"message": "x"}}']
)
def test_a_plain_answer_must_be_a_completion(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        parse_reply(TARGET, Reply(200, (), body))
