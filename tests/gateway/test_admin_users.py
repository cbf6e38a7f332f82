"""Users in the admin: staff look after ordinary people and reach nobody above them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from gateway.models import ConfigVersion, UserLimits
from tests.people import PASSWORD, person

pytestmark = pytest.mark.django_db
LIST = "/admin/auth/user/"
NEW = {"password1": "four loud herons wade", "password2": "four loud herons wade", "usable_password": "true"}


@pytest.fixture
def dora(client: Client) -> User:
    """May do with users and groups whatever a permission allows."""
    user = person("dora", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    client.force_login(user)
    return user


def given(name: str, **more: Any) -> dict[str, Any]:
    limits = {f"limits-{name}": "" for name in ("0-user", "0-requests_per_minute", "0-tokens_per_minute")}
    limits |= {"media_quota-TOTAL_FORMS": "0", "media_quota-INITIAL_FORMS": "0"}
    limits |= {"limits-TOTAL_FORMS": "1", "limits-INITIAL_FORMS": "0"}
    limits |= {"conversation_limits-TOTAL_FORMS": "0", "conversation_limits-INITIAL_FORMS": "0"}
    dates = {"last_login_0": "", "last_login_1": "", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    return {"username": name, "email": "", "is_active": "on", **dates, **limits, **more}


@pytest.mark.parametrize("rank", [{"is_superuser": True, "is_staff": True}, {"is_staff": True}, {"is_superuser": True}])
def test_staff_touch_neither_staff_nor_superusers(client: Client, dora: User, rank: dict[str, bool]) -> None:
    boss = person("boss", **rank)
    assert client.get(f"{LIST}{boss.pk}/change/").status_code == 200
    assert client.get(f"{LIST}{boss.pk}/password/").status_code == 403
    for path, data in (("password", NEW), ("change", given("owned")), ("delete", {"post": "yes"})):
        assert client.post(f"{LIST}{boss.pk}/{path}/", data).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": [str(boss.pk)], "post": "yes"})
    boss.refresh_from_db()
    assert boss.username == "boss"
    assert boss.check_password(PASSWORD)


def test_staff_look_after_ordinary_people_but_grant_nothing(client: Client, dora: User, alice: User) -> None:
    group = Group.objects.create(name="all")
    rights = {"is_staff": "on", "is_superuser": "on", "groups": [str(group.pk)], "user_permissions": ["1"]}
    assert client.post(f"{LIST}{alice.pk}/change/", given("alicia", **rights)).status_code == 302
    alice.refresh_from_db()
    assert (alice.username, alice.is_staff, alice.is_superuser) == ("alicia", False, False)
    assert (alice.groups.count(), alice.user_permissions.count()) == (0, 0)
    client.post(f"{LIST}{alice.pk}/password/", {**NEW, "set-password": "1"})
    alice.refresh_from_db()
    assert alice.check_password(NEW["password1"])
    client.post(f"{LIST}add/", {"username": "new", **NEW, **rights})
    assert not User.objects.get(username="new").is_staff
    assert client.post(f"{LIST}{alice.pk}/delete/", {"post": "yes"}).status_code == 302


def test_staff_do_not_change_groups(client: Client, dora: User) -> None:
    group = Group.objects.create(name="all")
    group.user_set.add(dora)
    for path in ("add/", f"{group.pk}/change/", f"{group.pk}/delete/"):
        answer = client.post(f"/admin/auth/group/{path}", {"name": "all", "permissions": ["1"], "post": "yes"})
        assert answer.status_code == 403
    assert Group.objects.get().permissions.count() == 0


def test_a_superuser_does_all_of_it(client: Client, charlie: User, alice: User) -> None:
    client.force_login(charlie)
    client.post(f"{LIST}{alice.pk}/change/", given("alice", is_staff="on"))
    alice.refresh_from_db()
    assert alice.is_staff
    client.post(f"{LIST}{alice.pk}/password/", {**NEW, "set-password": "1"})
    alice.refresh_from_db()
    assert alice.check_password(NEW["password1"])
    assert client.post("/admin/auth/group/add/", {"name": "all"}).status_code == 302


def test_limits_are_on_a_users_page_and_stay_untouched_without_the_permission(
    client: Client, charlie: User, dora: User, alice: User
) -> None:
    change = f"{LIST}{alice.pk}/change/"
    numbers = {"limits-0-user": str(alice.pk), "limits-0-requests_per_minute": "60", "limits-0-max_streams": "4"}
    assert "limits-0" not in client.get(change).content.decode()
    client.post(change, given("alice", **numbers))
    assert not UserLimits.objects.exists()
    client.force_login(charlie)
    assert "requests_per_minute" in client.get(change).content.decode()
    assert "requests_per_minute" not in client.get(f"{LIST}add/").content.decode()
    assert client.post(change, given("alice")).status_code == 302
    assert not UserLimits.objects.exists()
    before = ConfigVersion.current()
    assert client.post(change, given("alice", **numbers)).status_code == 302
    row = UserLimits.objects.get(user=alice)
    assert (row.requests_per_minute, row.tokens_per_minute, row.max_streams) == (60, None, 4)
    assert ConfigVersion.current() > before
    wrong = client.post(change, given("alice", **numbers | {"limits-0-requests_per_minute": "0"}))
    assert (wrong.status_code, "errorlist" in wrong.content.decode()) == (200, True)
