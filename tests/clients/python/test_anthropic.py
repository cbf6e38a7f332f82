"""The official Anthropic client on /v1/messages, over three protocols of providers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import pytest

from gateway.models import UsageEvent
from gateway.usage import writer
from tests.clients.core import capable as openai_capable
from tests.support import answers
from tests.support.anthropic_answers import capable, played, recorded, recorded_events, refused
from tests.support.gateway import LiveGateway
from tests.support.provider import Recorded, ScriptedProvider

QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Current weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
BODY: dict[str, Any] = {"max_tokens": 200, "messages": QUESTION}


@dataclass
class Served:
    client: anthropic.Anthropic
    model: str
    gateway: LiveGateway
    provider: ScriptedProvider


def openai_model(request: Recorded) -> answers.Answer:
    """Thinks as DeepSeek's and others' servers do when it is asked to."""
    body = request.json
    if body.get("tools") or not body.get("reasoning_effort"):
        return openai_capable(request)
    if not body.get("stream"):
        message = {"role": "assistant", "content": "Rain.", "reasoning_content": "Oslo, so rain."}
        return answers.reply_json(answers.completion(message=message))
    deltas = [{"reasoning_content": "Oslo, "}, {"reasoning_content": "so rain."}, {"content": "Rain."}]
    return answers.sse(answers.events_of(deltas))


def client_of(gateway: LiveGateway, path: str = "") -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=gateway.key, base_url=gateway.url + path, max_retries=0, timeout=20)


@pytest.fixture(params=["demo", "openai_chat", "anthropic"])
def served(request: pytest.FixtureRequest, gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[Served]:
    kind = request.param
    if kind == "demo":
        gateway.add_demo()
    else:
        provider.on("upstream-name", openai_model if kind == "openai_chat" else capable)
        gateway.add_provider(provider, {"public_id": "scripted", "upstream_name": "upstream-name"}, adapter=kind)
    with client_of(gateway) as client:
        yield Served(client, "demo" if kind == "demo" else "scripted", gateway, provider)


@pytest.fixture
def direct(gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[Served]:
    """Over a provider of the same protocol."""
    provider.on("scripted", capable)
    gateway.add_provider(
        provider, adapter="anthropic", auth_style="header", auth_name="x-api-key", credentials=("sk-ant-upstream-1",)
    )
    with client_of(gateway) as client:
        yield Served(client, "scripted", gateway, provider)


def test_it_answers(served: Served) -> None:
    message = served.client.messages.create(model=served.model, **BODY)
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.content[0].type == "text"
    assert message.content[0].text
    assert message.usage.output_tokens > 0
    assert message.usage.input_tokens > 0
    assert message._request_id
    assert message._request_id.startswith("req_")


def test_it_streams(served: Served) -> None:
    with served.client.messages.stream(model=served.model, **BODY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "".join(block.text for block in final.content if block.type == "text") != ""
    assert final.stop_reason in {"end_turn", "stop_sequence"}
    assert final.usage.output_tokens > 0


def test_it_streams_raw_events_in_order(served: Served) -> None:
    kinds = [event.type for event in served.client.messages.create(model=served.model, stream=True, **BODY)]
    assert kinds[0] == "message_start"
    assert kinds[1] == "content_block_start"
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("streamed", [False, True])
def test_it_calls_tools_and_takes_their_results(served: Served, streamed: bool) -> None:
    fields: dict[str, Any] = {**BODY, "model": served.model, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    if streamed:
        with served.client.messages.stream(**fields) as stream:
            message = stream.get_final_message()
    else:
        message = served.client.messages.create(**fields)
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert calls[0].name == "get_weather"
    assert "city" in calls[0].input
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "12 degrees and rain"}]}
        for call in calls
    ]
    history = [
        *QUESTION,
        {"role": "assistant", "content": [block.model_dump() for block in message.content]},
        {"role": "user", "content": results},
    ]
    fields = {**fields, "messages": history, "tool_choice": {"type": "none"}}
    final = served.client.messages.create(**fields)
    assert final.stop_reason == "end_turn"


def test_it_thinks(served: Served) -> None:
    fields: dict[str, Any] = {**BODY, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    plain = served.client.messages.create(model=served.model, **fields)
    with served.client.messages.stream(model=served.model, **fields) as stream:
        streamed = stream.get_final_message()
    if served.model == "demo":
        return
    for message in (plain, streamed):
        assert message.content[0].type == "thinking"
        assert message.content[0].thinking


def test_it_counts_tokens_and_says_when_it_only_estimates(served: Served) -> None:
    answer = served.client.messages.with_raw_response.count_tokens(model=served.model, messages=QUESTION)
    estimated = answer.headers.get("x-gateway-estimated") == "true"
    exact = next(iter(served.provider.requests), None) is not None
    assert estimated != exact
    assert answer.parse().input_tokens == 42 if exact else answer.parse().input_tokens > 0


@pytest.mark.parametrize(
    ("fields", "error", "kind"),
    [
        ({"model": "nope"}, anthropic.NotFoundError, "not_found_error"),
        ({"extra_body": {"temperature": 1.5}}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
        ({"max_tokens": None}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_faults_of_a_request_have_anthropics_shape(
    served: Served, fields: dict[str, Any], error: type[anthropic.APIStatusError], kind: str
) -> None:
    with pytest.raises(error) as failure:
        served.client.messages.create(**{**BODY, "model": served.model, **fields})
    body: Any = failure.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"] == failure.value.request_id


def test_a_wrong_key_and_a_wrong_method(served: Served) -> None:
    with pytest.raises(anthropic.AuthenticationError) as failure:
        served.client.with_options(api_key="sk-wrong").messages.create(model=served.model, **BODY)
    assert failure.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    answer = served.gateway.http.get("/v1/messages")
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "invalid_request_error")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_body_that_is_too_large_has_the_same_shape(direct: Served, settings: Any) -> None:
    settings.MAX_BODY_BYTES = 1000
    with pytest.raises(anthropic.APIStatusError) as failure:
        direct.client.messages.create(
            model="scripted", max_tokens=9, messages=[{"role": "user", "content": "x" * 2000}]
        )
    assert failure.value.status_code == 413
    assert failure.value.body["error"]["type"] == "request_too_large"  # type: ignore[index]


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (refused(400, "invalid_request_error", "prompt is too long: 9 > 8"), 400, "invalid_request_error"),
        (refused(401, "authentication_error"), 502, "api_error"),
        (refused(429, "rate_limit_error", **{"retry-after": "7"}), 429, "rate_limit_error"),
        (refused(529, "overloaded_error"), 503, "overloaded_error"),
        (answers.html(500), 502, "api_error"),
        (answers.reply_json({"content": None}), 502, "api_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_providers_errors_keep_their_class(
    direct: Served, answer: answers.Answer, status: int, kind: str, streamed: bool
) -> None:
    direct.provider.on("scripted", answer)
    with pytest.raises(anthropic.APIStatusError) as failure:
        direct.client.messages.create(model="scripted", stream=streamed, **BODY)  # type: ignore[call-overload]
    assert failure.value.status_code == status
    assert failure.value.body["error"]["type"] == kind  # type: ignore[index]


def test_an_error_before_anything_was_said_is_a_status_and_later_an_event(direct: Served) -> None:
    direct.provider.on("scripted", played("overloaded"))
    with pytest.raises(anthropic.APIStatusError) as early:
        direct.client.messages.create(model="scripted", stream=True, **BODY)
    assert early.value.status_code == 503
    direct.provider.on("scripted", answers.sse([*recorded_events("text")[:4], *recorded_events("overloaded")[1:]]))
    events = direct.client.messages.create(model="scripted", stream=True, **BODY)
    kinds = []
    with pytest.raises(anthropic.APIStatusError) as late:
        for event in events:
            kinds.append(event.type)  # noqa: PERF401 - what came before the error counts
    assert kinds == ["message_start", "content_block_start", "content_block_delta"]
    assert late.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]


def test_another_provider_answers_when_the_first_only_began(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    with ScriptedProvider() as second:
        provider.on("scripted", played("overloaded"))
        second.on("scripted", answers.stream("from ", "elsewhere"))
        gateway.add_provider(provider, adapter="anthropic", name="First")
        gateway.add_provider(second, name="Second")
        with client_of(gateway) as client, client.messages.stream(model="scripted", **BODY) as stream:
            assert "".join(stream.text_stream) == "from elsewhere"


def test_nothing_of_its_own_protocol_is_lost(direct: Served) -> None:
    """Fields and answers that OpenAI has no word for reach a provider of the same protocol, and come back."""
    direct.provider.on("scripted", answers.reply_json(recorded("search")))
    fields: dict[str, Any] = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "metadata": {"user_id": "u" * 100},
        "thinking": {"type": "adaptive"},
        "extra_body": {"something_new": {"a": 1}, "top_k": 5},
    }
    answer = direct.client.messages.with_raw_response.create(model="scripted", **BODY, **fields)
    assert answer.http_response.json() == recorded("search")
    sent = direct.provider.requests[0]
    extra = fields.pop("extra_body")
    assert sent.json == {"model": "scripted", **BODY, **fields, **extra}
    assert sent.path == "/v1/messages"
    assert sent.header("anthropic-version") == "2023-06-01"
    assert sent.header("x-api-key") == "sk-ant-upstream-1"
    assert sent.header("authorization") is None


def test_a_stream_of_its_own_protocol_comes_whole_and_is_booked(direct: Served) -> None:
    direct.provider.on("scripted", played("search"))
    headers = {"x-api-key": direct.gateway.key, "anthropic-version": "2023-06-01"}
    body = {**BODY, "model": "scripted", "stream": True}
    answer = httpx.post(f"{direct.gateway.url}/v1/messages", json=body, headers=headers)
    sent = [json.loads(event.split(b"data: ")[1]) for event in recorded_events("search")]
    assert [json.loads(event.split("data: ")[1]) for event in answer.text.split("\n\n")[:-1]] == sent
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.surface, row.status, row.stream) == ("v1.messages", "ok", True)
    assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (6039, 931, False)


@pytest.mark.parametrize("stream", [False, True])
def test_previews_that_the_caller_asks_for_reach_the_provider(
    gateway: LiveGateway, provider: ScriptedProvider, stream: bool
) -> None:
    provider.on("scripted", played("text") if stream else capable)
    gateway.add_provider(provider, adapter="anthropic", headers={"Anthropic-Beta": "own-1, shared-1"})
    with client_of(gateway) as client:
        asked: Any = {**BODY, "model": "scripted", "betas": ["context-1m-2025-08-07", "shared-1"]}
        found = client.beta.messages.create(**asked, stream=stream)
        if stream:
            list(found)
        client.messages.create(model="scripted", **BODY) if not stream else None
    heard = [request.header("anthropic-beta") for request in provider.requests]
    assert heard[0] == "own-1,shared-1,context-1m-2025-08-07"
    # What one caller asks for is nobody else's.
    assert heard[1:] == ([] if stream else ["own-1, shared-1"])
    names = [name.lower() for name, _ in provider.requests[0].headers]
    assert names.count("anthropic-beta") == 1


def test_previews_are_counted_with_and_come_in_several_lines(direct: Served) -> None:
    headers = [("x-api-key", direct.gateway.key), ("anthropic-beta", "a-1"), ("Anthropic-Beta", "b-1,, a-1")]
    body = {**BODY, "model": "scripted"}
    found = httpx.post(f"{direct.gateway.url}/v1/messages/count_tokens", json=body, headers=headers)
    assert found.json() == {"input_tokens": 42}
    assert direct.provider.requests[0].header("anthropic-beta") == "a-1,b-1"


@pytest.mark.parametrize("said", ["a b", "x" * 101, "a;b", "ä", ",".join(map(str, range(33)))])
def test_previews_that_are_no_names_are_refused(direct: Served, said: str) -> None:
    headers = {"x-api-key": direct.gateway.key, "anthropic-beta": said.encode()}
    found = httpx.post(f"{direct.gateway.url}/v1/messages", json={**BODY, "model": "scripted"}, headers=headers)
    assert (found.status_code, found.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "anthropic-beta" in found.json()["error"]["message"]
    assert direct.provider.requests == []


def test_previews_do_not_reach_other_protocols(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    with client_of(gateway) as client:
        client.beta.messages.create(**BODY, model="scripted", betas=["a-1"])
    assert provider.requests[0].header("anthropic-beta") is None


@pytest.mark.parametrize("path", ["/api/scripted", "/api/Scripted/v1"])
@pytest.mark.parametrize("route", ["/messages", "/messages/count_tokens"])
def test_both_are_served_under_a_providers_name(direct: Served, path: str, route: str) -> None:
    answer = direct.gateway.http.post(path + route, json={**BODY, "model": "default"}, headers=direct.gateway.auth())
    assert answer.status_code == 200, answer.text
    assert ("input_tokens" in answer.json()) == route.endswith("count_tokens")


def test_counting_falls_back_to_an_estimate_and_passes_on_what_is_wrong(direct: Served) -> None:
    direct.provider.on("scripted", refused(404, "not_found_error"))
    found = direct.client.messages.with_raw_response.count_tokens(model="scripted", messages=QUESTION)
    assert found.headers["x-gateway-estimated"] == "true"
    direct.provider.on("scripted", refused(400, "invalid_request_error", "messages: odd"))
    with pytest.raises(anthropic.BadRequestError, match="odd"):
        direct.client.messages.count_tokens(model="scripted", messages=QUESTION)


def test_a_strict_server_of_openais_protocol_gets_only_its_own_words(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    gateway.add_provider(provider)
    mark = {"type": "ephemeral"}
    history: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": mark}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": [
                        {"type": "text", "text": "broken"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                        },
                    ],
                },
                {"type": "text", "text": "and now?"},
            ],
        },
    ]
    with client_of(gateway) as client:
        client.messages.create(
            model="scripted",
            max_tokens=50,
            messages=history,
            system=[{"type": "text", "text": "Be brief.", "cache_control": mark}],  # type: ignore[list-item]
            tools=[{**WEATHER, "cache_control": mark}],  # type: ignore[list-item]
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            stop_sequences=["END"],
            thinking={"type": "enabled", "budget_tokens": 5000},
            metadata={"user_id": "u" * 100},
            output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        )
    sent = provider.wait_for(1).json
    assert len(sent.pop("user")) == 64
    function = {
        "name": "get_weather",
        "description": WEATHER["description"],
        "parameters": WEATHER["input_schema"],
    }
    call = {"id": "toolu_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    assert sent == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: broken"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What the call toolu_1 gave beside its text:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    {"type": "text", "text": "and now?"},
                ],
            },
        ],
        "max_tokens": 50,
        "stop": ["END"],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning_effort": "medium",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }


def test_a_tool_that_only_anthropic_has_is_refused_by_name(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    with client_of(gateway) as client, pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
        client.messages.create(model="scripted", tools=[{"type": "web_search_20250305", "name": "web_search"}], **BODY)
