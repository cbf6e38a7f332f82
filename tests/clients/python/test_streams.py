"""Streams through the gateway: bytes, order, usage, pauses and clients that leave."""

from __future__ import annotations

import threading
import time
from typing import Any

import openai
import pytest

from tests.clients.core import QUESTION
from tests.support.answers import Hold, Pause, chunk, error, events_of, frame, gzipped, reply, sse, stream
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error, check_stream, sse_payloads
from tests.support.provider import ScriptedProvider

BODY = {"model": "scripted", "messages": QUESTION, "stream": True}
ASKED = {**BODY, "stream_options": {"include_usage": True}}


@pytest.fixture(autouse=True)
def connected(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)


def post(gateway: LiveGateway, body: Any) -> Any:
    return gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth())


@pytest.mark.parametrize("usage", ["own", "finish", None])
@pytest.mark.parametrize("body", [BODY, ASKED], ids=["plain", "asked"])
def test_usage_comes_where_it_was_asked_for(
    gateway: LiveGateway, provider: ScriptedProvider, body: Any, usage: str | None
) -> None:
    """Wherever the provider puts it, and if it says nothing, by estimate."""
    provider.on("scripted", stream("Hello ", "there", usage=usage))
    *chunks, done = sse_payloads(post(gateway, body).content)
    assert done == "[DONE]"
    check_stream(chunks, include_usage="stream_options" in body)
    if usage:
        assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.parametrize("options", [
    {"newline": b"\r\n"}, {"newline": b"\r"}, {"packet": 1}, {"packet": 7, "newline": b"\r\n"}, {"chunked": False},
], ids=str)  # fmt: skip
def test_framing_does_not_matter(gateway: LiveGateway, provider: ScriptedProvider, options: Any) -> None:
    provider.on("scripted", stream("Grüße ", "☃", **options))
    answer = post(gateway, ASKED)
    assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
    *chunks, done = sse_payloads(answer.content)
    assert done == "[DONE]"
    check_stream(chunks, include_usage=True)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "Grüße ☃"


