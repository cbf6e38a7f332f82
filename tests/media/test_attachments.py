"""Parts that name a bucket carry its content to the provider, for its owner alone."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from media import buckets
from media.buckets import Incoming
from media.models import Bucket
from tests.media.conftest import picture
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

pytestmark = pytest.mark.usefixtures("stored_paths")
SOUND = (
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"
    + bytes(40)
)


@pytest.fixture
def bucket(alice: User, stored_paths: Any) -> None:
    import io

    files = {
        "a.txt": b"planted words",
        "b.csv": b"x,y\n1,2\n",
        "p.png": picture(),
        "s.wav": SOUND,
        "f.mkv": b"\x1a\x45\xdf\xa3matroska" + bytes(60),
    }
    buckets.add(alice.pk, "mine", [Incoming(name, io.BytesIO(data)) for name, data in files.items()])


def ask(gateway: LiveGateway, user: User, *parts: Any, before: Any = "hi", **more: Any) -> httpx.Response:
    messages = [{"role": "system", "content": before}, {"role": "user", "content": list(parts)}]
    body = {"model": "scripted", "messages": messages, **more}
    return gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(gateway.make_key(user)))


def refused(answer: httpx.Response, status: int, code: str, param: str) -> None:
    assert answer.status_code == status, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("stream", [False, True])
def test_a_bucket_comes_as_text_and_its_media_inline(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, stream: bool
) -> None:
    gateway.add_provider(provider)
    answer = ask(
        gateway, alice, {"text": "look"}, {"bucket_id": "mine"}, {"bucket_id": "mine", "name": "p.png", "url": "/x"},
        {"bucket_id": "mine", "name": "s.wav"}, {"type": "text", "text": "end"}, stream=stream,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    text, words, image, sound, end = provider.requests[-1].json["messages"][1]["content"]
    assert (text, end) == ({"type": "text", "text": "look"}, {"type": "text", "text": "end"})
    assert words["type"] == "text"
    assert words["text"].startswith("<!-- File: a.txt -->\nplanted words\n<-- End -->\n\n<!-- File: b.csv.md -->")
    assert "| 1 | 2 |" in words["text"]
    kind, _, data = image["image_url"]["url"].partition(",")
    assert (image["type"], kind) == ("image_url", "data:image/png;base64")
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert sound == {"type": "input_audio", "input_audio": {"data": base64.b64encode(SOUND).decode(), "format": "wav"}}


@pytest.mark.usefixtures("bucket")
def test_what_is_anothers_or_missing_is_named(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, bob: User
) -> None:
    gateway.add_provider(provider)
    at = "messages[1].content[1]"
    first = {"type": "text", "text": "a"}
    foreign = ask(gateway, bob, first, {"bucket_id": "mine"})
    refused(foreign, 404, "bucket_not_found", f"{at}.bucket_id")
    missing = ask(gateway, bob, first, {"bucket_id": "none"})
    assert missing.json() == foreign.json()
    refused(
        ask(gateway, bob, first, {"bucket_id": "mine", "name": "p.png"}), 404, "bucket_not_found", f"{at}.bucket_id"
    )
    refused(ask(gateway, alice, first, {"bucket_id": "mine", "name": "q.png"}), 404, "file_not_found", f"{at}.name")
    refused(ask(gateway, alice, first, {"bucket_id": "mine", "name": "f.mkv"}), 400, "invalid_value", f"{at}.name")
    refused(ask(gateway, alice, first, {"bucket_id": 1}), 400, "invalid_type", f"{at}.bucket_id")
    refused(ask(gateway, alice, first, {"bucket_id": "mine", "name": 1}), 400, "invalid_type", f"{at}.name")
    refused(ask(gateway, alice, *[{"bucket_id": "mine"}] * 51), 400, "array_above_max_length", "messages")
    assert provider.requests == []
    assert Bucket.objects.filter(owner=bob).count() == 0


@pytest.mark.usefixtures("bucket")
def test_more_than_a_request_takes_is_cut_with_a_notice(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    gateway.add_provider(provider)
    monkeypatch.setattr("gateway.surfaces.openai.attachments.MAX_CHARACTERS", 30)
    ask(gateway, alice, {"bucket_id": "mine"})
    text = provider.requests[-1].json["messages"][1]["content"][0]["text"]
    assert text == "<!-- File: a.txt -->\nplanted w\n\n[Cut here: the files hold more text than one request takes.]\n"
    monkeypatch.setattr("gateway.surfaces.openai.attachments.MAX_CHARACTERS", 200)
    ask(gateway, alice, *[{"bucket_id": "mine"}] * 50)
    texts = [part["text"].partition("\n\n[Cut")[0] for part in provider.requests[-1].json["messages"][1]["content"]]
    assert sum(len(text) for text in texts) == 200
    settings.MAX_BODY_BYTES = 2000
    answer = ask(gateway, alice, *[{"bucket_id": "mine", "name": "s.wav"}] * 30)
    refused(answer, 413, "request_too_large", "messages[1].content[25]")


def test_without_buckets_nothing_is_asked_of_the_database(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.add_provider(provider)

    async def fail(*given: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("gateway.surfaces.openai.consumer.attach", fail)
    assert ask(gateway, alice, {"type": "text", "text": "x", "bucket_id": "mine"}).status_code == 200
