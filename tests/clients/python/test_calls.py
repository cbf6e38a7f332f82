"""The official Python client beyond chat: embeddings and moderations, and what the gateway keeps of them."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import openai
import pytest

from gateway.models import ApiKey, Price, ProviderModel, UsageEvent
from gateway.usage import writer
from tests.support.answers import Answer, error, reply_json
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check, check_error
from tests.support.provider import Recorded, ScriptedProvider

RERANK = {"model": "m", "query": "rain", "documents": ["sun", {"text": "rain"}], "top_n": 1, "return_documents": True}


def packed(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def vectors(request: Recorded, *, own: str = "", backwards: bool = False, usage: bool = True) -> Answer:
    """What a provider says: the vector of the nth input is (n, 0.5), in the form asked for or in its `own`."""
    found = request.json["input"]
    count = len(found) if isinstance(found, list) and not isinstance(found[0], int) else 1
    form = own or request.json.get("encoding_format") or "float"
    data: list[Any] = [
        {"object": "embedding", "index": at, "embedding": packed(at, 0.5) if form == "base64" else [float(at), 0.5]}
        for at in range(count)
    ]
    body = {"object": "list", "model": "up", "data": data[::-1] if backwards else data}
    return reply_json(body | ({"usage": {"prompt_tokens": 8, "total_tokens": 8}} if usage else {}))


def row() -> UsageEvent:
    writer.flush()
    return UsageEvent.objects.latest("id")


@pytest.mark.parametrize("own", ["", "float", "base64"])
@pytest.mark.parametrize("asked", [None, "float", "base64"])
def test_embeddings_come_in_the_form_that_was_asked_for(
    gateway: LiveGateway, provider: ScriptedProvider, own: str, asked: str | None
) -> None:
    provider.on("up", lambda request: vectors(request, own=own, backwards=True))
    gateway.add_provider(provider, {"public_id": "m", "upstream_name": "up", "embeddings": True})
    form: dict[str, Any] = {"encoding_format": asked} if asked else {}
    answer = gateway.client().embeddings.create(model="m", input=["a", "b", "c"], dimensions=2, user="u", **form)
    found = [item.embedding for item in answer.data]
    assert found == ([packed(at, 0.5) for at in range(3)] if asked == "base64" else [[at, 0.5] for at in range(3)])
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (8, 8)
    if asked != "base64":
        check("CreateEmbeddingResponse", answer.model_dump(exclude_unset=True))
    (request,) = provider.requests
    assert request.path == "/v1/embeddings"
    # The client asks for base64 of itself and decodes it.
    assert request.json == {
        "model": "up", "input": ["a", "b", "c"], "dimensions": 2, "user": "u", "encoding_format": asked or "base64"
    }  # fmt: skip


@pytest.mark.parametrize("given", ["text", ["text"], [1, 2, 3], [[1, 2], [3]]])
def test_texts_and_tokens_reach_the_provider(gateway: LiveGateway, provider: ScriptedProvider, given: Any) -> None:
    provider.on("m", vectors)
    gateway.add_provider(provider, "m")
    answer = gateway.client().embeddings.create(model="m", input=given)
    assert provider.requests[0].json["input"] == given
    assert len(answer.data) == (2 if given == [[1, 2], [3]] else 1)


def test_a_call_has_its_row_its_cost_and_its_tokens(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", vectors)
    gateway.add_provider(provider, "m", name="Acme")
    Price.objects.create(
        model=ProviderModel.objects.get(), input=20_000_000, output=0, valid_from="2020-01-01T00:00:00Z"
    )
    gateway.reload()
    gateway.client().embeddings.create(model="m", input="x")
    found = row()
    assert (found.surface, found.stream, found.status, found.http_status) == ("v1.embeddings", False, "ok", 200)
    assert (found.provider_name, found.model, found.prompt_tokens, found.completion_tokens) == ("Acme", "m", 8, 0)
    assert (found.cost, found.estimated) == (160, False)


def test_a_provider_without_usage_gets_an_estimate(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", lambda request: vectors(request, usage=False))
    gateway.add_provider(provider, "m")
    answer = gateway.client().embeddings.create(model="m", input=["a" * 40, "b" * 40])
    assert answer.usage.total_tokens == 20
    assert (row().prompt_tokens, row().estimated) == (20, True)


def test_a_server_that_does_not_know_base64_is_asked_without(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    def strict(request: Recorded) -> Answer:
        if "encoding_format" in request.json:
            return error(400, "unknown field encoding_format")
        return vectors(request)

    provider.on("m", strict)
    gateway.add_provider(provider, "m")
    assert gateway.client().embeddings.create(model="m", input=["a", "b"]).data[1].embedding == [1.0, 0.5]
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "data",
    [
        None, [], [{"index": 0}], [{"index": 0, "embedding": ["x"]}], [{"index": 0, "embedding": [None]}],
        [{"index": 0, "embedding": "?!"}], [{"index": 0, "embedding": "AAA="}], [{"index": 7, "embedding": [1]}],
        [{"index": "0", "embedding": [1]}], ["x"], [{"index": 0, "embedding": [1]}] * 2, {"0": 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["float", "base64"])
def test_what_is_no_embedding_is_the_providers_failure(
    gateway: LiveGateway, provider: ScriptedProvider, data: Any, form: str
) -> None:
    provider.on("m", reply_json({"object": "list", "data": data}))
    gateway.add_provider(provider, "m")
    body = {"model": "m", "input": "x", "encoding_format": form}
    response = gateway.http.post("/v1/embeddings", json=body, headers=gateway.auth())
    assert response.status_code == 502, response.text
    assert check_error(response.json())["code"] == "provider_not_working"


def test_a_call_fails_over_as_a_chat_does(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", error(500))
    gateway.add_provider(provider, "m", name="Broken", priority=1)
    with ScriptedProvider() as other:
        other.on("m", vectors)
        gateway.add_provider(other, "m", name="Sound", priority=2)
        assert len(gateway.client().embeddings.create(model="m", input="x").data) == 1
    assert [attempt.get("status") for attempt in row().attempts] == [502, None]


def test_limits_hold_for_calls_too(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", vectors)
    gateway.add_provider(provider, "m")
    assert gateway.key
    ApiKey.objects.update(requests_per_minute=1)
    gateway.reload()
    with gateway.client() as client:
        client.embeddings.create(model="m", input="x")
        with pytest.raises(openai.RateLimitError):
            client.embeddings.create(model="m", input="x")


def test_moderations_pass_through(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    from tests.support.moderation import BODY

    provider.on("omni-moderation-latest", reply_json(BODY))
    gateway.add_provider(provider, "omni-moderation-latest", name="Acme")
    answer = gateway.client().moderations.create(input=["I want to kill them.", "Hello"])
    assert answer.results[0].flagged
    check("CreateModerationResponse", answer.model_dump(exclude_unset=True, by_alias=True))
    assert provider.requests[0].path == "/v1/moderations"
    assert provider.requests[0].json == {
        "model": "omni-moderation-latest", "input": ["I want to kill them.", "Hello"]
    }  # fmt: skip
    assert (row().surface, row().estimated) == ("v1.moderations", True)
    raw = gateway.http.post("/api/Acme/moderations", json={"input": "x"}, headers=gateway.auth())
    assert raw.json() == BODY
    assert row().surface == "api.moderations"


def test_ranking_passes_through(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    body = {"model": "up", "results": [{"index": 1, "relevance_score": 0.98}], "usage": {"total_tokens": 12}}
    provider.on("up", reply_json(body))
    gateway.add_provider(provider, {"public_id": "m", "upstream_name": "up"}, name="Acme")
    for path in ("/v1/rerank", "/api/Acme/rerank"):
        assert gateway.http.post(path, json=RERANK, headers=gateway.auth()).json() == body
    assert provider.requests[0].path == "/v1/rerank"
    assert provider.requests[0].json == {**RERANK, "model": "up"}
    assert (row().surface, row().prompt_tokens) == ("api.rerank", 12)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("embeddings", {"input": "x"}, 400, "model"),
        ("embeddings", {"model": "m"}, 400, "input"),
        ("embeddings", {"model": "m", "input": None}, 400, "input"),
        ("embeddings", {"model": "m", "input": []}, 400, "input"),
        ("embeddings", {"model": "m", "input": [[]]}, 400, "input"),
        ("embeddings", {"model": "m", "input": [1, "a"]}, 400, "input"),
        ("embeddings", {"model": "m", "input": [True]}, 400, "input"),
        ("embeddings", {"model": "m", "input": [-1]}, 400, "input"),
        ("embeddings", {"model": "m", "input": {"text": "x"}}, 400, "input"),
        ("embeddings", {"model": "m", "input": ["x"] * 2049}, 400, "input"),
        ("embeddings", {"model": "m", "input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
        ("embeddings", {"model": "m", "input": "x", "encoding_format": 1}, 400, "encoding_format"),
        ("embeddings", {"model": "m", "input": "x", "dimensions": 0}, 422, "dimensions"),
        ("embeddings", {"model": "m", "input": "x", "dimensions": "2"}, 400, "dimensions"),
        ("embeddings", {"model": "m", "input": "x", "user": 1}, 400, "user"),
        ("embeddings", {"model": "nope", "input": "x"}, 404, "model"),
        ("moderations", {}, 400, "input"),
        ("moderations", {"input": [1]}, 400, "input"),
        ("moderations", {"input": []}, 400, "input"),
        ("rerank", {"model": "m", "documents": ["x"]}, 400, "query"),
        ("rerank", {"model": "m", "query": 1, "documents": ["x"]}, 400, "query"),
        ("rerank", {"model": "m", "query": "q"}, 400, "documents"),
        ("rerank", {"model": "m", "query": "q", "documents": []}, 400, "documents"),
        ("rerank", {"model": "m", "query": "q", "documents": "x"}, 400, "documents"),
        ("rerank", {"model": "m", "query": "q", "documents": ["x"], "top_n": 0}, 422, "top_n"),
        ("rerank", {"model": "m", "query": "q", "documents": ["x"], "return_documents": 1}, 400, "return_documents"),
        ("rerank", {"model": "default", "query": "q", "documents": ["x"]}, 404, "model"),
    ],
)
def test_faults_name_their_parameter(
    gateway: LiveGateway, provider: ScriptedProvider, path: str, body: Any, status: int, param: str
) -> None:
    gateway.add_provider(provider, "m")
    response = gateway.http.post(f"/v1/{path}", json=body, headers=gateway.auth())
    assert response.status_code == status, response.text
    assert check_error(response.json())["param"] == param
    assert not provider.requests


def test_bodies_are_bounded_and_json(gateway: LiveGateway, provider: ScriptedProvider, settings: Any) -> None:
    gateway.add_provider(provider, "m")
    headers = {**gateway.auth(), "content-type": "text/plain"}
    assert gateway.http.post("/v1/embeddings", content=b"{}", headers=headers).status_code == 415
    assert gateway.http.get("/v1/embeddings", headers=gateway.auth()).status_code == 405
    broken = gateway.http.post("/v1/embeddings", content=b"{", headers=gateway.auth())
    assert check_error(broken.json())["code"] == "invalid_json"
    assert gateway.http.post("/v1/embeddings", json={}).status_code == 401


def test_models_are_used_for_what_they_are_known_for(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("embedder", vectors)
    provider.on("unknown", vectors)
    gateway.add_provider(
        provider,
        {"public_id": "talker", "chat": True, "embeddings": False},
        {"public_id": "embedder", "embeddings": True},
        {"public_id": "unknown"},
    )
    client = gateway.client()
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="embedder", messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.code, caught.value.param) == ("unsupported_operation", "model")
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="talker", input="x")
    assert (caught.value.code, caught.value.param) == ("unsupported_operation", "model")
    assert client.embeddings.create(model="unknown", input="x").data
    # Nobody named one: the model that is known for it is taken.
    assert client.embeddings.create(model="default", input="x").data
    assert provider.requests[-1].json["model"] == "embedder"


def test_demo_embeds_offline_and_says_the_same_each_time(gateway: LiveGateway) -> None:
    gateway.add_demo()
    client = gateway.client()
    texts = ["the cat sat on the mat", "a cat on a mat", "quarterly revenue grew"]
    first = client.embeddings.create(model="demo", input=texts)
    again = client.embeddings.create(model="demo", input=texts[1])
    vectors = [item.embedding for item in first.data]
    assert again.data[0].embedding == vectors[1]
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-5) for vector in vectors)

    def alike(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert alike(vectors[0], vectors[1]) > alike(vectors[0], vectors[2])
    assert len(client.embeddings.create(model="demo", input=[1, 2], dimensions=7).data[0].embedding) == 7
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="demo", input="x", dimensions=2_000_000)
    with pytest.raises(openai.BadRequestError) as caught:
        client.moderations.create(model="demo", input="x")
    assert caught.value.code == "unsupported_operation"
