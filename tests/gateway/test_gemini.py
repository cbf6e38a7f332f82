"""A Gemini provider behind `/v1/chat/completions`, over sockets, asked by OpenAI's client; and its lists of models."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pytest_django import Settings

from gateway import discovery
from gateway.adapters.sse import MAX_EVENT_BYTES
from gateway.catalogue import read_google_models
from gateway.dialects import dialect_of
from gateway.models import Provider, UsageEvent
from gateway.targets import Endpoint
from gateway.usage import writer
from tests.support import answers
from tests.support.commands import run
from tests.support.gateway import LiveGateway
from tests.support.listing import ListingServer
from tests.support.provider import ScriptedProvider

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
HELLO: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def said(name: str, status: int = 200) -> answers.Answer:
    return answers.raw((FIXTURES / name).read_bytes(), status=status)


def streaming(*records: Any) -> answers.Answer:
    return answers.sse([json.dumps(record) for record in records], newline=b"\r\n")


def add(gateway: LiveGateway, provider: ScriptedProvider | str, **fields: Any) -> Provider:
    fields = {"adapter": "gemini", "auth_style": "header", "auth_name": "x-goog-api-key", "name": "Gemini", **fields}
    return gateway.add_provider(provider, "gemini-2.5-flash", **fields)


@pytest.fixture
def client(gateway: LiveGateway, provider: ScriptedProvider) -> openai.OpenAI:
    add(gateway, provider, priority=1)
    return gateway.client()


def ask(client: openai.OpenAI, messages: Any = HELLO, **more: Any) -> Any:
    return client.chat.completions.create(model="gemini-2.5-flash", messages=messages, **more)


def test_a_plain_answer(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.enqueue(said("answer.json"))
    found = ask(client, temperature=0.2, max_tokens=50)
    assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("Hello there.", "stop")
    assert found.choices[0].message.reasoning_content == "The user greets."
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (20, 16, 36)
    assert found.usage.prompt_tokens_details.cached_tokens == 8
    assert found.usage.completion_tokens_details.reasoning_tokens == 12
    (request,) = provider.requests
    assert (request.method, request.path) == ("POST", "/v1/models/gemini-2.5-flash:generateContent")
    assert request.header("x-goog-api-key") == "sk-upstream-credential-1"
    assert request.header("authorization") is None
    assert request.json == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"temperature": 0.2, "maxOutputTokens": 50},
    }
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("ok", 20, 16)


def test_a_stream(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.sse([(FIXTURES / "stream.sse").read_bytes()], packet=50))
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Hello there."
    assert "".join(getattr(delta, "reasoning_content", "") or "" for delta in deltas) == "The user greets."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 16)
    assert provider.requests[0].path == "/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"


@pytest.mark.parametrize("stream", [False, True])
def test_tools_over_two_turns(client: openai.OpenAI, provider: ScriptedProvider, stream: bool) -> None:
    provider.enqueue(streaming(fixture("calls.json")) if stream else said("calls.json"), said("answer.json"))
    if stream:
        with client.chat.completions.stream(model="gemini-2.5-flash", messages=HELLO, tools=[WEATHER]) as events:
            found = events.get_final_completion()
    else:
        found = ask(client, tools=[WEATHER])
    message = found.choices[0].message
    assert found.choices[0].finish_reason == "tool_calls"
    weather, clock = message.tool_calls or ()
    assert (weather.function.name, weather.function.arguments, clock.id) == ("weather", '{"city":"Paris"}', "own-id")
    results = [
        {"role": "tool", "tool_call_id": weather.id, "content": '{"degrees": 21}'},
        {"role": "tool", "tool_call_id": clock.id, "content": "noon"},
    ]
    again = ask(client, [*HELLO, message.model_dump(exclude_none=True), *results], tools=[WEATHER])
    assert again.choices[0].message.content == "Hello there."
    _, model, user = provider.requests[1].json["contents"]
    first, second = model["parts"]
    assert first["functionCall"] == {"name": "weather", "args": {"city": "Paris"}, "id": weather.id}
    assert second["functionCall"]["id"] == "own-id"
    assert [part["functionResponse"]["name"] for part in user["parts"]] == ["weather", "clock"]
    assert first["thoughtSignature"] == "c2lnbmF0dXJl"


def test_pictures_go_in_as_bytes(
    gateway: LiveGateway, client: openai.OpenAI, provider: ScriptedProvider, settings: Settings
) -> None:
    with ScriptedProvider() as pictures:
        pictures.enqueue(answers.raw(PNG, content_type="text/plain"))
        settings.FETCH_PORTS = frozenset({pictures.port})
        settings.FETCH_PRIVATE_HOSTS = frozenset({"127.0.0.1"})
        provider.enqueue(said("answer.json"))
        url = f"http://127.0.0.1:{pictures.port}/a.png"
        here = f"data:image/jpeg;base64,{base64.b64encode(PNG).decode()}"
        parts = [{"type": "image_url", "image_url": {"url": address}} for address in (url, here)]
        ask(client, [{"role": "user", "content": parts}])
        assert (pictures.requests[0].method, pictures.requests[0].path) == ("GET", "/a.png")
    inline = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}}
    assert provider.requests[0].json["contents"] == [{"role": "user", "parts": [inline, inline]}]


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_may_not_be_fetched_names_its_part(
    client: openai.OpenAI, provider: ScriptedProvider, stream: bool
) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "http://localhost/a.png"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, [{"role": "user", "content": parts}], stream=stream)
    assert (caught.value.code, caught.value.param) == ("invalid_image_url", "messages[0].content[1].image_url.url")
    assert "private network" in caught.value.message
    assert provider.requests == []


@pytest.mark.parametrize("stream", [False, True])
def test_pictures_come_out_and_can_be_sent_back(
    client: openai.OpenAI, provider: ScriptedProvider, stream: bool
) -> None:
    drawn = base64.b64encode(PNG).decode()
    record = fixture("image.json")
    record["candidates"][0]["content"]["parts"][1]["inlineData"]["data"] = drawn
    provider.enqueue(streaming(record) if stream else answers.reply_json(record), said("answer.json"))
    found = ask(client, modalities=["text", "image"], stream=stream)
    if stream:
        message = {"role": "assistant", "content": "Here it is:"}
        for chunk in found:
            for key in ("images", "reasoning_details"):
                message |= {key: getattr(chunk.choices[0].delta, key)} if hasattr(chunk.choices[0].delta, key) else {}
    else:
        message = found.choices[0].message.model_dump(exclude_none=True)
    assert message["images"][0]["image_url"]["url"] == f"data:image/png;base64,{drawn}"  # type: ignore[index]
    ask(client, [*HELLO, message, {"role": "user", "content": "bluer"}])
    assert provider.requests[0].json["generationConfig"] == {"responseModalities": ["TEXT", "IMAGE"]}
    assert provider.requests[1].json["contents"][1]["parts"] == [
        {"text": "Here it is:"},
        {"inlineData": {"mimeType": "image/png", "data": drawn}, "thoughtSignature": "aW1n"},
    ]


def test_a_large_picture_comes_whole_in_one_event(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    drawn = base64.b64encode(PNG * 90_000).decode()
    assert len(drawn) > MAX_EVENT_BYTES
    record = fixture("image.json")
    record["candidates"][0]["content"]["parts"][1]["inlineData"]["data"] = drawn
    provider.enqueue(streaming(record))
    found = [chunk.choices[0].delta for chunk in ask(client, stream=True)]
    (images,) = [delta.images for delta in found if hasattr(delta, "images")]
    assert images[0]["image_url"]["url"].endswith(drawn)


@pytest.mark.parametrize("name", ["safety.json", "blocked.json"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_safety_stop_is_filtered_content(
    client: openai.OpenAI, provider: ScriptedProvider, name: str, stream: bool
) -> None:
    provider.enqueue(streaming(fixture(name)) if stream else said(name))
    found = ask(client, stream=stream)
    last = list(found)[-1] if stream else found
    assert last.choices[0].finish_reason == "content_filter"
    assert last.usage.prompt_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_sends_the_request_to_another_provider(
    gateway: LiveGateway, client: openai.OpenAI, provider: ScriptedProvider, stream: bool
) -> None:
    with ScriptedProvider() as other:
        gateway.add_provider(other, "gemini-2.5-flash", name="Other", priority=2)
        provider.enqueue(said("limited.json", 429))
        other.enqueue(answers.sse(answers.events_of([{"content": "Hello there"}])) if stream else answers.reply())
        found = ask(client, stream=stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices) if stream else ""
        assert (text or found.choices[0].message.content) == "Hello there"
        assert len(provider.requests) == len(other.requests) == 1


def test_a_limit_without_another_provider_says_when_to_come_back(
    client: openai.OpenAI, provider: ScriptedProvider
) -> None:
    provider.enqueue(said("limited.json", 429))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after-ms"] == "36900"


def test_an_error_within_a_stream_ends_it_with_one(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    begun = {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}
    failed = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    provider.enqueue(streaming(begun, failed))
    stream = ask(client, stream=True)
    assert next(stream).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIError, match="UNAVAILABLE"):
        list(stream)


@pytest.fixture
def server() -> Iterator[ListingServer]:
    with ListingServer() as listing:
        yield listing


def paged(server: ListingServer) -> None:
    """Two pages, of which the second comes for the first one's token."""

    def act(handler: Any) -> None:
        last = {"models": [{"name": "models/gemini-3-pro", "supportedGenerationMethods": ["generateContent"]}]}
        body = json.dumps(last if "pageToken=page+two" in handler.path else fixture("models.json")).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.does("/v1/models", act)


