"""API keys in the admin: shown once, then never; rotated, revoked, and limited to what the maker may."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from gateway.models import ApiKey
from gateway.models.keys import digest_of
from tests.people import person

pytestmark = pytest.mark.django_db
LIST = "/admin/gateway/apikey/"


@pytest.fixture
def admin(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


def staff(client: Client, *permissions: str) -> User:
    user = person("dora", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return user


def given(user: User, **more: Any) -> dict[str, Any]:
    return {"user": str(user.pk), "name": "laptop", "models": "", "networks": "", **more}


def key_in(answer: HttpResponse) -> str:
    found = re.search(r"sk-gw-[0-9a-f]{8}-[\w-]{43}", answer.content.decode())
    assert found
    return found[0]


def test_a_key_is_shown_once(admin: Client, alice: User) -> None:
    answer = admin.post(f"{LIST}add/", given(alice))
    plain = key_in(answer)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    row = ApiKey.objects.get()
    assert row.digest == digest_of(plain.encode()).hex()
    secret = plain.split("-", 3)[3]
    for path in ("", f"{row.pk}/change/", f"{row.pk}/history/", f"{row.pk}/delete/"):
        page = admin.get(LIST + path).content.decode()
        assert secret not in page
        assert row.digest not in page
    assert row.prefix in admin.get(LIST).content.decode()


def test_nothing_keeps_the_key(admin: Client, alice: User) -> None:
    answer = admin.post(f"{LIST}add/", given(alice))
    secret = key_in(answer).split("-", 3)[3]
    assert not any(secret in entry.change_message + entry.object_repr for entry in LogEntry.objects.all())
    assert not any(secret in str(session.get_decoded()) for session in Session.objects.all())
    assert not any(secret in str(cookie) for cookie in answer.cookies.values())
    assert secret not in str(ApiKey.objects.values())


def test_limits_are_written_line_by_line(admin: Client, alice: User) -> None:
    limits = {"models": "gpt-4.1\r\norg/m, default", "networks": "10.0.0.0/8\n::1", "surfaces": ["v1"]}
    admin.post(f"{LIST}add/", given(alice, **limits, expires_at_0="2030-01-01", expires_at_1="00:00"))
    row = ApiKey.objects.get()
    assert row.models == ["gpt-4.1", "org/m", "default"]
    assert row.networks == ["10.0.0.0/8", "::1"]
    assert (row.surfaces, row.expires_at.year) == (["v1"], 2030)


def test_numbers_a_minute_are_kept_and_changed(admin: Client, alice: User) -> None:
    numbers = {"requests_per_minute": "60", "tokens_per_minute": "100000", "max_streams": "0"}
    admin.post(f"{LIST}add/", given(alice, **numbers))
    row = ApiKey.objects.get()
    assert (row.requests_per_minute, row.tokens_per_minute, row.max_streams) == (60, 100_000, 0)
    admin.post(f"{LIST}{row.pk}/change/", given(alice, tokens_per_minute="5"))
    row.refresh_from_db()
    assert (row.requests_per_minute, row.tokens_per_minute, row.max_streams) == (None, 5, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"networks": "not-a-network"},
        {"surfaces": ["nonsense"]},
        {"name": ""},
        {"user": "999"},
        {"requests_per_minute": "0"},
        {"tokens_per_minute": "2000000001"},
        {"max_streams": "40000"},
    ],
)
def test_what_is_wrong_is_said(admin: Client, alice: User, wrong: dict[str, Any]) -> None:
    answer = admin.post(f"{LIST}add/", given(alice) | wrong)
    assert (answer.status_code, "errorlist" in answer.content.decode()) == (200, True)
    assert not ApiKey.objects.exists()


def test_changing_a_key_leaves_its_digest_and_user(admin: Client, alice: User, bob: User) -> None:
    row, _ = ApiKey.make(alice, "old")
    forged = given(bob, digest="00" * 32, prefix="x", revoked_at="2020-01-01")
    assert admin.post(f"{LIST}{row.pk}/change/", forged | {"name": "new"}).status_code == 302
    changed = ApiKey.objects.get()
    assert (changed.name, changed.digest, changed.user, changed.revoked_at) == ("new", row.digest, alice, None)


def test_rotating_shows_the_new_key_and_lets_the_old_one_go_on_for_a_day(admin: Client, alice: User) -> None:
    row, old = ApiKey.make(alice, "laptop", models=["m"])
    answer = admin.post(f"{LIST}{row.pk}/rotate/")
    plain = key_in(answer)
    assert plain != old
    assert "no-store" in answer["Cache-Control"]
    row.refresh_from_db()
    made = ApiKey.objects.get(replaces=row)
    assert made.models == ["m"]
    assert timedelta(hours=23) < row.expires_at - timezone.now() <= timedelta(hours=24)
    assert not any(plain.split("-", 3)[3] in entry.change_message for entry in LogEntry.objects.all())


def test_revoking_is_final(admin: Client, alice: User) -> None:
    row, _ = ApiKey.make(alice, "laptop")
    assert "is revoked" in admin.post(f"{LIST}{row.pk}/revoke/", follow=True).content.decode()
    assert ApiKey.objects.get().state() == "revoked"
    page = admin.post(f"{LIST}{row.pk}/rotate/", follow=True).content.decode()
    assert "cannot be rotated" in page
    assert 'type="submit">Revoke' not in page
    admin.post(f"{LIST}{row.pk}/revoke/")
    assert LogEntry.objects.filter(change_message="Revoked.").count() == 1


def test_actions_work_on_many(admin: Client, alice: User) -> None:
    rows = [ApiKey.make(alice, name)[0] for name in ("a", "b")]
    chosen = {"_selected_action": [str(row.pk) for row in rows]}
    page = admin.post(LIST, {"action": "rotate_selected", **chosen}).content.decode()
    assert page.count("data-secret") == 2
    admin.post(LIST, {"action": "revoke_selected", **chosen})
    assert ApiKey.objects.filter(revoked_at=None).count() == 2
    page = admin.post(LIST, {"action": "rotate_selected", **chosen}, follow=True).content.decode()
    assert "None of these keys can be rotated" in page


def test_the_list_is_filtered_by_state(admin: Client, alice: User) -> None:
    ApiKey.make(alice, "kept")
    ApiKey.make(alice, "gone")[0].revoke()
    assert "gone (" not in admin.get(f"{LIST}?state=live").content.decode()
    assert admin.get(f"{LIST}?state=revoked").content.decode().count("<code>sk-gw-") == 1


def test_plain_visits_change_nothing(admin: Client, alice: User) -> None:
    row, _ = ApiKey.make(alice, "laptop")
    for action in ("rotate", "revoke"):
        assert admin.get(f"{LIST}{row.pk}/{action}/").status_code == 302
        assert admin.post(f"{LIST}999/{action}/").status_code == 404
    assert ApiKey.objects.get().state() == "active"


def test_staff_make_no_keys_for_other_staff(client: Client, alice: User, charlie: User) -> None:
    dora = staff(client, "add_apikey", "change_apikey", "view_apikey", "view_user")
    assert client.post(f"{LIST}add/", given(charlie)).status_code == 200
    assert not ApiKey.objects.exists()
    key_in(client.post(f"{LIST}add/", given(alice)))
    key_in(client.post(f"{LIST}add/", given(dora)))


def test_staff_touch_no_keys_of_other_staff(client: Client, alice: User, charlie: User) -> None:
    staff(client, "add_apikey", "change_apikey", "delete_apikey", "view_apikey", "view_user")
    row, _ = ApiKey.make(charlie, "root", models=["m"], networks=["10.0.0.0/8"])
    own, _ = ApiKey.make(alice, "laptop")
    assert client.get(f"{LIST}{row.pk}/change/").status_code == 200
    for path, data in (("change", given(charlie)), ("rotate", {}), ("revoke", {}), ("delete", {"post": "yes"})):
        assert client.post(f"{LIST}{row.pk}/{path}/", data).status_code == 403
    for action in ("revoke_selected", "rotate_selected", "delete_selected"):
        client.post(LIST, {"action": action, "_selected_action": [str(row.pk)], "post": "yes"})
    row.refresh_from_db()
    assert (row.models, row.networks, row.state()) == (["m"], ["10.0.0.0/8"], "active")
    assert ApiKey.objects.filter(user=charlie).count() == 1
    assert client.post(f"{LIST}{own.pk}/change/", given(alice, name="renamed")).status_code == 302
    client.post(LIST, {"action": "revoke_selected", "_selected_action": [str(row.pk), str(own.pk)]})
    assert [key.state() for key in ApiKey.objects.order_by("pk")] == ["active", "revoked"]


@pytest.mark.parametrize("query", ["valid_from__year=99999999", "valid_from__gte=0001-01-01T00:00%2B14:00", "e__x=1"])
def test_a_senseless_query_is_no_crash(admin: Client, alice: User, query: str) -> None:
    ApiKey.make(alice, "laptop")
    # PostgreSQL knows years before the first: there that query is merely one that finds all.
    assert admin.get(f"{LIST}?{query}").status_code in (200, 302, 400)


def test_staff_without_the_permission_get_403(client: Client, alice: User) -> None:
    row, _ = ApiKey.make(alice, "laptop")
    staff(client, "view_apikey")
    assert client.post(f"{LIST}add/", given(alice)).status_code == 403
    for action in ("rotate", "revoke"):
        assert client.post(f"{LIST}{row.pk}/{action}/").status_code == 403
    page = client.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "Rotate</button>" not in page
    assert ApiKey.objects.get().state() == "active"
