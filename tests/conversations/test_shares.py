"""Shared chats over a real server: what is copied, who reads and writes it, when it is over, and its page."""

from __future__ import annotations

import re
import threading
import time
import uuid
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from conversations.models import Conversation, Message, SharedChat
from conversations.shares.addresses import Signer
from conversations.shares.pages import turns_of
from conversations.shares.rendering import rendered
from conversations.tree import append, create_conversation, path_to
from media.store import keep
from tests.people import alice, bob
from tests.support.browsers import signed_in
from tests.support.gateway import LiveGateway
from tests.support.pictures import picture
from tests.support.refusals import refused

BASE = "/backend-api/v2/chat"
ID = "3f0c2a52-7d0e-4c3e-9d5c-0a1b2c3d4e5f"
CHAT: dict[str, Any] = {
    "id": ID,
    "title": "Tea",
    "added": 1,
    "updated": 1000,
    "system": "secret prompt",
    "items": [
        {"role": "user", "content": "Which tea?"},
        {
            "role": "assistant",
            "content": "**Green**",
            "provider": {"name": "Acme", "label": "Acme Inc.", "model": "m", "url": "http://inside/"},
            "usage": {"total_tokens": 5, "x": "y"},
            "finish": {"reason": "stop"},
            "reasoning": {"text": "hm", "raw": "inner"},
            "api_key": "sk-secret",
        },
    ],
    "data": {"Acme": {"token": "sk-secret"}},
    "email": "alice@example.com",
}


@pytest.fixture
def mine(gateway: LiveGateway) -> str:
    return gateway.make_key(alice())


@pytest.fixture
def theirs(gateway: LiveGateway) -> str:
    return gateway.make_key(bob())


def share(gateway: LiveGateway, key: str, share_id: str = ID, **changes: Any) -> httpx.Response:
    return gateway.http.post(f"{BASE}/{share_id}", json={**CHAT, **changes}, headers=gateway.auth(key))


def read(gateway: LiveGateway, share_id: str = ID, **headers: str) -> httpx.Response:
    return gateway.http.get(f"{BASE}/{share_id}", headers={k.replace("_", "-"): v for k, v in headers.items()})


