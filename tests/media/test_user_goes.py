"""Deleting a user on a running server: what was theirs goes, what was counted stays without their name (C23)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from gateway.models import ApiKey, UsageEvent
from gateway.usage import writer
from media.models import Blob, Bucket, Document, Quota, StoredFile
from tests.media.conftest import picture
from tests.people import PASSWORD
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider


@pytest.mark.django_db(transaction=True)
def test_a_user_takes_everything_along_but_what_was_counted(
    gateway: LiveGateway,
    provider: ScriptedProvider,
    alice: User,
    bob: User,
    charlie: User,
    stored_paths: Callable[[], list[str]],
) -> None:
    gateway.add_provider(provider)
    keys = {user.username: gateway.auth(gateway.make_key(user)) for user in (alice, bob)}
    for headers in keys.values():
        files = [("files", ("c.png", picture(size=(800, 600)))), ("files", ("a.csv", b"x,y\n1,2\n"))]
        assert gateway.http.post("/files/b", files=files, headers=headers, timeout=30).status_code == 200
        assert gateway.http.get("/files/b/thumbnail/c.png", headers=headers).status_code == 200
        ask = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
        assert gateway.http.post("/v1/chat/completions", json=ask, headers=headers).status_code == 200
    page = Client()
    assert page.login(username=alice.username, password=PASSWORD)
    cookie = {"cookie": f"sessionid={page.cookies['sessionid'].value}"}
    elsewhere = Client()
    assert elsewhere.login(username=bob.username, password=PASSWORD)
    assert gateway.http.get("/files/b", headers=cookie).status_code == 200
    gone, before, name = alice.pk, stored_paths(), alice.username
    assert len(before) == 8
    # Rows of usage are counted first, as they would be a moment later.
    writer.flush()

    admin = Client()
    admin.force_login(charlie)
    assert admin.post(f"/admin/auth/user/{gone}/delete/", {"post": "yes"}).status_code == 302
    gateway.reload()

    assert len(stored_paths()) == 4
    left = {row.get_decoded()["_auth_user_id"] for row in Session.objects.all()}
    assert left == {str(bob.pk), str(charlie.pk)}
    for model in (Bucket, StoredFile, Blob, Quota, ApiKey):
        found = {"owner_id": gone} if model in (Bucket, StoredFile, Blob) else {"user_id": gone}
        assert not model._default_manager.filter(**found).exists(), model
    assert Document.objects.count() == 2
    for headers in (keys[name], cookie):
        for path in ("/files/b", "/files/b/media/c.png", "/search/png", "/v1/models"):
            assert gateway.http.get(path, headers=headers).status_code == 401, path
    assert gateway.http.get("/files/b", headers=keys[bob.username]).status_code == 200
    rows = UsageEvent.objects.order_by("created_at")
    assert [row.user_id for row in rows] == [None, bob.pk]
    assert all(row.prompt_tokens for row in rows)
    assert rows[0].api_key_id is None
