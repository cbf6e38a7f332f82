"""What reaches the provider: the caller's fields untouched, the gateway's own never, and nothing of its headers."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.clients.core import NAMED, QUESTION, WEATHER
from tests.support.answers import chunk, completion, reply_json, sse
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


@pytest.fixture
def client(gateway: LiveGateway, provider: ScriptedProvider) -> openai.OpenAI:
    # Addresses of pictures are passed on, too.
    gateway.add_provider(provider, {"public_id": "scripted", "upstream_name": "upstream-name"}, fetch_media=False)
    return gateway.client()


def sent(provider: ScriptedProvider) -> dict[str, Any]:
    body: dict[str, Any] = provider.wait_for(1).json
    return body


def test_only_the_model_is_renamed(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    client.chat.completions.create(model="scripted", messages=QUESTION)
    assert sent(provider) == {"model": "upstream-name", "messages": QUESTION}


def test_streams_ask_for_usage(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    list(client.chat.completions.create(model="scripted", messages=QUESTION, stream=True))
    assert sent(provider) == {
        "model": "upstream-name",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_known_fields_pass_untouched(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.25,
        "top_p": 0.5,
        "max_tokens": 5,
        "max_completion_tokens": 6,
        "n": 2,
        "stop": ["a", "b"],
        "seed": 11,
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"50256": -100},
        "user": "customer-7",
        "metadata": {"k": "v"},
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "presence_penalty": -1.5,
        "frequency_penalty": 1.5,
        "tools": [WEATHER],
        "response_format": {"type": "json_object"},
        "service_tier": "auto",
        "prompt_cache_key": "p",
        "modalities": ["text"],
    }
    client.chat.completions.create(model="scripted", messages=QUESTION, **fields)
    assert sent(provider) == {"model": "upstream-name", "messages": QUESTION, **fields}


@pytest.mark.parametrize("choice", ["auto", "none", "required", NAMED])
def test_every_form_of_tool_choice_passes(client: openai.OpenAI, provider: ScriptedProvider, choice: Any) -> None:
    client.chat.completions.create(model="scripted", messages=QUESTION, tools=[WEATHER], tool_choice=choice)
    assert sent(provider)["tool_choice"] == choice


def test_unknown_fields_pass_untouched(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    unknown = {
        "top_k": 40,
        "min_p": 0.05,
        "guided": {"deep": [1, {"x": None}]},
        "chat_template_kwargs": {"think": False},
    }
    client.chat.completions.create(model="scripted", messages=QUESTION, extra_body=unknown)
    assert {key: sent(provider).get(key) for key in unknown} == unknown


def test_extra_body_in_the_body_is_merged(
    gateway: LiveGateway, client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    body = {"model": "scripted", "messages": QUESTION, "seed": 1, "extra_body": {"top_k": 4, "seed": 2, "proxy": "x"}}
    assert gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth()).status_code == 200
    assert sent(provider) == {"model": "upstream-name", "messages": QUESTION, "seed": 1, "top_k": 4}


STEERING: dict[str, Any] = {
    "provider": "scripted",
    "proxy": "http://proxy.invalid:1",
    "api_key": "sk-caller-brought-this",
    "api_base": "http://elsewhere.invalid/v1",
    "base_url": "http://elsewhere.invalid/v1",
    "conversation_id": "c-1",
    "conversation": {"id": 1},
    "web_search": True,
    "download_media": True,
    "images": [[PIXEL, "a.png"]],
    "media": [[PIXEL, "a.png"]],
    "image": PIXEL,
    "image_name": "a.png",
    "raw": True,
    "tool_emulation": True,
    "cache": True,
    "timeout": 5,
}


@pytest.mark.parametrize("streamed", [False, True])
def test_steering_fields_never_reach_a_provider(
    client: openai.OpenAI, provider: ScriptedProvider, streamed: bool
) -> None:
    answer = client.chat.completions.create(model="scripted", messages=QUESTION, extra_body=STEERING, stream=streamed)
    if streamed:
        list(answer)
    assert set(sent(provider)) == {"model", "messages", *(("stream", "stream_options") if streamed else ())}


@pytest.mark.parametrize("field", ["proxy", "api_key", "api_base", "base_url"])
def test_what_is_ignored_is_said(client: openai.OpenAI, field: str) -> None:
    create = client.chat.completions.with_raw_response.create
    warned = create(model="scripted", messages=QUESTION, extra_body={field: STEERING[field]})
    assert field in warned.headers["warning"]
    assert STEERING[field] not in warned.headers["warning"]
    for empty in (None, ""):
        quiet = create(model="scripted", messages=QUESTION, extra_body={field: empty})
        assert "warning" not in quiet.headers


def test_images_and_other_parts_pass_untouched(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    parts = [
        {"type": "text", "text": "What is this? ☃ \u0000 😀"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZFZm10IA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "made_up", "anything": [1, 2]},
    ]
    messages: list[Any] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": parts, "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}, "extra": 1}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "a", "reasoning_content": "kept"},
        {"role": "assistant", "content": "b"},
    ]  # fmt: skip
    client.chat.completions.create(model="scripted", messages=messages)
    assert sent(provider)["messages"] == messages


def test_nothing_of_the_callers_headers_goes_on(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    extra = {"x-trace": "t-1", "cookie": "sessionid=1", "x-user": "eve", "openai-organization": "org-1", "referer": "r"}
    client.chat.completions.create(model="scripted", messages=QUESTION, extra_headers=extra)
    request = provider.wait_for(1)
    names = {name.lower() for name, _ in request.headers}
    assert names <= {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
    }
    assert request.header("authorization") == "Bearer sk-upstream-credential-1"
    assert request.header("accept-encoding") == "identity"
    assert "OpenAI" not in (request.header("user-agent") or "")


def test_unknown_fields_of_the_answer_survive(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.on("upstream-name", reply_json(completion("x", system_fingerprint="fp_1", vendor={"deep": [1.5]})))
    answer = client.chat.completions.create(model="scripted", messages=QUESTION)
    assert answer.system_fingerprint == "fp_1"
    assert answer.model_extra
    assert answer.model_extra["vendor"] == {"deep": [1.5]}
    assert answer.model_extra["provider"] == "Scripted"


def test_unknown_fields_of_chunks_survive(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    events = [
        chunk({"role": "assistant", "content": "x", "reasoning_content": "hm"}, vendor=1),
        chunk({}, "stop"),
        "[DONE]",
    ]
    provider.on("upstream-name", sse(events))
    first, *_ = client.chat.completions.create(model="scripted", messages=QUESTION, stream=True)
    assert first.model_extra == {"vendor": 1}
    assert first.choices[0].delta.model_extra == {"reasoning_content": "hm"}