class TestCopy:
    def test_chosen_fields_are_copied_and_no_others(self, gateway: LiveGateway, mine: str) -> None:
        told = share(gateway, mine).json()
        assert (told["share_id"], told["updated"], told["visibility"]) == (ID, 1000, "link")
        assert told["url"] == f"{gateway.url}/chat/share/{ID}"
        answer = read(gateway)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "id": ID,
            "title": "Tea",
            "added": 1,
            "updated": 1000,
            "items": [
                {"role": "user", "content": "Which tea?"},
                {
                    "role": "assistant",
                    "content": "**Green**",
                    "provider": {"name": "Acme", "label": "Acme Inc.", "model": "m"},
                    "finish": {"reason": "stop"},
                    "usage": {"total_tokens": 5},
                    "reasoning": {"text": "hm"},
                },
            ],
        }
        assert not re.search("secret|inside|alice", answer.text)

    def test_the_system_prompt_goes_along_if_it_is_chosen(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine, share_system=True)
        assert read(gateway).json()["system"] == "secret prompt"

    def test_the_server_makes_an_id(self, gateway: LiveGateway, mine: str) -> None:
        made = gateway.http.post(BASE, json=CHAT, headers=gateway.auth(mine)).json()["share_id"]
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", made)
        assert read(gateway, made).json()["title"] == "Tea"

    def test_a_branch_that_the_server_keeps(self, gateway: LiveGateway, mine: str) -> None:
        owner = User.objects.get(username="alice")
        kept = create_conversation(owner, title="Kept", system_prompt="secret prompt")
        first = append(kept, None, "user", "one")
        other = append(kept, first, "assistant", "shown not", model="m", provider="Acme")
        append(kept, first, "assistant", "shown", reasoning="why")
        place = {"conversation_id": str(kept.pk)}
        made = gateway.http.post(BASE, json=place, headers=gateway.auth(mine)).json()
        assert made["conversation_id"] == str(kept.pk)
        body = read(gateway, made["share_id"]).json()
        assert [item["content"] for item in body["items"]] == ["one", "shown"]
        assert (body["title"], body["items"][1]["reasoning"]) == ("Kept", "why")
        assert "secret" not in str(body)
        made = gateway.http.post(BASE, json={**place, "message_id": str(other.pk)}, headers=gateway.auth(mine)).json()
        assert read(gateway, made["share_id"]).json()["items"][1]["content"] == "shown not"
        # A copy: what is said later is not in it.
        append(kept, other, "user", "later")
        assert len(read(gateway, made["share_id"]).json()["items"]) == 2

    def test_nobody_shares_anothers_conversation(self, gateway: LiveGateway, mine: str, theirs: str) -> None:
        kept = create_conversation(User.objects.get(username="alice"), title="Kept")
        message = append(kept, None, "user", "one")
        own = create_conversation(User.objects.get(username="bob"))
        for body, code in (
            ({"conversation_id": str(kept.pk)}, "conversation_not_found"),
            ({"conversation_id": str(uuid.uuid4())}, "conversation_not_found"),
            ({"conversation_id": str(own.pk), "message_id": str(message.pk)}, "message_not_found"),
        ):
            refused(gateway.http.post(BASE, json=body, headers=gateway.auth(theirs)), 404, code)
        assert not SharedChat.objects.exists()

    @pytest.mark.parametrize(
        ("change", "status", "param"),
        [
            ({"items": {}}, 400, "items"),
            ({"items": [1]}, 400, "items[0]"),
            ({"items": [{"role": "king"}]}, 400, "items[0].role"),
            ({"items": [{"role": "user", "content": "x"}] * 2001}, 400, "items"),
            ({"updated": "now"}, 400, "updated"),
            ({"updated": True}, 400, "updated"),
            ({"updated": -1}, 400, "updated"),
            ({"updated": 1e300}, 400, "updated"),
            ({"visibility": "all"}, 400, "visibility"),
            ({"visibility": []}, 400, "visibility"),
            ({"expires_in": 0}, 400, "expires_in"),
            ({"expires_in": 10**12}, 400, "expires_in"),
            ({"expires_in": "1"}, 400, "expires_in"),
            ({"expires_at": "soon"}, 400, "expires_at"),
            ({"expires_at": "0001-01-01T00:00:00+23:00"}, 400, "expires_at"),
            ({"expires_at": 5}, 400, "expires_at"),
        ],
    )
    def test_faults_name_their_parameter(
        self, gateway: LiveGateway, mine: str, change: dict[str, Any], status: int, param: str
    ) -> None:
        refused(share(gateway, mine, **change), status, param=param)
        refused(read(gateway), 404, "share_not_found")

    def test_odd_values_are_left_out_and_do_no_harm(self, gateway: LiveGateway, mine: str) -> None:
        odd = {"role": "assistant", "content": [None, 5, {"a": 1}, {"text": "x\x00"}, "plain"], "provider": ["x"],
               "usage": [], "reasoning": 7, "finish": "stop", "synthesize": {"provider": {}}}  # fmt: skip
        assert share(gateway, mine, items=[odd], title=5, id=[], added="x").status_code == 200
        (item,) = read(gateway).json()["items"]
        assert item["content"] == [{"type": "text", "text": "x"}, {"type": "text", "text": "plain"}]
        assert gateway.http.get(f"/chat/share/{ID}").status_code == 200
        for body in (b"[]", b"{}", b"{", b'{"conversation_id": 5}', b'{"conversation_id": "x"}'):
            refused(gateway.http.post(f"{BASE}/{ID}", content=body, headers=gateway.auth(mine)), 400)

    def test_there_are_bounds(self, gateway: LiveGateway, mine: str, settings: Settings) -> None:
        settings.SHARE_MAX_BYTES, settings.SHARES_PER_USER = 2000, 1
        refused(share(gateway, mine, items=[{"role": "user", "content": "x" * 2000}]), 413, "share_too_large")
        assert share(gateway, mine).status_code == 200
        refused(share(gateway, mine, "x" * 22), 400, "too_many_shares")
        assert share(gateway, mine, updated=1001).status_code == 200
        # One that was revoked counts again when it comes back, and bytes are no characters.
        assert gateway.http.delete(f"{BASE}/{ID}", headers=gateway.auth(mine)).status_code == 200
        assert share(gateway, mine, "x" * 22).status_code == 200
        refused(share(gateway, mine, updated=1002), 400, "too_many_shares")
        refused(share(gateway, mine, "x" * 22, items=[{"role": "user", "content": "ü" * 1200}]), 413, "share_too_large")


