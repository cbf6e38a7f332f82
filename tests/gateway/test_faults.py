"""What a fault of a provider looks like from outside: status, code, id, log line, row, and who is tried next."""

from __future__ import annotations

import contextlib
import email.utils
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from gateway.breaker import breaker
from gateway.models import UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway, raw_request
from tests.support.openai_schema import check_error, sse_payloads
from tests.support.peer import nobody_accepts
from tests.support.provider import ScriptedProvider

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
BEGUN = answers.chunk({"role": "assistant", "content": "begun"})
both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def fresh_breaker() -> None:
    breaker.clear()


def ask(gateway: LiveGateway, stream: bool = False, **more: Any) -> httpx.Response:
    body = {**CHAT, "stream": stream, **more}
    return gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth())


def the_row() -> UsageEvent:
    deadline = time.monotonic() + 5
    while not UsageEvent.objects.exists() and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.02)
    return UsageEvent.objects.get()


@both
@pytest.mark.parametrize(
    ("answer", "status"),
    [(answers.error(500, "their own words"), 502), (answers.silent(), 504), (answers.error(401), 502)],
    ids=["500", "silent", "401"],
)
def test_a_5xx_names_the_one_line_that_the_log_has_of_it(
    gateway: LiveGateway,
    provider: ScriptedProvider,
    caplog: pytest.LogCaptureFixture,
    stream: bool,
    answer: answers.Answer,
    status: int,
) -> None:
    provider.on("scripted", answer)
    gateway.add_provider(provider, timeout=1, first_event_timeout=1)
    with caplog.at_level(logging.INFO):
        response = ask(gateway, stream)
    request_id = response.headers["x-request-id"]
    assert response.status_code == status
    assert request_id in check_error(response.json())["message"]
    lines = [record for record in caplog.records if getattr(record, "request_id", "") == request_id]
    assert len(lines) == 1
    assert "Scripted" in lines[0].getMessage()
    assert "their own words" not in response.text + caplog.text
    assert the_row().request_id == request_id


def test_a_failure_in_a_stream_names_it_too(
    gateway: LiveGateway, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.on("scripted", answers.sse([BEGUN, answers.Pause(0.1), answers.Reset()]))
    gateway.add_provider(provider)
    with caplog.at_level(logging.INFO):
        response = ask(gateway, stream=True)
    *_, failure = [item for item in sse_payloads(response.content) if item != "[DONE]"]
    assert response.headers["x-request-id"] in check_error(failure)["message"]
    assert caplog.text.count("answered 502") == 1


def test_without_a_provider_it_is_the_same(gateway: LiveGateway, caplog: pytest.LogCaptureFixture) -> None:
    assert gateway.key
    response = ask(gateway, model="default")
    assert response.status_code == 503
    assert response.headers["x-request-id"] in check_error(response.json())["message"]
    assert caplog.text.count("answered 503") == 1


@both
def test_a_provider_that_takes_no_connection_is_504(gateway: LiveGateway, stream: bool) -> None:
    with nobody_accepts() as url:
        gateway.add_provider(url, connect_timeout=1)
        begun = time.monotonic()
        response = ask(gateway, stream)
        assert (response.status_code, check_error(response.json())["code"]) == (504, "provider_timeout")
        assert 0.9 < time.monotonic() - begun < 3


@both
def test_a_proxy_that_does_not_connect_is_502_and_says_nothing_of_itself(
    gateway: LiveGateway, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    with ScriptedProvider() as proxy:
        proxy.enqueue(answers.html(407, "who are you?"))
        given = f"http://ops:planted-password@127.0.0.1:{proxy.port}"
        gateway.add_provider("https://models.example/v1", proxy=given, allow_private=False)
        with caplog.at_level(logging.DEBUG):
            response = ask(gateway, stream)
        assert (response.status_code, check_error(response.json())["code"]) == (502, "provider_not_working")
        [connect] = proxy.requests
    assert (connect.method, connect.path) == ("CONNECT", "models.example:443")
    assert "planted" not in response.text + caplog.text
    assert "127.0.0.1" not in response.text
    row = the_row()
    assert (row.status, row.http_status, row.error_code) == ("error", 502, "provider_not_working")


@both
def test_the_next_provider_has_time_of_its_own(gateway: LiveGateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.enqueue(answers.silent(), answers.stream("late") if stream else answers.reply("late"))
    gateway.add_provider(provider, name="Silent", timeout=1, first_event_timeout=1)
    gateway.add_provider(provider, name="Good", timeout=1, first_event_timeout=1)
    response = ask(gateway, stream)
    assert response.status_code == 200
    assert "late" in response.text
    row = the_row()
    assert [attempt.get("code") for attempt in row.attempts] == ["provider_timeout", None]
    assert (row.status, row.provider_name) == ("ok", "Good")


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        (lambda: {"retry-after": "30"}, 30),
        (lambda: {"retry-after": email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=30), True)}, 30),
        (lambda: {"retry-after-ms": "30000", "retry-after": "1"}, 30),
        (dict, 10),
    ],
    ids=["seconds", "date", "milliseconds", "none"],
)
def test_a_limit_is_left_alone_for_as_long_as_it_says(
    gateway: LiveGateway,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
    headers: Callable[[], dict[str, str]],
    wait: float,
) -> None:
    ahead = 0.0
    monkeypatch.setattr(breaker, "_clock", lambda: time.monotonic() + ahead)
    with ScriptedProvider() as second:
        provider.enqueue(answers.error(429, "slow down", headers=headers()))
        gateway.add_provider(provider, name="Limited")
        gateway.add_provider(second, name="Second")
        for _ in range(3):
            assert ask(gateway).json()["provider"] == "Second"
        assert len(provider.chats) == 1
        ahead = wait - 3
        assert ask(gateway).json()["provider"] == "Second"
        ahead = wait + 1
        assert ask(gateway).json()["provider"] == "Limited"
        assert (len(provider.chats), len(second.chats)) == (2, 4)


