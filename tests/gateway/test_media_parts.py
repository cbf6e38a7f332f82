"""Pictures and sounds: refused by name where a model takes none, and fetched or passed on as the operator says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from pytest_django import Settings

from gateway.models import Provider
from gateway.snapshot import store
from tests.support import answers, anthropic_answers
from tests.support.commands import run
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
PIXEL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
BLIND, DEAF = {"public_id": "m", "vision": False}, {"public_id": "m", "audio": False}
PICTURE = {"type": "image_url", "image_url": {"url": PIXEL}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZFZm10IA==", "format": "wav"}}
SURFACES = ("chat", "stream", "responses", "messages")


def ask(gateway: LiveGateway, *parts: dict[str, Any], surface: str = "chat", model: str = "m") -> httpx.Response:
    """The parts after a text, as a user's message of the surface."""
    content: list[dict[str, Any]] = [{"type": "text", "text": "see"}, *parts]
    path, body = "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": content}]}
    if surface == "responses":
        items = [{"type": "input_text", "text": "see"}]
        items += [{"type": "input_image", "image_url": part["image_url"]["url"]} for part in parts]
        path, body = "/v1/responses", {"model": model, "input": [{"role": "user", "content": items}]}
    elif surface == "messages":
        blocks: list[dict[str, Any]] = [{"type": "text", "text": "see"}, *map(_block, parts)]
        path, body = (
            "/v1/messages",
            {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": blocks}]},
        )
    return gateway.http.post(path, json={**body, "stream": surface == "stream"}, headers=gateway.auth())


def _block(part: dict[str, Any]) -> dict[str, Any]:
    url = part["image_url"]["url"]
    if url.startswith("http"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    data = url.partition(",")[2]
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


@pytest.mark.parametrize("surface", SURFACES)
def test_a_model_without_eyes_gets_no_picture(gateway: LiveGateway, provider: ScriptedProvider, surface: str) -> None:
    gateway.add_provider(provider, BLIND)
    found = ask(gateway, PICTURE, surface=surface)
    assert found.status_code == 400
    error = found.json()["error"]
    assert "'messages[0].content[1]': the model takes no pictures." in error["message"]
    if surface != "messages":
        assert (error["code"], error["param"]) == ("unsupported_parameter", "messages[0].content[1]")
    assert provider.chats == []
    # Without a picture it is asked as ever.
    assert ask(gateway, surface=surface).status_code == 200


def test_a_model_without_ears_gets_no_sound(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, DEAF)
    found = ask(gateway, PICTURE, SOUND)
    assert (found.status_code, found.json()["error"]["param"]) == (400, "messages[0].content[2]")
    assert ask(gateway, PICTURE).status_code == 200


@pytest.mark.parametrize("flag", [True, None])
def test_what_is_unknown_is_passed_on(gateway: LiveGateway, provider: ScriptedProvider, flag: bool | None) -> None:
    gateway.add_provider(provider, {"public_id": "m", "vision": flag, "audio": flag})
    assert ask(gateway, PICTURE, SOUND).status_code == 200
    assert provider.chats[0].json["messages"][0]["content"][1:] == [PICTURE, SOUND]


@pytest.mark.parametrize("surface", SURFACES)
def test_the_next_one_that_sees_is_taken(gateway: LiveGateway, provider: ScriptedProvider, surface: str) -> None:
    with ScriptedProvider() as seeing:
        gateway.add_provider(provider, BLIND)
        gateway.add_provider(seeing, "m", name="Seeing")
        assert ask(gateway, PICTURE, surface=surface).status_code == 200
        assert (len(provider.chats), len(seeing.chats)) == (0, 1)


def test_flags_of_tools_still_count(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, {"public_id": "m", "vision": False, "json": False, "emulate_json": True})
    assert ask(gateway, PICTURE).status_code == 400
    body = {"messages": [{"role": "user", "content": "{}"}], "response_format": {"type": "json_object"}, "model": "m"}
    provider.enqueue(answers.reply("{}"))
    assert gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth()).status_code == 200


@pytest.fixture
def pictures(settings: Settings) -> Iterator[ScriptedProvider]:
    """A server of pictures that the fetcher may reach."""
    with ScriptedProvider() as server:
        settings.FETCH_PORTS = frozenset({server.port})
        settings.FETCH_PRIVATE_HOSTS = frozenset({"127.0.0.1"})
        yield server


def at(pictures: ScriptedProvider, name: str = "a.png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{pictures.port}/{name}", "detail": "low"}}


def shown(provider: ScriptedProvider) -> Any:
    """The picture as the provider heard of it."""
    body = provider.requests[-1].json
    part = (body.get("messages") or body.get("input"))[-1]["content"][1]
    return part.get("source") or part["image_url"]


@pytest.mark.parametrize("fetch_media", [True, None, False])
@pytest.mark.parametrize("surface", SURFACES)
def test_an_address_is_fetched_or_passed_on(
    gateway: LiveGateway,
    provider: ScriptedProvider,
    pictures: ScriptedProvider,
    surface: str,
    fetch_media: bool | None,
) -> None:
    gateway.add_provider(provider, "m", fetch_media=fetch_media)
    pictures.enqueue(answers.raw(PNG, content_type="image/jpeg"))
    part = at(pictures)
    found = ask(gateway, part, surface=surface)
    assert found.status_code == 200, found.text
    # This provider is on a private address, so it is not to reach what callers name.
    passed = fetch_media is False
    assert len(pictures.requests) == (0 if passed else 1)
    said = shown(provider)
    assert said["url"] == (part["image_url"]["url"] if passed else PIXEL)
    if surface in ("chat", "stream"):
        assert said["detail"] == "low"