class TestNewerAndOlder:
    def test_copies_only_grow_newer(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine)
        assert share(gateway, mine, updated=1000, title="Same moment").status_code == 200
        assert read(gateway).json()["title"] == "Tea"
        refused(share(gateway, mine, updated=999, title="Older"), 409, "stale_share", "updated")
        assert share(gateway, mine, updated=1001, title="Newer").status_code == 200
        assert read(gateway).json()["title"] == "Newer"

    def test_readers_hear_whether_there_is_anything_new(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine)
        first = read(gateway)
        tag = first.headers["etag"]
        assert re.fullmatch(r'"1000-[0-9a-f]{16}"', tag)
        assert first.headers["x-robots-tag"] == "noindex, nofollow"
        assert first.headers["referrer-policy"] == "no-referrer"
        for given in (tag, f"W/{tag}", "1000", '"1000"', f'"other", {tag}', "*"):
            answer = read(gateway, if_none_match=given)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag), given
        for given in ("999", '"other"', "", "1000-", "x" * 1000):
            assert read(gateway, if_none_match=given).status_code == 200, given
        since = first.headers["last-modified"]
        assert read(gateway, if_modified_since=since).status_code == 304
        assert read(gateway, if_modified_since="Thu, 01 Jan 1970 00:00:00 GMT").status_code == 200
        assert read(gateway, if_modified_since="nonsense").status_code == 200
        share(gateway, mine, updated=2000)
        assert read(gateway, if_none_match="1000").status_code == 200
        assert gateway.http.get(f"{BASE}/{ID}?now=5", headers={"if-none-match": "2000"}).status_code == 304

    def test_a_tag_is_over_before_the_addresses_in_the_copy(
        self, gateway: LiveGateway, mine: str, settings: Settings
    ) -> None:
        settings.MEDIA_URL_SECONDS = 2
        name = keep(User.objects.get(username="alice").pk, picture(), label="a.png", source="upload").name
        share(gateway, mine, items=[{"role": "assistant", "content": f"![a](/media/{name})"}])
        first = read(gateway)
        tag, since = first.headers["etag"], first.headers["last-modified"]
        assert read(gateway, if_modified_since=since).status_code == 200
        time.sleep(2)
        again = read(gateway, if_none_match=tag)
        assert again.status_code == 200
        assert again.headers["etag"] != tag
        # A page that asks by `updated` has the copy, and its pictures by its own session.
        assert read(gateway, if_none_match="1000").status_code == 304

    def test_two_who_share_at_once_make_one(self, gateway: LiveGateway, mine: str) -> None:
        def send(number: int) -> None:
            with httpx.Client(base_url=gateway.url, timeout=20, headers=gateway.auth(mine)) as client:
                said.append(client.post(f"{BASE}/{ID}", json={**CHAT, "updated": number}).status_code)

        said: list[int] = []
        threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(said) <= {200, 400, 409}
        assert 200 in said
        assert SharedChat.objects.count() == 1


