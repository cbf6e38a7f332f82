"""The one-time setup link: once, in time, from this machine."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from g4fsite.models import SetupToken
from g4fsite.setup import make_setup_link
from gateway.models import Provider
from gateway.snapshot import Snapshot, store

pytestmark = pytest.mark.django_db
GOOD = {"username": "mara", "password": "three quiet otters swim", "again": "three quiet otters swim"}


def test_it_makes_the_first_superuser_and_signs_in(client: Client) -> None:
    link = make_setup_link()
    page = client.get(link)
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    answer = client.post(link, GOOD)
    assert (answer.status_code, answer["Location"]) == (302, "/setup/provider/")
    user = User.objects.get()
    assert user.is_superuser
    assert user.is_staff
    assert user.check_password(GOOD["password"])
    assert client.get("/admin/").status_code == 200


def test_the_configuration_knows_of_the_user_at_once(client: Client) -> None:
    store.current = Snapshot()
    client.post(make_setup_link(), GOOD)
    assert store.current.has_users
    store.current, store.loaded_at = Snapshot(), 0.0


def test_it_sets_a_users_password(client: Client, charlie: User) -> None:
    link = make_setup_link(charlie)
    page = client.get(link).content.decode()
    assert "charlie" in page
    assert 'name="username"' not in page
    client.post(link, {"password": "four loud herons wade", "again": "four loud herons wade"})
    charlie.refresh_from_db()
    assert charlie.check_password("four loud herons wade")
    assert User.objects.count() == 1


def test_it_works_once(client: Client) -> None:
    link = make_setup_link()
    client.post(link, GOOD)
    assert Client().get(link).status_code == 403
    assert Client().post(link, GOOD | {"username": "eve"}).status_code == 403
    assert User.objects.count() == 1


def test_it_ends_after_fifteen_minutes(client: Client) -> None:
    link = make_setup_link()
    left = SetupToken.objects.get().expires_at - timezone.now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    SetupToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(link).status_code == 403
    assert client.post(link, GOOD).status_code == 403


def test_a_new_link_ends_the_older_one(client: Client) -> None:
    older = make_setup_link()
    make_setup_link()
    assert client.get(older).status_code == 403


@pytest.mark.parametrize(
    "meta",
    [
        {"REMOTE_ADDR": "192.0.2.7"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.7"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=192.0.2.7"},
    ],
)
def test_it_refuses_other_machines(client: Client, meta: dict[str, str]) -> None:
    link = make_setup_link()
    assert client.get(link, **meta).status_code == 403
    assert client.post(link, GOOD, **meta).status_code == 403
    assert not User.objects.exists()


def test_it_takes_loopback_of_both_families(client: Client) -> None:
    link = make_setup_link()
    assert client.get(link, REMOTE_ADDR="::1").status_code == 200
    assert client.get(link, REMOTE_ADDR="::ffff:127.0.0.1").status_code == 200


def test_the_first_superusers_link_is_void_once_there_is_a_user(client: Client) -> None:
    link = make_setup_link()
    User.objects.create_user("early")
    assert client.post(link, GOOD).status_code == 403
    assert not User.objects.filter(is_superuser=True).exists()


@pytest.mark.parametrize(
    "given",
    [
        {"password": "short", "again": "short"},
        {"password": "password123", "again": "password123"},
        {"again": "something else entirely"},
        {"username": ""},
        {"username": "two words"},
        {"username": "x" * 151},
        {"username": "nul\x00byte"},
    ],
)
def test_what_is_wrong_is_said_and_the_link_stays(client: Client, given: dict[str, str]) -> None:
    link = make_setup_link()
    page = client.post(link, GOOD | given)
    assert page.status_code == 200
    assert 'class="err"' in page.content.decode()
    assert GOOD["password"] not in page.content.decode()
    assert not User.objects.exists()
    assert client.get(link).status_code == 200


@pytest.mark.parametrize("token", ["x", "%00", "a" * 2000, "ä"])
def test_a_made_up_link_is_refused(client: Client, token: str) -> None:
    assert client.get(f"/setup/{token}/").status_code == 403


def test_the_token_is_neither_stored_nor_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    link = make_setup_link()
    token = link.split("/")[2]
    row = SetupToken.objects.get()
    assert token not in row.digest
    assert token not in repr(row)
    with caplog.at_level(logging.DEBUG):
        client.post(link, GOOD)
        client.get(link)
    assert token not in caplog.text


def test_it_needs_the_csrf_token() -> None:
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(make_setup_link(), GOOD).status_code == 403
    assert not User.objects.exists()


@pytest.mark.parametrize("address", ["http://[", "http://[::1/v1", "http://\u2100.com/v1", "http://a:b/v1", "ftp://a/"])
def test_what_is_no_address_is_said_to_be_none(client: Client, address: str) -> None:
    client.post(make_setup_link(), GOOD)
    page = client.post("/setup/provider/", {"provider": "other", "address": address, "key": "sk-secret"})
    assert page.status_code == 200
    assert 'role="alert"' in page.content.decode()
    assert "sk-secret" not in page.content.decode()
    assert not Provider.objects.exclude(adapter="demo").exists()