def test_the_callers_wait_is_the_first_providers(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(
        answers.error(429, "the first says wait", headers={"retry-after-ms": "2500"}),
        answers.error(500, "the second fails"),
    )
    gateway.add_provider(provider, name="First")
    gateway.add_provider(provider, name="Second")
    response = ask(gateway)
    assert response.status_code == 429
    assert "the first says wait" in response.text
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("3", "2500")


def test_a_refused_credential_steps_back_for_that_model_alone(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    def by_credential(request: Any) -> answers.Answer:
        spent = "spent" in request.header("authorization") and request.json["model"] == "one"
        return answers.error(401) if spent else answers.reply()

    for model in ("one", "two"):
        provider.on(model, by_credential)
    gateway.add_provider(provider, "one", "two", credentials=["sk-spent-00000001", "sk-good-000000001"])

    def used(model: str) -> list[str]:
        before = len(provider.chats)
        assert ask(gateway, model=model).status_code == 200
        return ["spent" if "spent" in (r.header("authorization") or "") else "good" for r in provider.chats[before:]]

    assert used("one") == ["spent", "good"]
    assert used("one") == ["good"]
    assert used("two") == ["spent"]


def test_only_one_request_probes_a_provider_that_was_down(
    gateway: LiveGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    monkeypatch.setattr(breaker, "_clock", lambda: time.monotonic() + ahead)
    provider.on("scripted", answers.error(500))
    with ScriptedProvider() as second:
        gateway.add_provider(provider, name="Down")
        gateway.add_provider(second, name="Second")
        for _ in range(5):
            assert ask(gateway).json()["provider"] == "Second"
        # Three in a row opened it.
        assert len(provider.chats) == 3
        go = threading.Event()
        held = answers.reply("back")
        provider.on("scripted", answers.Answer(b"", (answers.Hold(go), answers.Send(held.head), *held.body)))
        ahead = 31
        probe = threading.Thread(target=ask, args=(gateway,))
        probe.start()
        provider.wait_for(4)
        for _ in range(5):
            assert ask(gateway).json()["provider"] == "Second"
        assert len(provider.chats) == 4
        go.set()
        probe.join(5)
        assert ask(gateway).json()["provider"] == "Down"


def test_when_all_are_open_the_first_is_still_tried(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(*[answers.error(500)] * 6)
    gateway.add_provider(provider, name="First")
    gateway.add_provider(provider, name="Second")
    for _ in range(3):
        assert ask(gateway).status_code == 502
    assert len(provider.chats) == 6
    assert ask(gateway).json()["provider"] == "First"


@pytest.mark.parametrize("packet", [None, 1, 3])
def test_marks_names_and_split_data_reach_the_caller_as_one_line(
    gateway: LiveGateway, provider: ScriptedProvider, packet: int | None
) -> None:
    """A byte order mark, a named event, an event over several data lines, fields without a space, ids and retries."""
    said = b'\xef\xbb\xbfretry: 5\nid: 1\nevent: message\ndata:{"id":"x","object":"chat.completion.chunk",\n'
    said += b'data: "created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant",\n'
    said += 'data: "content":"Grüße ☃"},"finish_reason":null}]}\n\n'.encode()
    provider.on("scripted", answers.sse([said, *answers.events_of([])[1:]], packet=packet))
    gateway.add_provider(provider)
    *chunks, done = sse_payloads(ask(gateway, stream=True).content)
    assert done == "[DONE]"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "Grüße ☃"


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices": [{"index": 0, "delta": {"content": "\xff\xfe"}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "\xed\xa0\x80"}}]}\n\n',
        b'data: {"choices": "none"}\n\n',
        b'data: {"choices": [1]}\n\n',
        b"data: " + b"[" * 5000 + b"\n\n",
        b"data: NaN\n\n",
        b"data: {\x00}\n\n",
        b"data: <html></html>\n\n",
        b"event: error\ndata: {}\n\n",
        b'event: error\ndata: {"message": "overloaded"}\n\n',
        b'data: {"error": "text"}\n\n',
        b'data: {"error": {"message": {"a": 1}, "code": [1]}}\n\n',
    ],
    ids=[
        "bad-utf-8", "surrogate", "choices-text", "choice-number", "deep", "nan", "nul", "html", "error-empty",
        "error-event", "error-text", "error-odd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("begun", [False, True], ids=["first", "later"])
def test_a_broken_event_is_a_status_or_an_error_frame(
    gateway: LiveGateway, provider: ScriptedProvider, broken: bytes, begun: bool
) -> None:
    provider.on("scripted", answers.sse([BEGUN, answers.Pause(0.05), broken] if begun else [broken]))
    gateway.add_provider(provider)
    response = ask(gateway, stream=True)
    if not begun:
        assert response.status_code == 502
        check_error(response.json())
        return
    *_, failure = sse_payloads(response.content)
    assert response.status_code == 200
    check_error(failure)
    assert the_row().status == "error"


def test_arguments_beyond_an_events_size_end_with_an_error(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    first, last = answers.tool_deltas("f", ["x" * 5_000_000])
    provider.on("scripted", answers.sse(answers.events_of([first, last])))
    gateway.add_provider(provider)
    *_, failure = sse_payloads(ask(gateway, stream=True).content)
    assert "too large" in check_error(failure)["message"]


@both
def test_a_bomb_of_gzip_is_not_unpacked(gateway: LiveGateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.on("scripted", answers.gzipped({"choices": ["0" * 50_000_000]}))
    gateway.add_provider(provider)
    response = ask(gateway, stream)
    assert response.status_code == 502
    assert "compressed" in check_error(response.json())["message"]


def test_a_provider_that_hangs_takes_nothing_from_the_others(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Settings
) -> None:
    settings.MAX_STREAMS_PER_KEY = 0
    gateway.add_provider(provider)

    def slowest(client: httpx.Client) -> float:
        times = []
        for _ in range(60):
            begun = time.perf_counter()
            response = client.post("/v1/chat/completions", json=CHAT, headers=gateway.auth())
            assert response.status_code == 200
            times.append(time.perf_counter() - begun)
        return sorted(times)[56]

    with ScriptedProvider() as hanging:
        hanging.on("hanging", answers.silent())
        gateway.add_provider(hanging, "hanging", name="Hanging")
        alone = slowest(gateway.http)
        with contextlib.ExitStack() as stuck:
            for number in range(200):
                body = {**CHAT, "model": "hanging", "stream": number % 2 == 0}
                stuck.enter_context(raw_request(gateway.url, gateway.key, body))
            hanging.wait_for(200, 20)
            # The promise is a tenth more; what is tested is that nobody waits for a place.
            assert slowest(gateway.http) < 3 * alone + 0.1