class TestWhoMay:
    def test_anybody_reads_and_the_owner_alone_writes(self, gateway: LiveGateway, mine: str, theirs: str) -> None:
        share(gateway, mine)
        auth = gateway.auth(theirs)
        assert gateway.http.get(f"{BASE}/{ID}", headers=auth).json()["title"] == "Tea"
        refused(share(gateway, theirs, updated=5000, title="Stolen"), 400, "invalid_share_id")
        refused(gateway.http.patch(f"{BASE}/{ID}", json={"visibility": "private"}, headers=auth), 404)
        refused(gateway.http.delete(f"{BASE}/{ID}", headers=auth), 404, "share_not_found")
        assert gateway.http.get(BASE, headers=auth).json() == {"items": []}
        (listed,) = gateway.http.get(BASE, headers=gateway.auth(mine)).json()["items"]
        assert (listed["share_id"], listed["title"]) == (ID, "Tea")
        assert read(gateway).json()["title"] == "Tea"

    def test_strangers_write_nothing(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine)
        refused(gateway.http.get(BASE), 401)
        refused(gateway.http.post(BASE, json=CHAT), 401)
        refused(gateway.http.post(f"{BASE}/{ID}", json={**CHAT, "updated": 5000}), 401)
        refused(gateway.http.patch(f"{BASE}/{ID}", json={"visibility": "private"}), 401)
        refused(gateway.http.delete(f"{BASE}/{ID}"), 401)
        refused(gateway.http.post(f"{BASE}/{ID}/continue"), 401)
        refused(gateway.http.get(f"{BASE}/{ID}", headers=gateway.auth("sk-wrong")), 401)
        with signed_in(gateway.url, "alice") as page:
            assert page.patch(f"{BASE}/{ID}", json={}).status_code == 200
            del page.headers["x-csrftoken"]
            refused(page.delete(f"{BASE}/{ID}"), 403, "csrf_failed")
            refused(page.post(f"{BASE}/{ID}/continue"), 403, "csrf_failed")
        assert read(gateway).json()["title"] == "Tea"

    @pytest.mark.parametrize("share_id", ["short", "x" * 65, "a b" * 10, "%2e%2e%2f" * 8, "ä" * 30, "a.b" * 10])
    def test_ids_have_a_form(self, gateway: LiveGateway, mine: str, share_id: str) -> None:
        assert share(gateway, mine, share_id).status_code in (400, 404)
        assert not SharedChat.objects.exists()

    def test_one_may_be_for_the_owner_alone(self, gateway: LiveGateway, mine: str, theirs: str) -> None:
        share(gateway, mine, visibility="private")
        missing = read(gateway, "x" * 30)
        for answer in (read(gateway), gateway.http.get(f"{BASE}/{ID}", headers=gateway.auth(theirs))):
            assert (answer.status_code, answer.text) == (404, missing.text)
        refused(gateway.http.post(f"{BASE}/{ID}/continue", headers=gateway.auth(theirs)), 404, "share_not_found")
        assert gateway.http.get(f"/chat/share/{ID}").status_code == 404
        assert gateway.http.get(f"{BASE}/{ID}", headers=gateway.auth(mine)).headers["cache-control"] == "no-store"
        told = gateway.http.patch(f"{BASE}/{ID}", json={"visibility": "link"}, headers=gateway.auth(mine)).json()
        assert told["visibility"] == "link"
        assert read(gateway).status_code == 200

    def test_links_end(self, gateway: LiveGateway, mine: str) -> None:
        told = share(gateway, mine, expires_in=3600).json()
        assert told["expires_at"]
        assert read(gateway).status_code == 200
        # What is not said stays as it is.
        assert share(gateway, mine, updated=2000).json()["expires_at"] == told["expires_at"]
        SharedChat.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        refused(read(gateway), 404, "share_not_found")
        assert gateway.http.get(f"/chat/share/{ID}").status_code == 404
        assert gateway.http.get(f"{BASE}/{ID}", headers=gateway.auth(mine)).status_code == 200
        gateway.http.patch(f"{BASE}/{ID}", json={"expires_at": None}, headers=gateway.auth(mine))
        assert read(gateway).status_code == 200

    def test_revoking_ends_it_and_keeps_the_address(self, gateway: LiveGateway, mine: str, theirs: str) -> None:
        share(gateway, mine)
        tag = read(gateway).headers["etag"]
        assert gateway.http.delete(f"{BASE}/{ID}", headers=gateway.auth(mine)).json() == {
            "share_id": ID, "revoked": True
        }  # fmt: skip
        refused(read(gateway, if_none_match=tag), 404, "share_not_found")
        assert gateway.http.get(f"/chat/share/{ID}").status_code == 404
        assert "Tea" not in str(SharedChat.objects.values())
        refused(gateway.http.get(f"{BASE}/{ID}", headers=gateway.auth(mine)), 404)
        refused(share(gateway, theirs), 400, "invalid_share_id")
        assert share(gateway, mine, title="Again").status_code == 200
        assert read(gateway).json()["title"] == "Again"

    def test_who_is_switched_off_shares_nothing(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine)
        User.objects.filter(username="alice").update(is_active=False)
        refused(read(gateway), 404, "share_not_found")


class TestContinue:
    def test_a_copy_of_ones_own(self, gateway: LiveGateway, mine: str, theirs: str) -> None:
        share(gateway, mine)
        made = [gateway.http.post(f"{BASE}/{ID}/continue", headers=gateway.auth(theirs)).json() for _ in range(2)]
        assert made[0]["conversation_id"] != made[1]["conversation_id"]
        kept = Conversation.objects.get(pk=made[0]["conversation_id"])
        assert (kept.owner.get_username(), kept.title, kept.system_prompt) == ("bob", "Tea", "")
        branch = path_to(kept.active_leaf)
        assert [(row.role, row.content, row.text, row.model) for row in branch] == [
            ("user", "Which tea?", "Which tea?", ""),
            ("assistant", "**Green**", "**Green**", "m"),
        ]
        assert branch[1].reasoning == "hm"
        # It goes on as any other does, and the owner sees nothing of it.
        append(kept, branch[-1], "user", "And coffee?")
        assert len(read(gateway).json()["items"]) == 2
        assert not Message.objects.filter(owner__username="alice").exists()

    def test_an_empty_one(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine, items=[])
        made = gateway.http.post(f"{BASE}/{ID}/continue", headers=gateway.auth(mine)).json()
        assert Conversation.objects.get(pk=made["conversation_id"]).active_leaf is None


