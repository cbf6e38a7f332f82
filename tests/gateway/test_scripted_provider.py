"""The scripted provider itself: what tests rely on must hold before it can prove anything."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.answers import (
    Hold,
    Pause,
    Reset,
    Send,
    Stall,
    chunk,
    completion,
    cut_short,
    error,
    events_of,
    gzipped,
    html,
    raw,
    redirect,
    reply,
    reset_before_headers,
    silent,
    sse,
    stream,
    tool_deltas,
)
from tests.support.provider import ScriptedProvider

CHAT = "/v1/chat/completions"


@pytest.fixture
def ask(provider: ScriptedProvider) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{provider.port}", timeout=5) as client:
        yield client


def body(model: str = "scripted", **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "one two"}], **fields}


def payloads(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]


def test_it_echoes_without_a_programme(ask: httpx.Client) -> None:
    answer = ask.post(CHAT, json=body()).json()
    assert answer["choices"][0]["message"]["content"] == "one two"
    *chunks, done = payloads(ask.post(CHAT, json=body(stream=True)).text)
    assert done == "[DONE]"
    assert "".join(json.loads(item)["choices"][0]["delta"].get("content", "") for item in chunks) == "one two"


def test_it_lists_its_models(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.on("org/other", reply())
    assert [model["id"] for model in ask.get("/v1/models").json()["data"]] == ["scripted", "org/other"]


def test_it_records_what_arrived(provider: ScriptedProvider, ask: httpx.Client) -> None:
    ask.post(CHAT, json=body(), headers={"X-Trace": "7"})
    (request,) = provider.chats
    assert (request.method, request.path, request.header("x-trace")) == ("POST", CHAT, "7")
    assert request.json == body()
    assert request.finished.wait(1)
    assert not request.left.is_set()


def test_it_answers_by_model_and_by_queue(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.on("m", reply("by model"))
    provider.enqueue(error(429, "slow down", headers={"retry-after": "3"}))
    first = ask.post(CHAT, json=body("m"))
    assert (first.status_code, first.headers["retry-after"], first.json()["error"]["message"]) == (
        429,
        "3",
        "slow down",
    )
    for _ in range(2):
        assert ask.post(CHAT, json=body("m")).json()["choices"][0]["message"]["content"] == "by model"


def test_it_plays_a_stream_again(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.on("m", stream("a", "b"))
    assert ask.post(CHAT, json=body("m")).text == ask.post(CHAT, json=body("m")).text != ""


def test_it_keeps_connections_open(provider: ScriptedProvider, ask: httpx.Client) -> None:
    for _ in range(3):
        ask.post(CHAT, json=body(stream=True))
    assert provider.connections == 1


def test_it_sends_every_kind_of_status(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.enqueue(html(502), redirect("http://127.0.0.1:1/"), raw(b"{", status=200), gzipped(completion("packed")))
    assert ask.post(CHAT, json=body()).headers["content-type"] == "text/html"
    assert ask.post(CHAT, json=body()).headers["location"] == "http://127.0.0.1:1/"
    assert ask.post(CHAT, json=body()).content == b"{"
    assert ask.post(CHAT, json=body()).json()["choices"][0]["message"]["content"] == "packed"


def test_it_splits_packets_and_uses_other_line_ends(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.on("m", sse(events_of([{"content": "héllo"}]), newline=b"\r\n", packet=3))
    with ask.stream("POST", CHAT, json=body("m")) as answer:
        data = answer.read()
    assert b"\r\n\r\ndata: [DONE]\r\n\r\n" in data
    assert json.loads(payloads(data.decode())[1])["choices"][0]["delta"]["content"] == "héllo"


def test_it_places_usage_where_told() -> None:
    def with_usage(usage: str | None) -> list[bool]:
        return ["usage" in event for event in events_of([{"content": "x"}], usage=usage, done=False)]

    assert with_usage("own") == [False, False, False, True]
    assert with_usage("finish") == [False, False, True]
    assert with_usage(None) == [False, False, False]


def test_it_streams_tool_calls_in_pieces() -> None:
    deltas = tool_deltas("weather", ['{"city"', ': "Oslo"}'])
    assert "".join(delta["tool_calls"][0]["function"]["arguments"] for delta in deltas) == '{"city": "Oslo"}'


def test_it_resets_before_the_headers(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.enqueue(reset_before_headers())
    with pytest.raises(httpx.ReadError):
        ask.post(CHAT, json=body())


def test_it_resets_in_the_middle(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.on("m", sse([chunk({"content": "x"}), Pause(0.05), Reset()]))
    with ask.stream("POST", CHAT, json=body("m")) as answer, pytest.raises(httpx.ReadError):
        answer.read()


def test_it_cuts_a_plain_answer_short(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.on("m", cut_short(b'{"id":', 500))
    with pytest.raises(httpx.RemoteProtocolError):
        ask.post(CHAT, json=body("m"))


def test_it_stalls_and_sees_the_client_leave(provider: ScriptedProvider, ask: httpx.Client) -> None:
    provider.enqueue(silent(), sse([chunk({"content": "x"}), Stall()]))
    with pytest.raises(httpx.ReadTimeout):
        ask.post(CHAT, json=body(), timeout=0.1)
    with ask.stream("POST", CHAT, json=body()) as answer:
        next(answer.iter_lines())
    left = time.monotonic()
    for request in provider.chats:
        assert request.left.wait(1)
        assert not request.finished.is_set()
    assert provider.chats[1].left_at is not None
    assert abs(provider.chats[1].left_at - left) < 0.5


def test_it_waits_for_the_test(provider: ScriptedProvider, ask: httpx.Client) -> None:
    event = threading.Event()
    provider.on("m", sse([chunk({"content": "1"}), Hold(event), chunk({"content": "2"}), "[DONE]"]))
    with ask.stream("POST", CHAT, json=body("m")) as answer:
        lines = answer.iter_lines()
        assert '"1"' in next(lines)
        event.set()
        assert any('"2"' in line for line in lines)


def test_it_sends_no_more_than_the_client_reads(provider: ScriptedProvider, ask: httpx.Client) -> None:
    endless = (Send(b": " + b"x" * 65536 + b"\n\n") for _ in range(10_000))
    provider.on("m", sse(endless))
    with ask.stream("POST", CHAT, json=body("m")) as answer:
        next(answer.iter_raw())
        time.sleep(0.3)
        sent = provider.chats[0].bytes_sent
        time.sleep(0.1)
        assert provider.chats[0].bytes_sent == sent < 100_000_000
