"""Each failure reaches the official client as the exception class that its users catch."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from tests.clients.core import QUESTION
from tests.support.answers import (
    Pause,
    Reset,
    chunk,
    error,
    events_of,
    html,
    raw,
    redirect,
    reply,
    reset_before_headers,
    sse,
    stream,
)
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error
from tests.support.provider import ScriptedProvider


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    answer = client.chat.completions.create(**{"model": "scripted", "messages": QUESTION, **fields})
    return list(answer) if fields.get("stream") else answer


@pytest.fixture
def client(gateway: LiveGateway, provider: ScriptedProvider) -> openai.OpenAI:
    gateway.add_provider(provider)
    return gateway.client()


def check(caught: pytest.ExceptionInfo[openai.APIStatusError]) -> openai.APIStatusError:
    check_error(caught.value.response.json())
    assert caught.value.response.headers["content-type"].startswith("application/json")
    assert caught.value.request_id
    return caught.value


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, 400, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"max_tokens": 1.5}, 400, "max_tokens"),
        ({"stop": {"a": 1}}, 400, "stop"),
        ({"tools": {}}, 400, "tools"),
        ({"model": None}, 400, "model"),
        ({"temperature": 3}, 422, "temperature"),
        ({"top_p": -0.1}, 422, "top_p"),
        ({"max_tokens": 0}, 422, "max_tokens"),
    ],
)
def test_bad_requests(
    client: openai.OpenAI, provider: ScriptedProvider, streamed: bool, fields: dict[str, Any], status: int, param: str
) -> None:
    expected = {400: openai.BadRequestError, 422: openai.UnprocessableEntityError}[status]
    with pytest.raises(expected) as caught:
        ask(client, **{"model": "scripted", "messages": QUESTION, "stream": streamed, **fields})
    failure = check(caught)
    assert (failure.status_code, failure.param, failure.type) == (status, param, "invalid_request_error")
    assert provider.chats == []


def test_a_key_for_other_models_is_403(client: openai.OpenAI, gateway: LiveGateway, alice: Any) -> None:
    restricted = client.with_options(api_key=gateway.make_key(alice, models=["another"]))
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask(restricted)
    assert check(caught).code == "model_not_allowed"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (413, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
    ],
)
def test_what_concerns_the_request_is_passed_on(
    client: openai.OpenAI,
    provider: ScriptedProvider,
    streamed: bool,
    status: int,
    expected: type[openai.APIStatusError],
) -> None:
    provider.on("scripted", error(status, "the context is too long", code="context_length_exceeded", param="messages"))
    with pytest.raises(expected) as caught:
        ask(client, stream=streamed)
    failure = check(caught)
    assert failure.status_code == status
    assert "the context is too long" in failure.message
    if status != 429:
        assert (failure.code, failure.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_credential_is_never_the_callers_fault(
    client: openai.OpenAI, provider: ScriptedProvider, streamed: bool, status: int
) -> None:
    provider.on("scripted", error(status, "Incorrect API key provided: sk-upstream-credential-1"))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, stream=streamed)
    failure = check(caught)
    assert failure.status_code in {502, 503}
    assert "sk-upstream" not in failure.response.text
    assert "Incorrect API key" not in failure.response.text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        error(500, "stack trace of theirs"),
        error(503, "overloaded"),
        html(502),
        html(200),
        redirect("http://127.0.0.1:1/v1/chat/completions"),
        raw(b"{not json"),
        raw(b"[]"),
        reset_before_headers(),
    ],
    ids=["500", "503", "html-502", "html-200", "redirect", "broken-json", "no-object", "reset"],
)
def test_a_broken_provider_is_5xx(
    client: openai.OpenAI, provider: ScriptedProvider, streamed: bool, answer: Any
) -> None:
    provider.on("scripted", answer)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, stream=streamed)
    failure = check(caught)
    assert failure.type == "provider_error"
    assert failure.status_code in {502, 503}
    for secret in ("stack trace", "<html", "127.0.0.1:1"):
        assert secret not in failure.response.text


def test_retry_after_is_passed_on_and_honoured(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.enqueue(error(429, "slow down", headers={"retry-after": "1"}), reply("after a while"))
    begun = time.monotonic()
    answer = ask(client.with_options(max_retries=1))
    assert answer.choices[0].message.content == "after a while"
    assert 0.9 < time.monotonic() - begun < 4


def test_the_rate_limit_says_when_to_come_back(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.on("scripted", error(429, "slow down", headers={"retry-after": "7"}))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    headers = check(caught).response.headers
    assert headers["retry-after"] == "7"
    assert headers["retry-after-ms"] == "7000"


@pytest.mark.parametrize(
    "breaking",
    [
        {"error": {"message": "overloaded", "type": "server_error", "code": 500}},
        Reset(),
        "{broken",
        "[1, 2]",
    ],
    ids=["error-object", "reset", "broken-json", "no-object"],
)
def test_a_stream_that_breaks_raises_after_what_came(
    client: openai.OpenAI, provider: ScriptedProvider, breaking: Any
) -> None:
    said = chunk({"role": "assistant", "content": "Hel"})
    # In a packet of its own: what the caller has not seen yet may still become a status.
    provider.on("scripted", sse([said, Pause(0.1), breaking]))
    text = ""
    with pytest.raises(openai.APIError) as caught:
        for part in client.chat.completions.create(model="scripted", messages=QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    assert text == "Hel"
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert isinstance(caught.value.body, dict)
    assert {"message", "type", "param", "code"} <= caught.value.body.keys()


def test_a_stream_that_ends_without_finishing_raises(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.on("scripted", sse(events_of([{"content": "Hel"}], finish=None, usage=None, done=False)))
    with pytest.raises(openai.APIError):
        ask(client, stream=True)


def test_a_missing_end_mark_is_forgiven(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.on("scripted", stream("Hello", done=False))
    chunks = ask(client, stream=True)
    assert chunks[-1].usage.total_tokens == 10


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/v1/chat/completions", 405, "method_not_supported"),
    ("POST", "/v1/fine_tuning/jobs", 404, "unknown_url"),
    ("GET", "/v1/nothing/here", 404, "unknown_url"),
])  # fmt: skip
def test_other_paths_have_the_envelope_too(
    gateway: LiveGateway, method: str, path: str, status: int, code: str
) -> None:
    answer = gateway.http.request(method, path, headers=gateway.auth())
    assert (answer.status_code, check_error(answer.json())["code"]) == (status, code)
