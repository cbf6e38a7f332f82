"""What steers the gateway on the surfaces beside chat: who answers, tools by prompt, and what an answer costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.models import Price, ProviderModel
from tests.clients import core
from tests.support import answers, responses
from tests.support.anthropic_answers import capable as claude
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_events, check_response, typed_events
from tests.support.provider import Recorded, ScriptedProvider

ASK: dict[str, Any] = {"usage": {"include": True}}
TOOL = core.WEATHER["function"]
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": core.QUESTION},
    "responses": {"input": "hi"},
    "messages": {"messages": core.QUESTION, "max_tokens": 20},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
}
STEERED = ("provider", "models", "usage", "tool_emulation")


def served(request: Recorded) -> answers.Answer:
    """Refuses what is not OpenAI's."""
    assert not {*STEERED, "extra_body"} & request.json.keys()
    if request.path.endswith("/embeddings"):
        vectors = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
        return answers.reply_json({"object": "list", "model": "m", **vectors})
    return answers.stream("a", "b") if request.json.get("stream") else answers.reply("ab")


def ask(gateway: LiveGateway, path: str, **fields: Any) -> Any:
    body = {"model": "m", **BODIES[path], **fields}
    answer = gateway.http.post(f"/v1/{path}", json=body, headers=gateway.auth())
    assert answer.status_code == 200, answer.text
    return answer


def price(gateway: LiveGateway) -> None:
    """$1 a million tokens in and $2 out."""
    for row in ProviderModel.objects.all():
        Price.objects.create(model=row, input=1_000_000_000, output=2_000_000_000, valid_from="2020-01-01T00:00:00Z")
    gateway.reload()


@pytest.mark.parametrize("path", BODIES)
def test_providers_and_models_are_chosen_everywhere(gateway: LiveGateway, path: str) -> None:
    with ScriptedProvider() as one, ScriptedProvider() as two:
        for scripted in (one, two):
            scripted.on("m", served)
            scripted.on("spare", served)
        gateway.add_provider(one, "m", name="One", priority=1)
        gateway.add_provider(two, "m", "spare", name="Two", priority=2)
        ask(gateway, path, provider={"order": ["two"]})
        ask(gateway, path, provider={"ignore": ["One"]})
        ask(gateway, path, provider="Two")
        ask(gateway, path, model="nobody's", models=["spare"])
        unnamed = {"models": ["spare"], **BODIES[path]}
        answer = gateway.http.post(f"/v1/{path}", json=unnamed, headers=gateway.auth())
        assert answer.status_code == 200, answer.text
        ask(gateway, path, extra_body={"provider": "Two"})
        assert (len(one.requests), len(two.requests)) == (0, 6)
        warned = ask(gateway, path, provider={"sort": "price"}).headers["warning"]
        assert warned == '299 g4fsite "ignored: provider.sort"'


@pytest.mark.parametrize("path", BODIES)
def test_usage_tells_the_cost_where_it_is_asked_for(
    gateway: LiveGateway, provider: ScriptedProvider, path: str
) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, "m")
    assert ask(gateway, path, **ASK).json()["usage"]["cost"] is None
    price(gateway)
    cost = 0.000007 if path == "embeddings" else 0.000013
    assert ask(gateway, path, **ASK).json()["usage"]["cost"] == cost
    for silent in ({}, {"usage": {"include": False}}, {"usage": None}):
        assert "cost" not in ask(gateway, path, **silent).json()["usage"]


def test_responses_tell_it_in_streams_and_keep_it(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", responses.capable)
    gateway.add_provider(provider, "m", adapter="openai_responses")
    price(gateway)
    events = typed_events(ask(gateway, "responses", stream=True, **ASK).content)
    check_events(events)
    last = events[-1]["response"]
    assert last["usage"]["cost"] == 0.000013
    check_response(last)
    kept = gateway.http.get(f"/v1/responses/{last['id']}", headers=gateway.auth()).json()
    assert kept["usage"] == last["usage"]
    silent = typed_events(ask(gateway, "responses", stream=True).content)
    assert "cost" not in silent[-1]["response"]["usage"]


def dollars(usage: dict[str, Any]) -> float:
    """What a cache gave or took counts apart in this protocol, and costs the same here."""
    asked = sum(usage.get(name) or 0 for name in usage if name.endswith("input_tokens"))
    return float(asked + 2 * usage["output_tokens"]) / 1e6


@pytest.mark.parametrize("adapter", ["anthropic", "openai_chat"])
def test_messages_tell_it_native_or_translated(gateway: LiveGateway, provider: ScriptedProvider, adapter: str) -> None:
    provider.on("m", claude if adapter == "anthropic" else served)
    gateway.add_provider(provider, "m", adapter=adapter)
    price(gateway)
    plain = ask(gateway, "messages", **ASK).json()
    assert plain["usage"].pop("cost") == pytest.approx(dollars(plain["usage"])) != 0
    said, silent = (ask(gateway, "messages", stream=True, **more).text for more in (ASK, {}))
    told = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]
    assert told[-1]["type"] == "message_stop"
    cost, used = told[-2]["usage"].pop("cost"), {**told[0]["message"]["usage"], **told[-2]["usage"]}
    if adapter == "anthropic":
        assert cost == pytest.approx(dollars(used)) != 0
    else:
        assert cost == 0.000013
    untold = [json.loads(line[6:]) for line in silent.splitlines() if line.startswith("data: ")]
    told[0]["message"].pop("id")
    untold[0]["message"].pop("id")
    assert told == untold
    assert "usage" not in provider.requests[0].json


