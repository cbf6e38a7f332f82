"""Nobody reaches what is another's in lists, searches and bodies; tests/site/test_tenancy.py walks the routes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from conversations.models import Conversation, Message
from conversations.retention import purge_conversations
from media.models import Bucket
from tests.people import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)
MARK = "quokka"


def rows() -> list[Any]:
    tables = (Conversation.objects.order_by("pk"), Message.objects.order_by("pk"))
    return [list(table.values()) for table in tables]


@pytest.fixture
def hers(ann: Any) -> dict[str, Any]:
    body = ann.make(f"{MARK} one", f"{MARK} two", title=MARK, folder=MARK, tags=[MARK])
    ann.say(body["id"], f"{MARK} three", parent=None, branch=True)
    return body


def test_lists_and_searches_do_not_change_with_what_others_keep(ann: Any, ben: Any) -> None:
    ben.make("mine", title="mine", folder="mine", tags=["mine"])

    def seen() -> list[Any]:
        paths = [
            "",
            f"?q={MARK}",
            f"?folder={MARK}",
            f"?tag={MARK}",
            "?deleted=true",
            "?archived=any",
            "/folders",
            "/tags",
        ]
        answers = [ben.get(path) for path in [*paths, "/export", "?q=mine"]]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json() for answer in answers]

    before = seen()
    body = ann.make(MARK, title=MARK, folder=MARK, tags=[MARK])
    ann.delete(f"/{ann.make(MARK, title=MARK)['id']}")
    assert seen() == before
    assert len(ann.get(params={"q": MARK}).json()["data"]) == 1
    assert body["id"] not in json.dumps(before)


def test_bodies_that_name_what_is_anothers_make_nothing(ann: Any, ben: Any, hers: Any) -> None:
    mine = ben.make("x")
    Bucket.objects.create(owner=ann.user, label="hers")
    before = rows()
    for body in (
        {"content": "x", "parent": hers["messages"][0]["id"], "branch": True},
        {"content": "x", "attachments": [{"bucket_id": "hers"}]},
        {"content": [{"bucket_id": "hers"}]},
        {"content": "x", "attachments": [{"file_id": "nothing"}]},
        {"content": "x", "attachments": [{"file_id": 5}]},
        {"content": "x", "attachments": [{"bucket_id": {}}]},
    ):
        assert ben.post(f"/{mine['id']}/messages", body).status_code == 404
    assert ben.patch(f"/{mine['id']}", {"active_leaf": hers["messages"][0]["id"]}).status_code == 404
    for name in ("before", "leaf"):
        assert ben.get(f"/{mine['id']}", params={name: hers["messages"][0]["id"]}).status_code == 404
    assert ben.patch("/folders", {"name": MARK, "to": "stolen"}).json() == {"count": 0}
    assert ben.delete("/bin").json() == {"count": 0}
    assert rows() == before


def test_a_browsers_session_needs_its_token(ann: Any, hers: Any) -> None:
    client = Client()
    assert client.login(username="alice", password=PASSWORD)
    cookies = {"sessionid": client.cookies["sessionid"].value, "csrftoken": "a" * 32}
    url = f"/backend-api/v2/conversations/{hers['id']}"
    with httpx.Client(base_url=ann.gateway.url, cookies=cookies, timeout=20) as browser:
        assert browser.get(url).json()["title"] == MARK
        assert browser.get("/backend-api/v2/me").json()["key"] is None
        token = {"x-csrftoken": "a" * 32}
        for headers in ({}, {**token, "origin": "https://evil.example"}):
            for verb in ("PATCH", "DELETE"):
                refused = browser.request(verb, url, json={"title": "x"}, headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")
            files = {"file": ("x", b"[]")}
            refused = browser.post("/backend-api/v2/conversations/import", files=files, headers=headers)
            assert refused.status_code == 403
        good = browser.patch(url, json={"title": "x"}, headers={**token, "origin": ann.gateway.url})
        assert (good.status_code, good.json()["title"]) == (200, "x")


def test_strangers_have_none_where_they_may_chat(ann: Any, settings: Any) -> None:
    settings.ANONYMOUS_ACCESS = True
    for path in ("", "/folders", "/export"):
        assert ann.gateway.http.get(f"/backend-api/v2/conversations{path}").status_code == 401
    assert ann.gateway.http.get("/backend-api/v2/me").status_code == 401


def test_with_a_user_goes_all_that_is_theirs(ann: Any, ben: Any, hers: Any) -> None:
    ben.make("stays")
    ann.user.delete()
    assert {row.owner_id for row in Conversation.objects.all()} == {ben.user.pk}
    assert [row.text for row in Message.objects.all()] == ["stays"]


def test_staff_see_that_there_are_some_and_nothing_of_them(ann: Any, hers: Any, charlie: Any) -> None:
    staff = Client()
    staff.force_login(charlie)
    page = staff.get("/admin/conversations/conversation/")
    assert page.status_code == 200
    text = page.content.decode()
    assert hers["id"] in text
    assert "alice" in text
    assert MARK not in text
    for path in (f"{hers['id']}/change/", f"{hers['id']}/delete/", f"{hers['id']}/history/", "add/"):
        answer = staff.get(f"/admin/conversations/conversation/{path}")
        assert answer.status_code in (403, 404, 302), path
        assert MARK not in answer.content.decode()
    confirm = staff.post(f"/admin/auth/user/{ann.user.pk}/delete/")
    assert MARK not in confirm.content.decode()
    staff.post(f"/admin/auth/user/{ann.user.pk}/delete/", {"post": "yes"})
    assert Conversation.objects.count() == 0


def test_the_bin_is_emptied_after_the_setting(ann: Any, settings: Any, capsys: Any) -> None:
    ids = [ann.make("x")["id"] for _ in range(4)]
    for pk in ids[:2]:
        ann.delete(f"/{pk}")
    ann.make("x", temporary=True)
    long_ago = timezone.now() - timedelta(days=31)
    Conversation.objects.filter(pk=ids[0]).update(deleted_at=long_ago)
    Conversation.objects.filter(pk=ids[3]).update(updated_at=long_ago)
    Conversation.objects.filter(temporary=True).update(updated_at=long_ago)
    settings.CONVERSATIONS_BIN_DAYS = 0
    assert purge_conversations() == 1, "the temporary one"
    settings.CONVERSATIONS_BIN_DAYS = 30
    call_command("purge", "--json")
    purged = json.loads(capsys.readouterr().out)
    gone = {"conversations": 1, "expired_shares": 0, "sessions": 0, "leftovers": 0}
    assert purged == {"responses": 0, "idempotent_answers": 0, **gone}
    assert {str(row.pk) for row in Conversation.objects.all()} == set(ids[1:])
    assert Message.objects.count() == 3