def row(server: ListingServer) -> Provider:
    fields = {"adapter": "gemini", "auth_style": "none", "allow_private": True}
    return Provider.objects.create(name="Gemini", base_url=server.base_url, **fields)


@pytest.mark.django_db
class TestCommands:
    def test_sync_reads_every_page(self, server: ListingServer) -> None:
        paged(server)
        found = row(server)
        run("provider", "sync", "Gemini")
        models = {model.public_id: model for model in found.models.all()}
        listed = [entry["name"].removeprefix("models/") for entry in fixture("models.json")["models"]]
        assert list(models) == [*listed, "gemini-3-pro"]
        flash = models["gemini-2.5-flash"]
        assert (flash.upstream_name, flash.context_length) == ("gemini-2.5-flash", 1048576)
        assert (flash.chat, flash.reasoning, flash.embeddings, flash.tools) == (True, True, None, None)
        assert (models["gemini-embedding-001"].chat, models["gemini-embedding-001"].embeddings) == (False, True)
        assert models["imagen-4.0-generate-001"].image is True
        assert models["veo-3.0-generate-001"].video is True
        assert [request.path for request in server.seen] == [
            "/v1/models?pageSize=1000",
            "/v1/models?pageSize=1000&pageToken=page+two",
        ]

    def test_test_counts_them(self, server: ListingServer) -> None:
        paged(server)
        row(server)
        assert "5 models" in run("provider", "test", "Gemini").out

    def test_the_preset_speaks_the_protocol(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEMINI_KEY", "AIza-of-a-test")
        run("provider", "add", "--preset", "gemini", "--api-key-env", "GEMINI_KEY")
        made = Provider.objects.get()
        assert (made.adapter, made.auth_style, made.auth_name) == ("gemini", "header", "x-goog-api-key")
        assert made.base_url == "https://generativelanguage.googleapis.com/v1beta"


class TestDiscovery:
    def test_without_a_list_it_says_hello_in_geminis_words(self, server: ListingServer) -> None:
        server.says("/v1/models/gemini-x:generateContent", fixture("answer.json"))
        endpoint = Endpoint("Gemini", server.base_url, allow_private=True, auth_style="query", auth_name="key")
        found = discovery.test_connection(endpoint, "k", default_model="gemini-x", models_url="", adapter="gemini")
        assert found.answered == "gemini-x"
        assert [request.path for request in server.seen] == [
            "/v1/models?pageSize=1000&key=k",
            "/v1/models/gemini-x:generateContent?key=k",
        ]

    def test_a_list_without_end_ends(self, server: ListingServer) -> None:
        server.says("/v1/models", fixture("models.json"))
        endpoint = Endpoint("Gemini", server.base_url, allow_private=True)
        # A page that brings nothing new is the last.
        assert len(discovery.list_models(endpoint, adapter="gemini")) == 4

    def test_what_is_no_list_is_refused(self, server: ListingServer) -> None:
        server.says("/v1/models", ["x"])
        with pytest.raises(discovery.DiscoveryFailed, match="not a list of models"):
            discovery.list_models(Endpoint("Gemini", server.base_url, allow_private=True), adapter="gemini")

    def test_nonsense_in_an_entry_is_passed_over(self) -> None:
        entries = [
            5,
            {},
            {"name": ""},
            {"name": "models/"},
            {"name": "a", "supportedGenerationMethods": 5, "thinking": 1},
        ]
        listed = {"models": entries, "nextPageToken": 5}
        assert [(model.public_id, model.flags) for model in read_google_models(listed)] == [("a", {})]
        assert dialect_of("gemini").next_page(listed) is None
