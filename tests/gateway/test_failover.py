"""Who is asked after a failure, by what went wrong, over sockets; and what the caller is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from gateway.breaker import breaker
from gateway.errors import UpstreamRejected
from gateway.failover import classified
from gateway.models import ProviderModel
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOO_LONG = answers.error(400, "This model's maximum context length is 8 tokens.", code="context_length_exceeded")
both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def fresh_breaker() -> None:
    breaker.clear()


@pytest.fixture
def providers() -> Iterator[list[ScriptedProvider]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedProvider()) for _ in range(3)]


def add(gateway: LiveGateway, providers: list[ScriptedProvider], *failures: answers.Answer, **fields: Any) -> None:
    """A, B and C with model m; as many of them fail as there are failures."""
    for name, scripted in zip("ABC", providers, strict=True):
        gateway.add_provider(scripted, "m", name=name, **fields)
    for scripted, failure in zip(providers, failures, strict=False):
        scripted.on("m", failure)


def contexts(gateway: LiveGateway, *lengths: int | None) -> None:
    for name, length in zip("ABC", lengths, strict=True):
        ProviderModel.objects.filter(provider__name=name).update(context_length=length)
    gateway.reload()


def ask(gateway: LiveGateway, stream: bool = False, **more: Any) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json={**CHAT, "stream": stream, **more}, headers=gateway.auth())


def counts(providers: list[ScriptedProvider]) -> list[int]:
    return [len(scripted.chats) for scripted in providers]


@both
def test_what_was_tried_is_told_with_the_answer(
    gateway: LiveGateway, providers: list[ScriptedProvider], stream: bool
) -> None:
    add(gateway, providers, answers.error(429), answers.error(500))
    response = ask(gateway, stream)
    assert response.status_code == 200
    assert response.headers["x-gateway-attempts"] == "A/m 429, B/m 502, C/m 200"
    # Once it is known who answers there is nothing to tell.
    assert "x-gateway-attempts" not in ask(gateway, stream, model="C/m").headers


@both
def test_what_was_tried_is_told_with_the_error(
    gateway: LiveGateway, providers: list[ScriptedProvider], stream: bool
) -> None:
    add(gateway, providers, *[answers.error(500)] * 3)
    response = ask(gateway, stream)
    assert response.status_code == 502
    assert response.headers["x-gateway-attempts"] == "A/m 502, B/m 502, C/m 502"


@both
def test_what_is_too_long_goes_only_where_there_is_more_room(
    gateway: LiveGateway, providers: list[ScriptedProvider], stream: bool
) -> None:
    add(gateway, providers, TOO_LONG, TOO_LONG, credentials=("sk-upstream-1", "sk-upstream-2"))
    contexts(gateway, 8000, 8000, 16000)
    assert ask(gateway, stream).status_code == 200
    assert counts(providers) == [1, 0, 1]
    contexts(gateway, 8000, None, 4000)
    response = ask(gateway, stream)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert counts(providers) == [2, 1, 1]


def test_a_malformed_request_gets_one_second_opinion(gateway: LiveGateway, providers: list[ScriptedProvider]) -> None:
    add(gateway, providers, answers.error(400, "bad field", param="x"), answers.error(422, "bad"))
    response = ask(gateway)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "x")
    assert counts(providers) == [1, 1, 0]


def test_a_model_that_a_provider_no_longer_has_is_no_fault_of_the_caller(
    gateway: LiveGateway, providers: list[ScriptedProvider]
) -> None:
    add(gateway, providers, answers.error(404), answers.error(404))
    assert ask(gateway).json()["provider"] == "C"


@pytest.mark.parametrize("obeyed", [True, False])
def test_a_content_policy_is_passed_by_only_when_the_operator_says_so(
    gateway: LiveGateway, providers: list[ScriptedProvider], settings: Settings, obeyed: bool
) -> None:
    settings.FAILOVER_CONTENT_POLICY = not obeyed
    flagged = {"code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "..."}}
    add(gateway, providers, answers.error(400, code="content_filter"), answers.error(403, **flagged))
    response = ask(gateway)
    assert counts(providers) == ([1, 0, 0] if obeyed else [1, 1, 1])
    assert response.status_code == (400 if obeyed else 200)
    # Nobody's credential is to blame.
    assert not breaker._states


@both
def test_a_broken_provider_is_left_for_another_before_its_next_credential(
    gateway: LiveGateway, providers: list[ScriptedProvider], stream: bool
) -> None:
    add(gateway, providers, answers.error(500), credentials=("sk-upstream-1", "sk-upstream-2"))
    assert ask(gateway, stream).status_code == 200
    assert counts(providers) == [1, 1, 0]


@both
def test_a_limited_credential_is_followed_by_the_next_one(
    gateway: LiveGateway, providers: list[ScriptedProvider], stream: bool
) -> None:
    add(gateway, providers, credentials=("sk-upstream-1", "sk-upstream-2"))
    providers[0].enqueue(answers.error(429))
    assert ask(gateway, stream).status_code == 200
    assert counts(providers) == [2, 0, 0]
    assert [item.header("authorization") for item in providers[0].chats] == [
        "Bearer sk-upstream-1",
        "Bearer sk-upstream-2",
    ]


@both
def test_preferences_and_further_models_steer_a_request(
    gateway: LiveGateway, providers: list[ScriptedProvider], stream: bool
) -> None:
    add(gateway, providers, answers.error(500))
    response = ask(gateway, stream, model="nope", models=["m"], provider={"order": ["c", "a"], "ignore": ["A"]})
    assert response.status_code == 200
    assert counts(providers) == [0, 0, 1]
    assert set(providers[2].chats[0].json) <= {"model", "messages", "stream", "stream_options"}
    assert "warning" not in response.headers
    warned = ask(gateway, stream, provider={"sort": "price", "only": ["B"]})
    assert warned.headers["warning"] == '299 g4fsite "ignored: provider.sort"'


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("prompt is too long: 213 tokens > 200 maximum", "context_length_exceeded"),
        ("The input token count (9) exceeds the maximum number of tokens allowed (8).", "context_length_exceeded"),
        ("the request exceeds the available context size, try increasing it", "context_length_exceeded"),
        ("Prompt contains 9 tokens, too large for model with 8 maximum context length", "context_length_exceeded"),
        ("Output blocked by content filtering policy", "content_policy_violation"),
        ("Your request was rejected as a result of our safety system.", "content_policy_violation"),
        ("Unknown field 'x'", "provider_rejected_request"),
    ],
)
def test_providers_words_are_understood(said: str, code: str) -> None:
    assert classified(UpstreamRejected(said)).code == code
    assert classified(UpstreamRejected(said, code="their_own")).code == "their_own"


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_where_there_is_nobody_else_another_credential_is_asked(
    gateway: LiveGateway, provider: ScriptedProvider, status: int
) -> None:
    provider.enqueue(answers.error(status))
    gateway.add_provider(provider, "m", credentials=("sk-upstream-1", "sk-upstream-2"))
    assert ask(gateway).status_code == 200