@pytest.mark.parametrize(
    ("fetch_media", "private", "fetches"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_unless_told_only_private_providers_get_bytes(
    gateway: LiveGateway, fetch_media: bool | None, private: bool, fetches: bool
) -> None:
    gateway.add_provider("https://api.example/v1", "m", fetch_media=fetch_media, allow_private=private)
    (model,) = store.current.by_model["m"]
    assert [target.fetches for target in model.targets] == [fetches]


def test_anthropics_client_at_an_anthropic_provider(
    gateway: LiveGateway, provider: ScriptedProvider, pictures: ScriptedProvider
) -> None:
    gateway.add_provider(provider, "m", adapter="anthropic")
    url = f"http://127.0.0.1:{pictures.port}"
    pdf = b"%PDF-1.4 not much"
    pictures.enqueue(answers.raw(PNG), answers.raw(pdf), answers.raw(PNG), answers.raw(pdf))
    mark = {"type": "ephemeral"}
    inner: Any = {"type": "image", "source": {"type": "url", "url": f"{url}/a.png"}, "cache_control": mark}
    messages: Any = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "see", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [inner]},
                {"type": "document", "source": {"type": "url", "url": f"{url}/b.pdf"}, "title": "B"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            ],
        },
    ]
    client = anthropic.Anthropic(api_key=gateway.key, base_url=gateway.url, max_retries=0)
    provider.enqueue(anthropic_answers.said("text"), answers.reply_json({"input_tokens": 5}))
    client.messages.create(model="m", max_tokens=9, messages=messages)
    assert client.messages.count_tokens(model="m", messages=messages).input_tokens == 5
    assert len(pictures.requests) == 4
    for request in provider.requests:
        result, document, own = request.json["messages"][2]["content"]
        picture = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
        assert result["content"] == [{**inner, "source": picture}]
        assert document["title"] == "B"
        assert document["source"]["media_type"] == "application/pdf"
        assert base64.b64decode(document["source"]["data"]) == pdf
        assert own == messages[2]["content"][2]


@pytest.mark.parametrize("adapter", ["openai_chat", "anthropic", "openai_responses", "ollama", "gemini"])
@pytest.mark.parametrize("surface", SURFACES)
def test_data_that_is_no_picture_reaches_nobody(
    gateway: LiveGateway, provider: ScriptedProvider, surface: str, adapter: str
) -> None:
    gateway.add_provider(provider, "m", adapter=adapter)
    page = base64.b64encode(b"<html>no picture</html>" * 20).decode()
    found = ask(gateway, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{page}"}}, surface=surface)
    assert found.status_code == 400
    error = found.json()["error"]
    assert "'messages[0].content[1].image_url.url': text/plain is not accepted here." in error["message"]
    if surface != "messages":
        assert (error["code"], error["param"]) == ("invalid_image_url", "messages[0].content[1].image_url.url")
    assert provider.requests == []


@pytest.mark.parametrize("adapter", ["openai_chat", "anthropic", "openai_responses"])
@pytest.mark.parametrize("surface", SURFACES)
def test_a_picture_goes_under_the_type_of_its_bytes(
    gateway: LiveGateway, provider: ScriptedProvider, surface: str, adapter: str
) -> None:
    gateway.add_provider(provider, "m", adapter=adapter)
    data = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(200)).decode()
    # `_block` says image/png as well.
    ask(gateway, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}, surface=surface)
    said = shown(provider)
    if adapter == "anthropic":
        assert said == {"type": "base64", "media_type": "image/jpeg", "data": data}
    else:
        assert (said if isinstance(said, str) else said["url"]) == f"data:image/jpeg;base64,{data}"


def test_a_picture_in_a_result_keeps_its_place_under_its_type(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m", adapter="anthropic")
    provider.enqueue(anthropic_answers.said("text"))
    data = base64.b64encode(b"GIF89a" + bytes(99)).decode()
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    messages: Any = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "see", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [image]}]},
    ]
    anthropic.Anthropic(api_key=gateway.key, base_url=gateway.url, max_retries=0).messages.create(
        model="m", max_tokens=9, messages=messages
    )
    (result,) = provider.requests[0].json["messages"][2]["content"]
    assert result["content"] == [{**image, "source": {**image["source"], "media_type": "image/gif"}}]


@pytest.mark.parametrize("adapter", ["openai_chat", "anthropic", "openai_responses"])
@pytest.mark.parametrize("surface", ["chat", "messages"])
def test_the_guard_holds(gateway: LiveGateway, provider: ScriptedProvider, surface: str, adapter: str) -> None:
    gateway.add_provider(provider, "m", adapter=adapter)
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}
    found = ask(gateway, part, surface=surface)
    assert found.status_code == 400
    assert "private network" in found.json()["error"]["message"]
    assert provider.requests == []


def test_what_is_no_picture_is_refused(
    gateway: LiveGateway, provider: ScriptedProvider, pictures: ScriptedProvider
) -> None:
    gateway.add_provider(provider, "m")
    pictures.enqueue(answers.html(200))
    found = ask(gateway, at(pictures))
    assert (found.status_code, found.json()["error"]["param"]) == (400, "messages[0].content[1].image_url.url")
    assert provider.requests == []


def test_the_command_says_which(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    for word, value in (("yes", True), ("no", False), ("auto", None)):
        run("provider", "set", "Scripted", "--fetch-media", word)
        assert Provider.objects.get().fetch_media is value
        shown = json.loads(run("provider", "show", "Scripted", "--json").out)
        assert shown["fetch_media"] is value
