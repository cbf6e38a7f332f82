"""`usage.cost`: there when it was asked for, plain and streamed, for raw answers and for translated ones."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.models import Price, ProviderModel, UsageEvent
from gateway.usage import writer
from tests.clients.core import QUESTION
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_stream
from tests.support.provider import Recorded, ScriptedProvider

ASK: Any = {"usage": {"include": True}}
# 7 tokens in and 3 out at $1 and $2 a million.
COST = 0.000013


def answer(request: Recorded) -> answers.Answer:
    body = request.json
    assert "usage" not in body
    return answers.stream("a", "b") if body.get("stream") else answers.reply("ab")


@pytest.fixture
def priced(gateway: LiveGateway, provider: ScriptedProvider) -> LiveGateway:
    for name in ("raw", "thinks", "free"):
        provider.on(name, answer)
    gateway.add_provider(provider, "raw", {"public_id": "thinks", "think_tags": True}, "free")
    for row in ProviderModel.objects.exclude(public_id="free"):
        Price.objects.create(model=row, input=1_000_000_000, output=2_000_000_000, valid_from="2020-01-01T00:00:00Z")
    gateway.reload()
    return gateway


@pytest.mark.parametrize(("model", "cost"), [("raw", COST), ("thinks", COST), ("free", None)])
def test_plain_answers_tell_it_when_asked(priced: LiveGateway, model: str, cost: float | None) -> None:
    create: Any = priced.client().chat.completions.create
    told = create(model=model, messages=QUESTION, extra_body=ASK).usage.model_dump()
    assert told["cost"] == cost
    assert told["total_tokens"] == 10
    for silent in ({}, {"usage": {"include": False}}, {"usage": True}):
        assert "cost" not in create(model=model, messages=QUESTION, extra_body=silent).usage.model_dump()
    writer.flush()
    assert UsageEvent.objects.first().cost == (13_000 if cost else None)  # type: ignore[union-attr]


@pytest.mark.parametrize(("model", "cost"), [("raw", COST), ("thinks", COST), ("free", None)])
@pytest.mark.parametrize("apart", [False, True])
def test_streams_tell_it_with_their_usage(priced: LiveGateway, model: str, cost: float | None, apart: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if apart else {}
    create: Any = priced.client().chat.completions.create
    stream = create(model=model, messages=QUESTION, stream=True, extra_body=ASK, **options)
    chunks = [chunk.model_dump(exclude_unset=True) for chunk in stream]
    check_stream(chunks, include_usage=apart)
    assert chunks[-1]["usage"]["cost"] == cost
    silent = create(model=model, messages=QUESTION, stream=True, **options)
    assert "cost" not in [chunk.model_dump(exclude_unset=True) for chunk in silent][-1]["usage"]


def test_a_providers_own_figure_stands_in_for_an_unknown_price(priced: LiveGateway, provider: ScriptedProvider) -> None:
    said = {**answers.USAGE, "cost": 0.5}
    provider.on("free", answers.reply("x", usage=said))
    provider.on("raw", answers.reply("x", usage=said))
    create: Any = priced.client().chat.completions.create
    assert create(model="free", messages=QUESTION, extra_body=ASK).usage.cost == 0.5
    assert create(model="raw", messages=QUESTION, extra_body=ASK).usage.cost == COST


def test_completions_and_embeddings_tell_it_too(priced: LiveGateway, provider: ScriptedProvider) -> None:
    client: Any = priced.client()
    assert client.completions.create(model="raw", prompt="x", extra_body=ASK).usage.cost == COST
    *_, last = client.completions.create(model="raw", prompt="x", stream=True, extra_body=ASK)
    assert last.usage.cost == COST
    vectors = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    provider.on("raw", answers.reply_json(vectors))
    assert client.embeddings.create(model="raw", input="x", extra_body=ASK).usage.cost == 0.000009
