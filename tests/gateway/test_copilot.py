"""Microsoft 365 Copilot behind the gateway, played by a scripted provider: two calls for each request."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway import operations
from gateway.discovery import DiscoveryFailed
from gateway.models import Provider
from gateway.snapshot import store
from gateway.upstream.request import MAX_PREPARED
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.protocols import PathProvider, fixture
from tests.support.provider import Recorded, ScriptedProvider

HI: Any = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]
TOKEN = "eyJ0eXAiOiJKV1QiLCJub25jZSI6InRlc3QifQ"
CONVERSATION = "/conversations/d0f6bffa-49d4-43c6-b93b-e7183f92b765"
TEXT = "You have **one** meeting at 9 AM: the standup [^1^]."


@pytest.fixture
def copilot() -> Iterator[PathProvider]:
    """Each conversation has the documented id; what is asked in it is programmed."""
    with PathProvider(lambda path: path.endswith(("/chat", "/chatOverStream"))) as running:
        running.says("/conversations", answers.reply_json(fixture("copilot/conversation.json"), status=201))
        yield running


def add(gateway: LiveGateway, copilot: PathProvider, **fields: Any) -> Provider:
    fields = {"name": "Copilot", "adapter": "copilot", "credentials": (TOKEN,), **fields}
    return gateway.add_provider(copilot.base_url, "m", **fields)


def test_a_plain_answer_with_its_sources(gateway: LiveGateway, copilot: PathProvider) -> None:
    add(gateway, copilot)
    copilot.enqueue(answers.reply_json(fixture("copilot/answer.json")))
    found = gateway.client().chat.completions.create(model="m", messages=HI)
    message = found.choices[0].message
    assert message.content == TEXT
    assert message.annotations
    assert message.annotations[0].url_citation.url == "https://teams.test/l/meeting/1"
    made, asked = copilot.requests
    assert (made.path, made.json) == ("/conversations", {})
    assert asked.path == f"{CONVERSATION}/chat"
    assert asked.json["message"] == {"text": "hi"}
    assert asked.json["additionalContext"][0]["text"] == "Be short."
    assert {request.header("authorization") for request in copilot.requests} == {f"Bearer {TOKEN}"}


def test_a_stream_says_each_word_once(gateway: LiveGateway, copilot: PathProvider) -> None:
    add(gateway, copilot)
    copilot.enqueue(answers.sse([fixture("copilot/stream.sse")], packet=97))
    chunks = list(gateway.client().chat.completions.create(model="m", messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage
    assert copilot.chats[0].path == f"{CONVERSATION}/chatOverStream"


def test_what_fails_midway_is_an_error_event(
    gateway: LiveGateway, copilot: PathProvider, provider: ScriptedProvider
) -> None:
    add(gateway, copilot, priority=1)
    gateway.add_provider(provider, "m", name="Second", priority=2)
    begun = {"displayName": "Intermediate Conversation Update", "turnCount": 0, "messages": [{"text": "Hel"}]}
    for ending in ([{"error": {"code": "x", "message": "gone"}}], [answers.Reset()], []):
        copilot.enqueue(answers.sse([begun, *ending]))
        with pytest.raises(openai.APIError, match="Copilot"):
            list(gateway.client().chat.completions.create(model="m", messages=HI, stream=True))
    assert not provider.chats


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("step", ["conversation", "message"])
def test_what_fails_before_is_answered_by_another(
    gateway: LiveGateway, copilot: PathProvider, provider: ScriptedProvider, step: str, status: int, streamed: bool
) -> None:
    add(gateway, copilot, priority=1)
    gateway.add_provider(provider, "m", name="Second", priority=2)
    refusal = answers.error(status, "no", code="x", headers={"retry-after": "7"})
    if step == "conversation":
        copilot.says("/conversations", refusal)
    copilot.enqueue(refusal)
    body = {"model": "m", "messages": HI, "stream": streamed}
    response = gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth())
    assert response.status_code == 200
    assert "error" not in response.text
    assert len(provider.chats) == 1


@pytest.mark.parametrize("answer", [{}, {"id": 3}, {"id": ""}, {"id": "x" * 600}, []], ids=str)
def test_a_conversation_without_a_usable_id_is_the_providers_failure(
    gateway: LiveGateway, copilot: PathProvider, answer: Any
) -> None:
    add(gateway, copilot)
    copilot.says("/conversations", answers.reply_json(answer, status=201))
    body = {"model": "m", "messages": HI}
    response = gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth())
    assert response.status_code == 502
    assert not copilot.chats


def test_an_id_cannot_lead_elsewhere(gateway: LiveGateway, copilot: PathProvider) -> None:
    add(gateway, copilot)
    copilot.says("/conversations", answers.reply_json({"id": "../x?y=1\r\nA: b"}, status=201))
    copilot.enqueue(answers.reply_json(fixture("copilot/answer.json")))
    assert gateway.client().chat.completions.create(model="m", messages=HI).choices
    assert copilot.chats[0].path == "/conversations/..%2Fx%3Fy%3D1%0D%0AA%3A%20b/chat"


def test_heads_of_conversations_that_are_over_are_not_kept(gateway: LiveGateway, copilot: PathProvider) -> None:
    add(gateway, copilot)
    numbers = itertools.count()

    def numbered(_: Recorded) -> answers.Answer:
        return answers.reply_json({"id": f"c{next(numbers)}"}, status=201)

    copilot.says("/conversations", numbered)
    for _ in range(MAX_PREPARED + 10):
        copilot.enqueue(answers.reply_json(fixture("copilot/answer.json")))
        body = {"model": "m", "messages": HI}
        assert gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth()).status_code == 200
    (policy,) = store.current.by_model["m"]
    assert all(len(target.prepared) <= MAX_PREPARED for target in policy.targets)


def test_a_token_is_tested_by_making_a_conversation(gateway: LiveGateway, copilot: PathProvider) -> None:
    row = add(gateway, copilot)
    (found,) = operations.test_provider(row)
    assert found.connection
    assert [request.path for request in copilot.requests] == ["/conversations"]
    with pytest.raises(DiscoveryFailed, match="has no list of models"):
        operations.sync_models(row)
    copilot.says("/conversations", answers.error(401, "expired"))
    (refused,) = operations.test_provider(row)
    assert "refused the credential" in refused.problem
