"""What g4f's browser client asks a server for, call for call with its headers and bodies: it must boot and chat here.

Its own files are no part of this project. Only what it sends and what it reads of the answers is known here; whoever
serves it adds the key (docs/backend.md), because it has no sign-in of its own.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from conversations.models import Message, SharedChat
from tests.people import charlie
from tests.support.answers import events_of, sse, stream, tool_deltas
from tests.support.gateway import LiveGateway
from tests.support.pictures import b64, picture
from tests.support.provider import ScriptedProvider
from tests.support.sounds import MP3, speaking

BASE = "/backend-api/v2"
RED = picture()


class Page:
    """The client: reads streams as it does, which is by the lines that begin with `data: ` and by nothing else."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        # What it keeps of a conversation, and sends again.
        self.id = str(uuid.uuid4())
        self.items: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.sent = int(time.time())

    def body(self, **more: Any) -> dict[str, Any]:
        self.sent += 1
        return {
            "id": str(self.sent),
            "conversation_id": self.id,
            "conversation": self.state or None,
            "model": None,
            "provider": "AnyProvider",
            "messages": [{"role": "system", "content": "Be brief."}, *self.items],
            "web_search": False,
            "prompt": None,
            "action": "next",
            "download_media": True,
            "debug_mode": False,
            "api_key": {"Scripted": "sk-of-the-page"},
            "ignored": ["Nobody"],
            "aspect_ratio": None,
            "tools": [],
            **more,
        }

    def ask(self, text: str, files: tuple[Any, ...] = (), **more: Any) -> list[dict[str, Any]]:
        self.items.append({"role": "user", "content": text})
        return self.post(self.body(**more), files)

    def post(self, body: dict[str, Any], files: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        headers = {"accept": "text/event-stream", "x-secret": "", "x-user": "somebody else"}
        sent: dict[str, Any] = {"json": body}
        if files:
            sent = {"data": {"json": json.dumps(body)}, "files": [("files", file) for file in files]}
        answer = self.http.post(f"{BASE}/conversation", headers=headers, **sent)
        # For any other status it shows an empty bubble.
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
        assert all(isinstance(event["type"], str) for event in seen)
        for event in seen:
            if event["type"] == "conversation":
                self.state |= event["conversation"]
        if words := said(seen):
            self.items.append({"role": "assistant", "content": words})
        return seen


def said(seen: list[dict[str, Any]]) -> str:
    return "".join(event["content"] for event in seen if event["type"] == "content")


def of(seen: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return [event for event in seen if event["type"] == kind][-1]


@pytest.fixture
def page(gateway: LiveGateway, provider: ScriptedProvider, alice: User) -> Page:
    gateway.add_provider(provider, "scripted", name="Scripted")
    gateway.add_provider(provider, {"public_id": "voice", "speech": True, "chat": False}, name="Voices")
    provider.on("scripted", stream("Hel", "lo"))
    provider.on("voice", speaking())
    gateway.http.headers.update(gateway.auth(gateway.make_key(alice)))
    return Page(gateway.http)


def test_it_boots(page: Page) -> None:
    http = page.http
    # Any 200 tells it that this is its server; a newer version would be announced in a banner.
    assert http.get(f"{BASE}/version", params={"cache": "true"}).status_code == 200
    version = http.get(f"{BASE}/version").json()
    assert version["version"]
    assert version["latest_version"] in (None, version["version"])
    for _ in range(2):
        assert http.get("/pa/providers").status_code == 404
    providers = http.get(f"{BASE}/providers").json()
    # It sorts them by their labels: one that is none ends the page.
    assert sorted(providers, key=lambda item: str.lower(item["label"]))
    assert [item["name"] for item in providers] == ["AnyProvider", "Scripted", "Voices"]
    assert all(item["active_by_default"] is not None for item in providers)
    models = http.get(f"{BASE}/models").json()
    assert all(isinstance(name, str) and isinstance(found, list) for name, found in models.items())
    for item in providers:
        headers = {"x-api-key": "sk-of-the-page", "x-ignored": "Nobody"}
        listed = http.get(f"{BASE}/models/{item['name']}", headers=headers)
        assert listed.status_code == 200
        for found in listed.json():
            for model in found["models"] if "group" in found else [found]:
                assert isinstance(model["id"], str)
                assert isinstance(model["label"], str)
        quota = http.get(f"{BASE}/quota/{item['name']}", headers=headers)
        assert (quota.status_code, set(quota.json())) == (404, {"error"})
    missing = http.get(f"{BASE}/chat/{uuid.uuid4()}", params={"now": 1}, headers={"if-none-match": "0"})
    assert (missing.status_code, set(missing.json())) == (404, {"error"})
    # A captcha of public demos; the client goes on without.
    for answer in (http.get(f"{BASE}/public-key"), http.post(f"{BASE}/public-key", json={})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_it_chats(page: Page, provider: ScriptedProvider) -> None:
    seen = page.ask("Hi")
    assert said(seen) == "Hello"
    assert of(seen, "provider")["provider"]["label"] == "Scripted"
    assert of(seen, "finish")["finish"] == {"reason": "stop"}
    used = of(seen, "usage")
    assert used["usage"]["total_tokens"] == 10
    assert (used["model"], used["provider"]) == ("scripted", "Scripted")
    assert page.state["Scripted"]["conversation_id"] == page.id
    assert isinstance(of(seen, "parameters")["parameters"], dict)
    assert provider.chats[-1].header("authorization") == "Bearer sk-upstream-credential-1"
    # The page sends all that was said, in one conversation.
    page.ask("And?", provider="Scripted", model="scripted", temperature=0.5)
    assert [message["content"] for message in provider.chats[-1].json["messages"]] == [
        "Be brief.",
        "Hi",
        "Hello",
        "And?",
    ]
    assert provider.chats[-1].json["temperature"] == 0.5
    page.items.pop()
    assert said(page.post(page.body(action="variant"))) == "Hello"
    assert said(page.post(page.body(action="continue"))) == "Hello"
    assert Message.objects.filter(conversation_id=page.id).count() >= 5
    assert said(page.ask("Not to be kept", conversation_id=None, conversation=None)) == "Hello"
    # What goes wrong is an event too.
    assert of(page.ask("Hi", model="nothing"), "error")["message"].startswith("ModelNotFound")
    for path in ("usage", "log"):
        report = {"user": "x", "model": "scripted", "provider": "Scripted", "label": "Scripted", "total_tokens": 10}
        answer = page.http.post(f"{BASE}/{path}", json=report)
        assert (answer.status_code, answer.json()) == (200, {})


def test_it_sends_and_gets_pictures_and_uses_tools(page: Page, provider: ScriptedProvider) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(RED)}"}}
    provider.on("scripted", sse(events_of([{"content": "Here:"}, {"images": [image]}])))
    seen = page.ask("Again", (("red.png", RED, "image/png"),), prompt="Again", aspect_ratio="16:9")
    part = provider.chats[-1].json["messages"][-1]["content"][-1]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    [drawn] = [event for event in seen if event.get("urls")]
    for url in (*drawn["urls"], drawn["urls"][0].replace("/media/", "/thumbnail/")):
        assert page.http.get(url).headers["content-type"].startswith("image/")
    calls = sse(events_of(tool_deltas("add", ['{"a":', "1}"]), finish="tool_calls"))
    provider.on("scripted", calls)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    seen = page.ask("Add", tools=[tool])
    call = of(seen, "tool_calls")["tool_calls"][0]
    assert call["function"]["arguments"]
    provider.on("scripted", stream("It is 1"))
    page.items += [
        {"role": "assistant", "content": None, "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
    ]  # fmt: skip
    assert said(page.post(page.body(tools=[tool], api_base=None))) == "It is 1"


def test_it_uploads_reads_aloud_and_remembers(page: Page, provider: ScriptedProvider, gateway: LiveGateway) -> None:
    http, bucket = page.http, str(uuid.uuid4())
    files = [("files", ("a.txt", b"All about foxes.")), ("files", ("red.png", RED))]
    kept = http.post(f"{BASE}/files/{bucket}", files=files).json()
    assert (kept["bucket_id"], kept["files"], [item["name"] for item in kept["media"]]) == (
        bucket,
        ["a.txt"],
        ["red.png"],
    )
    for path in (f"{BASE}/files/{bucket}", f"/files/{bucket}"):
        lines = http.get(f"{path}/stream").text.split("\n")
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        assert told[-1]["action"] == "done"
        assert told[-1]["size"] > 0
        assert "foxes" in http.get(path).text
    for kind in ("media", "thumbnail"):
        assert http.get(f"/files/{bucket}/{kind}/red.png").status_code == 200
    page.items.append({"role": "user", "content": [{"bucket_id": bucket}, {"text": "What is it about?"}]})
    assert said(page.post(page.body())) == "Hello"
    assert "foxes" in json.dumps(provider.chats[-1].json)
    assert http.delete(f"{BASE}/files/{bucket}").json() == {"message": "Bucket deleted successfully"}
    assert http.get(f"/files/{bucket}").status_code == 404
    spoken = http.get(f"{BASE}/synthesize/Voices", params={"text": "Hello", "voice": "alloy"})
    assert (spoken.content, spoken.headers["content-type"]) == (MP3, "audio/mpeg")
    said_before = {"id": page.id, "items": [{"role": "user", "content": "I like foxes"}]}
    assert http.post(f"{BASE}/memory/me", json=said_before).json() == {"count": 1}
    [item] = http.get(f"{BASE}/memory/alice", params={"search": "foxes", "filters": "{}"}).json()["items"]
    assert (item["memory"], item["user_id"]) == ("I like foxes", "alice")
    cookies = {"file": ("chat.har", b'{"log": {"entries": []}}')}
    assert http.post(f"{BASE}/upload_cookies", files=cookies).status_code == 403, "cookies are everybody's"
    staff = gateway.auth(gateway.make_key(charlie()))
    assert http.post(f"{BASE}/upload_cookies", files=cookies, headers=staff).status_code == 200


def test_it_shares_and_polls(page: Page) -> None:
    page.ask("Hi")
    http, there = page.http, f"{BASE}/chat/{page.id}"
    chat: dict[str, Any] = {
        "id": page.id, "title": "Hi", "new_title": "Hi", "added": 1, "updated": 1000, "system": "", "share": True,
        "items": page.items, "data": page.state, "star": False, "backup": None,
    }  # fmt: skip
    assert http.post(there, json=chat).json()["share_id"] == page.id
    reader = httpx.Client(base_url=http.base_url)
    got = reader.get(there, params={"now": 1})
    assert (got.status_code, got.json()["items"][0]["content"]) == (200, "Hi")
    for _ in range(2):
        same = reader.get(there, params={"now": 2}, headers={"if-none-match": "1000"})
        assert (same.status_code, same.headers["content-type"]) == (304, "application/json")
    assert reader.get(there, headers={"if-none-match": got.headers["etag"]}).status_code == 304
    # The same once more changes nothing, a newer one is seen.
    assert http.post(there, json={**chat, "title": "Other"}).status_code == 200
    assert reader.get(there).json()["title"] == "Hi"
    newer = {**chat, "updated": 2000, "items": [*page.items, {"role": "user", "content": "More"}]}
    assert http.post(there, json=newer).status_code == 200
    seen = reader.get(there, headers={"if-none-match": "1000"}).json()
    assert (seen["updated"], seen["items"][-1]["content"]) == (2000, "More")
    # It deletes one by the address of a bucket.
    stranger = reader.delete(f"{BASE}/files/{page.id}")
    assert stranger.status_code == 401
    assert http.delete(f"{BASE}/files/{page.id}").status_code == 200
    assert reader.get(there).status_code == 404
    assert SharedChat.objects.get().revoked_at
    assert http.delete(f"{BASE}/files/{page.id}").status_code == 404
    reader.close()
