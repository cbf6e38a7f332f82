"""Signing in and out at /accounts/, and what stays closed."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.test import Client

from tests.people import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_limits() -> None:
    cache.clear()


def sign_in(client: Client, login: str, password: str = PASSWORD, **more: str) -> object:
    return client.post("/accounts/login/", {"login": login, "password": password, **more})


def test_an_ordinary_user_signs_in_and_out(client: Client, alice: User) -> None:
    assert sign_in(client, "alice")["Location"] == "/"
    assert "Hello, alice" in client.get("/").content.decode()
    later = client.get("/accounts/logout/")
    assert later.status_code == 200
    assert "Successfully signed in" not in later.content.decode(), "told too late"
    assert client.post("/accounts/logout/")["Location"] == "/accounts/login/"
    assert "Sign in" in client.get("/").content.decode()


def test_an_email_address_works_as_well(client: Client, alice: User) -> None:
    assert sign_in(client, alice.email).status_code == 302


def test_a_wrong_password_is_refused_in_words(client: Client, alice: User) -> None:
    page = sign_in(client, "alice", "wrong")
    assert page.status_code == 200
    assert 'role="alert"' in page.content.decode()


def test_an_inactive_user_is_told(client: Client, alice: User) -> None:
    User.objects.update(is_active=False)
    page = client.post("/accounts/login/", {"login": "alice", "password": PASSWORD}, follow=True).content.decode()
    assert "_auth_user_id" not in client.session
    assert "switched off" in page or 'role="alert"' in page
    assert "switched off" in client.get("/accounts/inactive/").content.decode()


def test_sign_up_is_closed(client: Client) -> None:
    answer = client.post(
        "/accounts/signup/", {"username": "eve", "password1": PASSWORD, "password2": PASSWORD, "email": "e@example.com"}
    )
    assert "Sign-up is closed" in answer.content.decode()
    assert not User.objects.exists()


def test_sign_up_opens_by_setting(client: Client, settings: object) -> None:
    settings.SIGNUP_OPEN = True  # type: ignore[attr-defined]
    assert "Make an account" in client.get("/accounts/signup/").content.decode()
    client.post("/accounts/signup/", {"username": "eve", "password1": PASSWORD, "password2": PASSWORD})
    user = User.objects.get()
    assert not user.is_staff
    assert not user.is_superuser


def test_too_many_attempts_get_429(client: Client, alice: User) -> None:
    codes = {sign_in(client, f"nobody{number}", "wrong").status_code for number in range(60)}
    assert 429 in codes
    page = sign_in(client, "alice")
    assert (page.status_code, "Too many attempts" in page.content.decode()) == (429, True)


def test_a_strange_target_is_not_followed(client: Client, alice: User) -> None:
    assert sign_in(client, "alice", next="https://evil.example/")["Location"] == "/"


def test_a_password_is_changed(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert "Change your password" in client.get("/accounts/password/change/").content.decode()
    new = "four loud herons wade"
    client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    alice.refresh_from_db()
    assert alice.check_password(new)


def test_a_password_is_reset_by_mail(client: Client, alice: User) -> None:
    client.post("/accounts/password/reset/", {"email": alice.email}, follow=True)
    link = re.search(r"https?://[^/]+(/accounts/password/reset/key/\S+)", str(mail.outbox[0].body))
    assert link
    page = client.get(link[1], follow=True)
    assert "Set a new password" in page.content.decode()
    new = "four loud herons wade"
    done = client.post(page.request["PATH_INFO"], {"password1": new, "password2": new}, follow=True)
    assert "Your password is set" in done.content.decode()
    alice.refresh_from_db()
    assert alice.check_password(new)
    assert "does not work" in Client().get(link[1], follow=True).content.decode()


def test_the_reset_does_not_tell_who_exists(client: Client, alice: User) -> None:
    known = client.post("/accounts/password/reset/", {"email": alice.email}, follow=True)
    unknown = client.post("/accounts/password/reset/", {"email": "nobody@example.com"}, follow=True)
    assert "Look into your mail" in known.content.decode()
    assert "Look into your mail" in unknown.content.decode()


@pytest.mark.parametrize("charset", ["hex", "idna", "undefined", "utf-16", "rot13"])
def test_a_form_in_an_odd_charset_is_refused(charset: str) -> None:
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    token = strict.get("/accounts/login/").cookies["csrftoken"].value
    fields = {"csrfmiddlewaretoken": token, "login": "a", "password": "b"}
    parts = (f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{fields[name]}\r\n' for name in fields)
    body, kind = "".join(parts) + "--x--\r\n", "multipart/form-data; boundary=x; charset="
    for more in ({}, {"HTTP_X_CSRFTOKEN": token}):
        assert strict.generic("POST", "/accounts/login/", body, kind + charset, **more).status_code == 400
    assert strict.generic("POST", "/accounts/login/", body, kind + "utf-8").status_code == 200


@pytest.mark.parametrize(
    "path", ["email", "password/change", "password/set", "reauthenticate", "confirm-email", "login/code/confirm"]
)
def test_no_page_fails(client: Client, alice: User, path: str) -> None:
    assert client.get(f"/accounts/{path}/").status_code < 500
    client.force_login(alice)
    page = client.get(f"/accounts/{path}/", follow=True)
    assert page.status_code < 500
    assert "style=" not in page.content.decode()
