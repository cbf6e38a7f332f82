"""Vectors of Gemini and Ollama for OpenAI's client, over sockets: each hears its own protocol."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.models import UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.protocols import PathProvider
from tests.support.provider import Recorded, ScriptedProvider

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLLAMA = {"model": "nomic", "embeddings": [[0.5, -0.25], [1.0, 0.0]], "total_duration": 5, "prompt_eval_count": 8}


@pytest.fixture
def gemini(gateway: LiveGateway, provider: ScriptedProvider) -> ScriptedProvider:
    gateway.add_provider(
        provider, "gemini-embedding-001", name="Gemini", adapter="gemini", auth_style="header",
        auth_name="x-goog-api-key",
    )  # fmt: skip
    return provider


@pytest.fixture
def ollama(gateway: LiveGateway) -> Iterator[PathProvider]:
    with PathProvider(lambda path: path == "/api/embed") as running:
        gateway.add_provider(running, "nomic", name="Ollama", adapter="ollama", auth_style="none", credentials=())
        yield running


def refused(gateway: LiveGateway, **asked: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        gateway.client().embeddings.create(**asked)
    return caught.value


def recorded(name: str) -> answers.Answer:
    return answers.raw((FIXTURES / name).read_bytes())


def many(request: Recorded) -> answers.Answer:
    """A vector for each text, which says which one it was."""
    texts = [asked["content"]["parts"][0]["text"] for asked in request.json["requests"]]
    return answers.reply_json({"embeddings": [{"values": [float(text)]} for text in texts]})


def test_gemini_by_default_in_base64(gateway: LiveGateway, gemini: ScriptedProvider) -> None:
    gemini.enqueue(recorded("gemini/embeddings.json"))
    # Without `encoding_format` this client asks for base64 and decodes it.
    found = gateway.client().embeddings.create(model="gemini-embedding-001", input=["one", "two"], dimensions=3)
    assert [item.embedding for item in found.data] == [[0.5, -0.25, 0.125], [0.0625, 0.5, -0.5]]
    assert [item.index for item in found.data] == [0, 1]
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (9, 9)
    (asked,) = gemini.requests
    assert asked.path == "/v1/models/gemini-embedding-001:batchEmbedContents"
    assert asked.header("x-goog-api-key") == "sk-upstream-credential-1"
    assert asked.json == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 3,
            }
            for text in ("one", "two")
        ]
    }
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.status, row.prompt_tokens, row.estimated, row.surface) == ("ok", 9, False, "v1.embeddings")


def test_the_form_that_was_asked_for(gateway: LiveGateway, gemini: ScriptedProvider) -> None:
    body = {"model": "gemini-embedding-001", "input": ["one", "two"]}
    wanted = [0.5, -0.25, 0.125]
    for form in ("float", "base64"):
        gemini.enqueue(recorded("gemini/embeddings.json"))
        found = gateway.http.post("/v1/embeddings", json={**body, "encoding_format": form}, headers=gateway.auth())
        vector = found.json()["data"][0]["embedding"]
        assert (vector if form == "float" else array("f", base64.b64decode(vector)).tolist()) == wanted


def test_a_hundred_at_a_time_and_in_order(gateway: LiveGateway, gemini: ScriptedProvider) -> None:
    gemini.enqueue(many, many, many)
    texts = [str(number) for number in range(250)]
    found = gateway.client().embeddings.create(model="gemini-embedding-001", input=texts)
    assert [len(request.json["requests"]) for request in gemini.requests] == [100, 100, 50]
    assert [item.embedding for item in found.data] == [[float(number)] for number in range(250)]
    # Nobody counted, so it is an estimate.
    assert found.usage.prompt_tokens > 0


def test_googles_own_words(gateway: LiveGateway, gemini: ScriptedProvider) -> None:
    gemini.enqueue(many)
    asked: Any = {"model": "gemini-embedding-001", "input": "1"}
    gateway.client().embeddings.create(**asked, extra_body={"task_type": "RETRIEVAL_QUERY"})
    assert gemini.requests[0].json["requests"][0]["taskType"] == "RETRIEVAL_QUERY"
    error = refused(gateway, **asked, extra_body={"task_type": 3})
    assert (error.status_code, error.param) == (400, "task_type")


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]], ids=str)
@pytest.mark.parametrize("model", ["gemini-embedding-001", "nomic"])
def test_tokens_are_refused_by_name(
    gateway: LiveGateway, gemini: ScriptedProvider, ollama: PathProvider, model: str, tokens: Any
) -> None:
    error = refused(gateway, model=model, input=tokens)
    assert (error.status_code, error.code, error.param) == (400, "unsupported_parameter", "input")
    assert not gemini.requests
    assert not ollama.requests


FAULTS: dict[str, tuple[Any, int]] = {
    "too few": ({"embeddings": [{"values": [1]}]}, 502),
    "no list": ({"embeddings": {"values": [1]}}, 502),
    "no vectors": ({"embeddings": [{}, {}]}, 502),
    "empty vectors": ({"embeddings": [{"values": []}, {"values": []}]}, 502),
    "words": ({"embeddings": [{"values": ["a"]}, {"values": [1]}]}, 502),
    "nothing": ({}, 502),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_list_of_vectors_is_a_failure(gateway: LiveGateway, gemini: ScriptedProvider, fault: str) -> None:
    body, status = FAULTS[fault]
    gemini.enqueue(answers.reply_json(body))
    assert refused(gateway, model="gemini-embedding-001", input=["a", "b"]).status_code == status


def test_googles_refusal_is_passed_on(gateway: LiveGateway, gemini: ScriptedProvider) -> None:
    said = {"error": {"code": 400, "message": "too long a text", "status": "INVALID_ARGUMENT"}}
    gemini.enqueue(answers.reply_json(said, status=400))
    error = refused(gateway, model="gemini-embedding-001", input="a")
    assert error.status_code == 400
    assert "too long a text" in str(error)


def test_ollama(gateway: LiveGateway, ollama: PathProvider) -> None:
    ollama.enqueue(answers.reply_json(OLLAMA))
    more = {"truncate": False, "keep_alive": "5m"}
    found = gateway.client().embeddings.create(model="nomic", input=["a", "b"], dimensions=2, extra_body=more)
    assert [item.embedding for item in found.data] == [[0.5, -0.25], [1.0, 0.0]]
    assert found.usage.prompt_tokens == 8
    (asked,) = ollama.requests
    assert asked.path == "/api/embed"
    assert asked.json == {"model": "nomic", "input": ["a", "b"], "dimensions": 2, **more}


def test_ollama_with_one_text_and_without_a_count(gateway: LiveGateway, ollama: PathProvider) -> None:
    ollama.enqueue(answers.reply_json({"embeddings": [[1.0]]}))
    found = gateway.client().embeddings.create(model="nomic", input="four characters")
    assert found.usage.prompt_tokens == 3
    assert ollama.requests[0].json == {"model": "nomic", "input": ["four characters"]}


@pytest.mark.parametrize(
    ("body", "status"),
    [({"embeddings": [[1.0], [2.0]]}, 502), ({"embedding": [1.0]}, 502), ({"error": "no model"}, 502)],
    ids=json.dumps,
)
def test_ollamas_nonsense_is_a_failure(
    gateway: LiveGateway, ollama: PathProvider, body: dict[str, Any], status: int
) -> None:
    ollama.enqueue(answers.reply_json(body))
    assert refused(gateway, model="nomic", input="a").status_code == status


def test_ollamas_refusal_is_passed_on(gateway: LiveGateway, ollama: PathProvider) -> None:
    ollama.enqueue(answers.reply_json({"error": "the input length exceeds the context length"}, status=400))
    error = refused(gateway, model="nomic", input="a", extra_body={"truncate": False})
    assert error.status_code == 400
    assert refused(gateway, model="nomic", input="a", extra_body={"truncate": "no"}).param == "truncate"


def test_another_provider_is_asked_when_one_fails(
    gateway: LiveGateway, gemini: ScriptedProvider, ollama: PathProvider
) -> None:
    with ScriptedProvider() as other:
        gateway.add_provider(other, "nomic", name="Other")
        ollama.enqueue(answers.error(500))
        data = [{"object": "embedding", "index": 0, "embedding": [2.0]}]
        other.enqueue(answers.reply_json({"object": "list", "data": data, "model": "nomic"}))
        found = gateway.client().embeddings.create(model="nomic", input="a", encoding_format="float")
        assert found.data[0].embedding == [2.0]