def simple(request: Recorded) -> answers.Answer:
    """Only writes text, and calls a tool when it is told how."""
    assert not {"tools", "tool_choice"} & request.json.keys()
    text = CALL if "<tool_call>" in json.dumps(request.json["messages"]) else "It rains."
    return answers.stream(*text) if request.json.get("stream") else answers.reply(text)


@pytest.mark.parametrize("stream", [False, True])
def test_responses_call_tools_by_prompt(gateway: LiveGateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.on("m", simple)
    gateway.add_provider(provider, {"public_id": "m", "tools": True})
    fields: dict[str, Any] = {"tools": [{"type": "function", "strict": False, **TOOL}], "tool_emulation": True}
    answer = ask(gateway, "responses", stream=stream, **fields)
    assert "warning" not in answer.headers
    whole = typed_events(answer.content)[-1]["response"] if stream else answer.json()
    check_response(whole)
    (call,) = whole["output"]
    assert (call["type"], json.loads(call["arguments"])) == ("function_call", {"city": "Oslo"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("adapter", ["openai_chat", "ollama"])
def test_messages_call_tools_by_prompt(
    gateway: LiveGateway, provider: ScriptedProvider, adapter: str, stream: bool
) -> None:
    provider.on("m", simple)
    gateway.add_provider(provider, {"public_id": "m", "tools": True})
    tool = {"name": TOOL["name"], "input_schema": TOOL["parameters"]}
    answer = ask(gateway, "messages", tools=[tool], tool_emulation=True, stream=stream)
    assert "warning" not in answer.headers
    if stream:
        pieces = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        given = "".join(piece["delta"].get("partial_json", "") for piece in pieces if "delta" in piece)
        assert json.loads(given) == {"city": "Oslo"}
    else:
        (call,) = answer.json()["content"]
        assert (call["type"], call["input"]) == ("tool_use", {"city": "Oslo"})


@pytest.mark.parametrize("path", ["responses", "messages"])
def test_tools_by_prompt_can_be_forbidden(gateway: LiveGateway, provider: ScriptedProvider, path: str) -> None:
    gateway.add_provider(provider, {"public_id": "m", "tools": False, "emulate_tools": True})
    own = {"type": "function", "strict": False, **TOOL}
    tools = [own if path == "responses" else {"name": "f", "input_schema": TOOL["parameters"]}]
    body = {"model": "m", **BODIES[path], "tools": tools}
    for asked, status in ((False, 400), ("yes", 400), (None, 200)):
        answer = gateway.http.post(f"/v1/{path}", json={**body, "tool_emulation": asked}, headers=gateway.auth())
        assert answer.status_code == status, answer.text
        if status == 400:
            assert ("tool_emulation" if asked else "tools") in answer.text


@pytest.mark.parametrize("path", ["completions", "embeddings"])
def test_without_tools_it_has_no_effect_and_that_is_said(
    gateway: LiveGateway, provider: ScriptedProvider, path: str
) -> None:
    provider.on("m", served)
    gateway.add_provider(provider, "m")
    assert "tool_emulation" in ask(gateway, path, tool_emulation=True).headers["warning"]
    answer = gateway.http.post(
        f"/v1/{path}", json={"model": "m", **BODIES[path], "tool_emulation": 1}, headers=gateway.auth()
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_emulation")


def test_the_schema_names_them(gateway: LiveGateway) -> None:
    schema = gateway.http.get("/schema/?format=json", headers=gateway.auth()).json()
    for path in BODIES:
        for prefix in ("/v1", "/api/{provider}"):
            content = schema["paths"][f"{prefix}/{path}"]["post"]["requestBody"]["content"]
            found = content["application/json"]["schema"]
            if "$ref" in found:
                found = schema["components"]["schemas"][found["$ref"].rsplit("/", 1)[1]]
            wanted = set(STEERED) - ({"tool_emulation"} if path in ("completions", "embeddings") else set())
            assert wanted <= found["properties"].keys(), path