class TestPictures:
    def test_the_owners_are_seen_and_nobody_elses(self, gateway: LiveGateway, mine: str, theirs: str) -> None:
        own = keep(User.objects.get(username="alice").pk, picture("red"), label="a.png", source="generated")
        other = keep(User.objects.get(username="bob").pk, picture("blue"), label="b.png", source="generated")
        text = (
            f"![a](/media/{own.name}) ![old](http://x/media/{own.name}?expires=1&signature=2) ![b](/media/{other.name})"
        )
        share(gateway, mine, items=[{"role": "assistant", "content": text}])
        urls = re.findall(r"\((.*?)\)", read(gateway).json()["items"][0]["content"])
        assert [gateway.http.get(url).status_code for url in urls[:2]] == [200, 200]
        assert urls[2] == f"/media/{other.name}"
        page = gateway.http.get(f"/chat/share/{ID}").text
        shown = re.findall(r'<img src="([^"]*)"', page)
        assert [gateway.http.get(url.replace("&amp;", "&")).status_code for url in shown if url] == [200, 200]
        assert other.name not in page


class TestPage:
    def test_it_is_nobodys_session(self, gateway: LiveGateway, mine: str) -> None:
        share(gateway, mine)
        with signed_in(gateway.url, "alice") as page:
            answer, stranger = page.get(f"/chat/share/{ID}"), gateway.http.get(f"/chat/share/{ID}")
        assert answer.text == stranger.text
        assert "set-cookie" not in answer.headers
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
        assert "script-src" not in policy
        assert answer.headers["x-robots-tag"] == "noindex, nofollow"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "<strong>Green</strong>" in answer.text
        assert "<script" not in answer.text
        assert gateway.http.post(f"/chat/share/{ID}").status_code in (403, 405)

    def test_what_is_written_is_text(self, gateway: LiveGateway, mine: str) -> None:
        evil = '"><script>alert(1)</script>'
        items = [{"role": "user", "content": evil}, {"role": "tool", "content": evil},
                 {"role": "assistant", "content": evil, "reasoning": evil, "provider": evil,
                  "finish": {"reason": evil}}]  # fmt: skip
        share(gateway, mine, items=items, title=evil, system=evil, share_system=True)
        assert "<script" not in gateway.http.get(f"/chat/share/{ID}").text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("[a](data:text/html,x)", "<p>[a](data:text/html,x)</p>"),
        ("<a href=x onclick=y>", "<p>&lt;a href=x onclick=y&gt;</p>"),
        ("# T", "<h2>T</h2>"),
        ("###### T", "<h6>T</h6>"),
        ("```py\n<b>\n```", '<pre tabindex="0"><code>&lt;b&gt;\n</code></pre>'),
        ("![](https://e.example/x.png)", "Picture (e.example)"),
        ("![a](//e.example/x.png)", "a (e.example)"),
        ("![a](/media/x.png?expires=1)", '<img src="/media/x.png" alt="a" loading="lazy">'),
        ("![a](/accounts/logout/)", "a (elsewhere)"),
        ('```"><img onerror=x>\n```', "&lt;img"),
        ("|a|\n|-:|\n|1|", '<td class="r">1</td>'),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    html = rendered(text)
    assert expected in html
    assert "style=" not in html
    assert not re.search(r"<[^>]*\son\w+=", html)


def test_hostile_markdown_takes_no_time() -> None:
    for text in ("[" * 50_000, "*a_" * 30_000, "> " * 30_000, "![" * 40_000, "`" * 99_999, "- " * 40_000):
        assert rendered(text)
    assert len(rendered("x" * 200_000)) > 200_000


def test_cells_that_nobody_wrote_are_bounded() -> None:
    def cells(columns: int, rows: int) -> str:
        return "|a" * columns + "|\n" + "|-" * columns + "|\n" + "|\n" * rows + "\nx\n\n"

    for text in (cells(40, 400) * 20, cells(200, 400), cells(3, 5) * 3000):
        assert rendered(text).count("<td") <= 11_000
    assert rendered(cells(5, 700)).count("<td") == 3500
    items = [{"role": "assistant", "content": cells(40, 120) + str(number)} for number in range(200)]
    turns = turns_of({"items": items}, Signer("", 0, ""))
    assert sum(len(turn.html) for turn in turns) < 3_000_000
    assert turns[-1].text
