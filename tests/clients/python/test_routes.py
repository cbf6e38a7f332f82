"""Ways to name a provider and to show a key, as the official client can use them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.clients.core import QUESTION
from tests.support.answers import completion, reply, reply_json
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_completion, check_error
from tests.support.provider import ScriptedProvider


@pytest.fixture
def second(gateway: LiveGateway, provider: ScriptedProvider) -> Any:
    """Two providers have the same model; the first is asked unless a request says otherwise."""
    provider.on("shared", reply("first"))
    gateway.add_provider(provider, "shared", name="First")
    with ScriptedProvider() as other:
        other.on("shared", reply("second"))
        gateway.add_provider(other, "shared", name="Second")
        yield other


def said(client: openai.OpenAI, **fields: Any) -> str | None:
    answer = client.chat.completions.create(**{"model": "shared", "messages": QUESTION, **fields})
    text: str | None = answer.choices[0].message.content
    return text


def test_the_first_provider_answers(gateway: LiveGateway, second: ScriptedProvider) -> None:
    assert said(gateway.client()) == "first"


@pytest.mark.parametrize("name", ["Second", "second", "SECOND"])
def test_a_provider_is_chosen_by_body_path_or_model(gateway: LiveGateway, second: ScriptedProvider, name: str) -> None:
    assert said(gateway.client(), extra_body={"provider": name}) == "second"
    assert said(gateway.client(base_url=f"{gateway.url}/api/{name}")) == "second"
    assert said(gateway.client(), model=f"{name}/shared") == "second"
    assert second.wait_for(3).json["model"] == "shared"


def test_the_path_wins_over_the_body(gateway: LiveGateway, second: ScriptedProvider) -> None:
    assert said(gateway.client(base_url=f"{gateway.url}/api/Second"), extra_body={"provider": "First"}) == "second"


def test_a_providers_models_are_listed(gateway: LiveGateway, second: ScriptedProvider) -> None:
    assert "shared" in [model.id for model in gateway.client(base_url=f"{gateway.url}/api/Second").models.list()]


def test_an_unknown_provider_is_404(gateway: LiveGateway, second: ScriptedProvider) -> None:
    for client, extra in (
        (gateway.client(), {"provider": "Nobody"}),
        (gateway.client(base_url=f"{gateway.url}/api/Nobody"), {}),
        (gateway.client(), {"provider": "http://127.0.0.1:9/v1"}),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            said(client, extra_body=extra)
        assert check_error(caught.value.response.json())["code"] == "provider_not_found"


@pytest.mark.parametrize("header", ["g4f-api-key", "x-api-key"])
def test_other_headers_carry_a_key(gateway: LiveGateway, provider: ScriptedProvider, header: str) -> None:
    gateway.add_provider(provider)
    body = {"model": "scripted", "messages": QUESTION}
    assert gateway.http.post("/v1/chat/completions", json=body, headers={header: gateway.key}).status_code == 200
    assert gateway.http.post("/v1/chat/completions", json=body, headers={header: "wrong"}).status_code == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/scripted", "/v1/providers", "/api/Scripted/models"])
def test_no_key_is_401_everywhere(gateway: LiveGateway, provider: ScriptedProvider, path: str) -> None:
    gateway.add_provider(provider)
    assert gateway.key
    answer = gateway.http.get(path)
    assert answer.status_code == 401
    check_error(answer.json())
    assert gateway.http.get(f"{path}?key={gateway.key}&api_key={gateway.key}").status_code == 401


def test_revoking_ends_a_key(gateway: LiveGateway, provider: ScriptedProvider, alice: Any) -> None:
    from gateway.models import ApiKey

    gateway.add_provider(provider)
    client = gateway.client(gateway.make_key(alice))
    assert said(client, model="scripted")
    ApiKey.objects.get(user=alice).revoke()
    gateway.reload()
    with pytest.raises(openai.AuthenticationError):
        said(client, model="scripted")


def test_what_a_provider_leaves_out_is_there(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    """Some servers omit `refusal` and `logprobs`; the client's types promise them."""
    body = completion(message={"role": "assistant", "content": "bare"})
    del body["choices"][0]["logprobs"]
    provider.on("scripted", reply_json(body))
    gateway.add_provider(provider)
    request = {"model": "scripted", "messages": QUESTION}
    answer = gateway.http.post("/v1/chat/completions", json=request, headers=gateway.auth())
    check_completion(answer.json())