def test_events_pass_as_their_bytes(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    odd = (
        b'data: {"id":"x",  "object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":"\\u00e9\\/"},"finish_reason":null}],"big":1e2}\n\n'
    )
    provider.on("scripted", sse([odd, *events_of([{"content": "x"}])[1:]]))
    assert odd in post(gateway, BODY).content


def test_comments_pings_and_unknown_events_are_dropped(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    noise = [
        b": OPENROUTER PROCESSING\n\n",
        b"event: ping\ndata: {}\n\n",
        b'event: odd\ndata: {"a":1}\n\n',
        b"id: 7\n\n",
    ]
    first, *rest = events_of([{"content": "x"}])
    provider.on("scripted", sse([*noise, first, *noise, *rest]))
    *chunks, _ = sse_payloads(post(gateway, ASKED).content)
    check_stream(chunks, include_usage=True)


def test_a_large_event_passes_and_an_endless_one_does_not(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("scripted", stream("x" * 3_000_000))
    *chunks, _ = sse_payloads(post(gateway, ASKED).content)
    check_stream(chunks, include_usage=True)
    huge = [b"data: " + b"x" * 1_000_000] + [b"x" * 1_000_000] * 6
    provider.on("scripted", sse([chunk({"content": "begun"}), *huge]))
    *_, failure = [item for item in sse_payloads(post(gateway, BODY).content) if item != "[DONE]"]
    check_error(failure)


def test_chunks_are_not_held_back(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on(
        "scripted",
        sse([chunk({"role": "assistant", "content": "now"}), Hold(gate), *events_of([{"content": "later"}])[1:]]),
    )
    with gateway.client().chat.completions.create(model="scripted", messages=QUESTION, stream=True) as answer:
        parts = iter(answer)
        assert next(parts).choices[0].delta.content == "now"
        gate.set()
        assert next(parts).choices[0].delta.content == "later"


def test_a_failure_before_the_first_word_is_a_status(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    """Also when the provider had begun with 200 and chunks that say nothing."""
    opening = chunk({"role": "assistant", "content": ""})
    provider.on("scripted", sse([opening, {"error": {"message": "overloaded", "type": "server_error"}}]))
    answer = post(gateway, BODY)
    assert answer.status_code == 502
    check_error(answer.json())
    provider.on("scripted", gzipped({"choices": []}))
    assert post(gateway, BODY).status_code == 502


def test_a_plain_answer_to_a_stream_is_not_passed_off_as_one(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    """Servers that ignore `stream` answer JSON: a proper stream or a proper error, never a mix."""
    provider.on("scripted", reply("whole"))
    answer = post(gateway, BODY)
    if answer.status_code == 200:
        *chunks, done = sse_payloads(answer.content)
        assert done == "[DONE]"
        check_stream(chunks, include_usage=False)
    else:
        assert answer.status_code == 502
        check_error(answer.json())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_frees_the_provider(
    gateway: LiveGateway, provider: ScriptedProvider, streamed: bool
) -> None:
    never = threading.Event()
    provider.on(
        "scripted", sse([chunk({"role": "assistant", "content": "x"}), Hold(never)]) if streamed else slow(never)
    )
    client = gateway.client(timeout=0.5)
    if streamed:
        answer = client.chat.completions.create(model="scripted", messages=QUESTION, stream=True)
        next(iter(answer))
        left = time.monotonic()
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="scripted", messages=QUESTION)
        left = time.monotonic()
    client.close()
    request = provider.wait_for(1)
    assert request.left.wait(2)
    assert request.left_at is not None
    # 100 ms is the promise; a busy machine gets some more.
    assert request.left_at - left < 0.5


def slow(event: threading.Event) -> Any:
    from tests.support.answers import Answer

    return Answer(b"", (Hold(event),))


def test_another_provider_answers_when_nothing_was_seen(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("scripted", error(500))
    with ScriptedProvider() as second:
        second.on("scripted", stream("from the ", "second"))
        gateway.add_provider(second, name="Second")
        *chunks, _ = sse_payloads(post(gateway, ASKED).content)
        check_stream(chunks, include_usage=True)
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "from the second"
        assert (len(provider.chats), len(second.chats)) == (1, 1)


def test_no_other_provider_continues_what_was_begun(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("scripted", sse([chunk({"role": "assistant", "content": "first"}), Pause(0.1), "{broken"]))
    with ScriptedProvider() as second:
        gateway.add_provider(second, name="Second")
        payloads = [item for item in sse_payloads(post(gateway, BODY).content) if item != "[DONE]"]
        check_error(payloads[-1])
        assert second.chats == []


def test_the_next_credential_is_tried(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    with ScriptedProvider() as keyed:
        keyed.on(
            "two-keys", lambda request: reply("ok") if "good" in (request.header("authorization") or "") else error(401)
        )
        gateway.add_provider(keyed, "two-keys", name="Keyed", credentials=["sk-spent-00000001", "sk-good-000000001"])
        answer = gateway.client().chat.completions.create(model="two-keys", messages=QUESTION)
        assert answer.choices[0].message.content == "ok"


def test_headers_say_what_clients_read(gateway: LiveGateway) -> None:
    raw = gateway.client().chat.completions.with_raw_response.create(model="scripted", messages=QUESTION)
    assert raw.headers["x-request-id"]
    assert float(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["cache-control"] == "no-store"
    assert "server" not in raw.headers
    assert raw.parse().choices[0].message.content == QUESTION[0]["content"]
    streamed = gateway.http.post("/v1/chat/completions", json=BODY, headers=gateway.auth())
    assert streamed.headers["x-request-id"] != raw.headers["x-request-id"]
    assert streamed.headers["cache-control"] == "no-store"
    assert frame("[DONE]") in streamed.content


def test_a_client_that_does_not_read_holds_the_provider_back(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    endless = (chunk({"content": "x" * 16_384}) for _ in range(20_000))
    provider.on("scripted", sse(endless))
    with gateway.http.stream("POST", "/v1/chat/completions", json=BODY, headers=gateway.auth()) as answer:
        next(answer.iter_raw())
        request = provider.wait_for(1)
        time.sleep(0.5)
        sent = request.bytes_sent
        time.sleep(0.3)
        # What the sockets' own buffers take is some megabytes; all of it would be 330.
        assert request.bytes_sent == sent < 30_000_000
    assert request.left.wait(2)
