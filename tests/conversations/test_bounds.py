"""How much one user may keep and start, and what is large is not read, walked or fetched all at once."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from conversations import export, tree
from conversations.generation import rows
from conversations.generation.ask import parse
from conversations.models import Conversation, ConversationLimits, Generation, Message, SharedChat
from conversations.shares.store import purge_expired
from gateway.snapshot import store
from media.models import StoredFile
from tests.support.answers import Hold, chunk, sse
from tests.support.browser import PATH, Browser
from tests.support.pictures import picture
from tests.support.provider import ScriptedProvider
from tests.support.refusals import refused

FULL = "too_many_conversations"


def test_a_user_keeps_so_many_conversations(
    ann: Any, ben: Any, provider: ScriptedProvider, settings: Settings, charlie: User
) -> None:
    ann.gateway.add_provider(provider, "scripted")
    settings.CONVERSATIONS_PER_USER = 2
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: ann.post().status_code, range(6)))
    assert sorted(made) == [201, 201, 400, 400, 400, 400]
    ann.make("what is not kept for long", temporary=True)
    chat = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    share = ben.ask("POST", "/backend-api/v2/chat", json={"items": chat["messages"]}).json()["share_id"]
    document = json.dumps([{"uuid": "1", "name": "x", "chat_messages": [{"sender": "human", "text": "hi"}]}])
    refused(ann.post(), 400, code=FULL)
    refused(ann.post(PATH, {**chat, "conversation_id": "new"}), 400, code=FULL)
    refused(ann.post(f"/backend-api/v2/chat/{share}/continue"), 400, code=FULL)
    refused(ann.ask("POST", "/import", files={"file": ("x.json", document)}), 400, code=FULL)
    assert ann.post(PATH, chat).status_code == 200, "a temporary one"
    assert ben.post().status_code == 201
    # The bin counts until it is emptied.
    [first, *_] = ann.get().json()["data"]
    ann.delete(f"/{first['id']}")
    refused(ann.post(), 400, code=FULL)
    ann.delete("/bin")
    assert ann.post(PATH, {**chat, "conversation_id": "new"}).status_code == 200
    assert ann.post(PATH, {**chat, "conversation_id": "new"}).status_code == 200, "it is there already"
    # The admin says otherwise of one.
    ConversationLimits.objects.create(user=ann.user, max_conversations=0)
    assert ann.post().status_code == 201
    staff = Client()
    staff.force_login(charlie)
    assert "3" in staff.get(f"/admin/auth/user/{ann.user.pk}/change/").content.decode().partition("Kept now")[2][:200]


def test_of_many_at_once_no_more_begin_than_may(ann: Any, provider: ScriptedProvider, settings: Settings) -> None:
    ann.gateway.add_provider(provider, "scripted")
    settings.MAX_STREAMS_PER_KEY = 3
    rest = threading.Event()
    provider.on("scripted", sse([chunk({"content": "one"}), Hold(rest)]))

    def ask(number: int) -> int:
        browser = Browser(ann.gateway.url, ann.headers["x-api-key"])
        body = {**browser.body("hi", conversation_id=f"c{number}"), "id": f"m{number}"}
        with browser.http.stream("POST", PATH, json=body) as answer:
            status = answer.status_code
        browser.close()
        return status

    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(ask, range(10)))
    assert Generation.objects.count() == found.count(200) == 3
    assert found.count(429) == 7
    # Who asks once more for what is being made hears it all the same.
    assert ask(found.index(200)) == 200
    rest.set()


def test_copies_go_when_they_have_long_expired(alice: User, settings: Settings) -> None:
    def share(name: str, days: float | None) -> SharedChat:
        expires = None if days is None else timezone.now() - timedelta(days=days)
        return SharedChat.objects.create(id=name * 24, owner=alice, title="t", body="{}", updated=1, expires_at=expires)

    old, new, ever = share("a", 31), share("b", 29), share("c", None)
    settings.SHARES_EXPIRED_DAYS = 0
    assert purge_expired() == 0
    settings.SHARES_EXPIRED_DAYS = 30
    assert (purge_expired(), purge_expired()) == (1, 0)
    for row in (old, new, ever):
        row.refresh_from_db()
    assert (old.body, old.title, old.expires_at) == ("", "", None)
    assert old.revoked_at
    assert (new.revoked_at, ever.revoked_at) == (None, None)


def test_no_folder_is_no_folder_to_rename(ann: Any) -> None:
    made = ann.make("x")
    refused(ann.patch("/folders", {"name": " ", "to": "all"}), 400, code="invalid_value", param="name")
    assert ann.get(f"/{made['id']}").json()["folder"] == ""


@pytest.mark.django_db
def test_what_is_large_is_read_bit_by_bit(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "READ_AT_ONCE", 3)
    monkeypatch.setattr(tree, "MOST_BESIDE", 4)
    row = tree.create_conversation(alice, title="Long")
    said = [tree.append(row, tree.SHOWN, "user", f"word {number}") for number in range(10)]
    assert [len(page) for page in tree.pages_to(row.active_leaf)] == [3, 3, 3, 1]
    text = b"".join(export.as_markdown(row)).decode()
    assert [text.index(f"word {number}\n") for number in range(10)] == sorted(
        text.index(f"word {number}\n") for number in range(10)
    )
    others = [tree.append(row, said[0], "user", "beside") for _ in range(5)]
    found = tree.siblings(row, [said[0], said[1], others[-1]])
    assert found[said[0].pk] == [said[0].pk]
    assert found[others[-1].pk] == [one.pk for one in others[1:]]
    assert found[said[1].pk] == [said[1].pk, *found[others[-1].pk]]


@pytest.mark.django_db
def test_a_conversation_that_is_new_here_is_kept_at_once(
    alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    messages = [{"role": ("user", "assistant")[at % 2], "content": f"{at}", "x": 1e30} for at in range(301)]
    body = {
        "messages": messages,
        "conversation_id": str(uuid.uuid4()),
        "model": "m",
        "conversation": {"P": {"n": 1e30}},
    }
    body["messages"][0]["content"] = [{"type": "text", "text": "0", "n": 1e30}]
    with django_assert_max_num_queries(40):
        begun = rows.begin(alice.pk, parse(body, alice.pk, store.current), [], "worker")
    row = Conversation.objects.get(pk=begun.conversation)
    assert row.active_leaf == begun.message
    path = tree.path_to(begun.message)
    assert [one.text for one in path] == [*(f"{at}" for at in range(301)), ""]
    assert [one.seq for one in path] == list(range(1, 303))
    # Sent again with what was added, only that is new.
    again = {**body, "messages": [*messages, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}
    rows.begin(alice.pk, parse(again, alice.pk, store.current), [], "worker")
    assert Message.objects.filter(conversation=row).count() == 302 + 3


def test_files_belong_to_a_message(ann: Any, provider: ScriptedProvider) -> None:
    ann.gateway.add_provider(provider, "scripted")
    made = ann.make("hi", "hello")
    last = made["messages"][-1]["id"]
    for body in (
        {"parent_id": last},
        {"messages": [{"role": m["role"], "content": m["content"]} for m in made["messages"]]},
    ):
        sent = {"json": json.dumps({"model": "scripted", "conversation_id": made["id"], **body})}
        answer = ann.ask("POST", PATH, data=sent, files={"files": ("a.png", picture())})
        refused(answer, 400, code="missing_required_parameter", param="messages")
    assert not StoredFile.objects.exists()


def test_addresses_are_fetched_beside_each_other(ann: Any, provider: ScriptedProvider, settings: Settings) -> None:
    """Each of the two is answered only when both were asked."""
    together = threading.Barrier(2)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/broken.png":
                together.wait(15)
            data = picture(self.path[1:-4]) if self.path != "/broken.png" else b""
            self.send_response(200 if data else 404)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.FETCH_PRIVATE_HOSTS, settings.FETCH_PORTS = frozenset({"127.0.0.1"}), frozenset({server.server_port})
    ann.gateway.add_provider(provider, "scripted")
    body = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "look"}]})
    try:
        urls = [f"http://127.0.0.1:{server.server_port}/{name}.png" for name in ("red", "blue")]
        answer = ann.ask("POST", PATH, data={"json": body, "media_url": urls}, files={"x": b""})
        assert answer.status_code == 200, answer.text
        content = provider.chats[-1].json["messages"][-1]["content"]
        assert len([part for part in content if part["type"] == "image_url"]) == 2
        broken = urls[0].replace("red", "broken")
        answer = ann.ask("POST", PATH, data={"json": body, "media_url": [broken]}, files={"x": b""})
        refused(answer, 400, param="media_url")
        assert answer.json()["error"]["message"].startswith("Invalid or disallowed media_url: ")
    finally:
        server.shutdown()
        server.server_close()
