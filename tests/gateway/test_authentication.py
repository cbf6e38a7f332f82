"""Who may call: every accepted header, every way to be refused, through both doors."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver
from django.utils import timezone
from pytest_django import Settings

from gateway.authentication import client_address
from gateway.models import ApiKey, ModelAlias
from tests.people import PASSWORD
from tests.support.gateway import LiveGateway

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
DOORS = [("POST", "/v1/chat/completions"), ("POST", "/api/Demo/chat/completions"), ("GET", "/v1/models")]
HEADERS = ["Authorization", "g4f-api-key", "x-api-key"]

# Everything else asks who is there.
PUBLIC = {
    "admin", "version", "metrics", "language/", "setup/<str:token>/", "",
    "chat/offline/", "chat/worker.js", "chat/manifest.webmanifest", "admin/login/", "admin/logout/",
    "admin/jsi18n/",
    "accounts/login/", "accounts/logout/", "accounts/signup/", "accounts/inactive/", "accounts/confirm-email/",
    "accounts/password/reset/", "accounts/password/reset/done/", "accounts/password/reset/key/done/",
    # A shared chat is for whoever has its address.
    r"backend-api/v2/chat/(?P<share_id>[^/]+)/?\Z", "chat/share/<str:share_id>",
}  # fmt: skip


def send(gateway: LiveGateway, door: tuple[str, str], **headers: str) -> httpx.Response:
    method, path = door
    body = {"json": CHAT} if method == "POST" else {}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.http.request(method, path, headers=named, **body)  # type: ignore[arg-type]


def credential(header: str, key: str) -> dict[str, str]:
    return {header.replace("-", "_"): f"Bearer {key}" if header == "Authorization" else key}


def code(response: httpx.Response) -> Any:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["code"]


@pytest.fixture
def demo(gateway: LiveGateway) -> LiveGateway:
    gateway.add_demo()
    # Without any user the server only offers its setup.
    assert gateway.key
    return gateway


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("header", HEADERS)
def test_every_header_opens_every_door(demo: LiveGateway, door: tuple[str, str], header: str) -> None:
    assert send(demo, door, **credential(header, demo.key)).status_code == 200


@pytest.mark.parametrize("door", DOORS)
def test_strangers_are_asked_who_they_are(demo: LiveGateway, door: tuple[str, str]) -> None:
    response = send(demo, door)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert code(response) == "invalid_api_key"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("header", HEADERS)
def test_a_key_that_may_not_is_refused_in_every_spelling(
    demo: LiveGateway, alice: User, door: tuple[str, str], header: str
) -> None:
    now = timezone.now()
    hour = dt.timedelta(hours=1)
    expired = demo.make_key(alice, expires_at=now - hour)
    future = demo.make_key(alice, valid_from=now + hour)
    elsewhere = demo.make_key(alice, networks=["203.0.113.0/24"])
    revoked = demo.make_key(alice, name="revoked")
    ApiKey.objects.get(name="revoked").revoke()
    demo.reload()
    expected = {
        expired: "key_expired",
        future: "key_not_yet_valid",
        elsewhere: "ip_not_authorized",
        revoked: "invalid_api_key",
        demo.key[:-1] + "x": "invalid_api_key",
    }
    for key, wanted in expected.items():
        response = send(demo, door, **credential(header, key))
        assert (response.status_code, code(response)) == (401, wanted)


@pytest.mark.parametrize("door", DOORS)
def test_scopes_hold_in_every_spelling(demo: LiveGateway, alice: User, door: tuple[str, str]) -> None:
    other_model = demo.make_key(alice, models=["other"])
    other_door = demo.make_key(alice, surfaces=["backend"])
    for header in HEADERS:
        response = send(demo, door, **credential(header, other_door))
        assert (response.status_code, code(response)) == (403, "surface_not_allowed")
        response = send(demo, door, **credential(header, other_model))
        if door[0] == "GET":
            assert response.json()["data"] == []
        else:
            assert (response.status_code, code(response)) == (403, "model_not_allowed")


def test_a_scoped_key_cannot_look_up_other_models(demo: LiveGateway, alice: User) -> None:
    ModelAlias.objects.create(name="fast")
    key = demo.make_key(alice, models=["other"])
    headers = demo.auth(key)
    assert demo.http.get("/v1/models/demo", headers=headers).status_code == 403
    assert demo.http.get("/v1/providers", headers=headers).json()["data"] == []
    for path in ("/v1/providers/Demo", "/api/Demo/models"):
        assert code(demo.http.get(path, headers=headers)) == "provider_not_found"


def test_two_different_keys_are_one_too_many(demo: LiveGateway, alice: User) -> None:
    other = demo.make_key(alice)
    both = {"Authorization": f"Bearer {demo.key}", "x_api_key": other}
    assert send(demo, DOORS[0], **both).status_code == 401
    assert send(demo, DOORS[0], **{**both, "x_api_key": demo.key}).status_code == 200


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Basic YTpi", "Token x", "Bearer \u00fc\u00e9", "Bearer " + "x" * 5000]
)
def test_odd_credentials_are_401(demo: LiveGateway, value: str) -> None:
    for method, path in DOORS:
        response = demo.http.request(
            method, path, headers={"Authorization": value.encode("latin-1")}, json=CHAT if method == "POST" else None
        )
        assert response.status_code == 401


def test_a_key_in_the_query_or_with_underscores_is_nothing(demo: LiveGateway) -> None:
    assert demo.http.get(f"/v1/models?key={demo.key}&api_key={demo.key}").status_code == 401
    assert demo.http.get("/v1/models", headers={"g4f_api_key": demo.key}).status_code == 401
    assert demo.http.get("/v1/models", headers={"x_api_key": demo.key}).status_code == 401


def test_a_second_word_after_the_key_is_not_ours(demo: LiveGateway) -> None:
    assert send(demo, DOORS[0], Authorization=f"Bearer {demo.key} sk-theirs").status_code == 200


def test_a_key_dies_with_its_user(demo: LiveGateway, alice: User) -> None:
    key = demo.make_key(alice)
    alice.is_active = False
    alice.save()
    demo.reload()
    for header in HEADERS:
        assert send(demo, DOORS[0], **credential(header, key)).status_code == 401


def test_the_database_holds_no_part_of_a_key(demo: LiveGateway, alice: User) -> None:
    key = demo.make_key(alice)
    row = ApiKey.objects.get(user=alice)
    stored = " ".join(str(value) for value in vars(row).values())
    assert key.rsplit("-", 1)[1] not in stored
    assert key.startswith(row.prefix)
    assert len(row.digest) == 64


def test_keys_with_a_common_prefix_are_two(demo: LiveGateway, alice: User, bob: User) -> None:
    first, second = "sk-gw-aaaaaaaa-" + "x" * 40, "sk-gw-aaaaaaaa-" + "x" * 39 + "y"
    demo.make_key(alice, key=first, models=["demo"])
    demo.make_key(bob, key=second, models=["other"])
    assert send(demo, DOORS[0], **credential("x-api-key", first)).status_code == 200
    assert send(demo, DOORS[0], **credential("x-api-key", second)).status_code == 403


def test_a_rotated_key_goes_on_for_its_grace(demo: LiveGateway, alice: User) -> None:
    old = demo.make_key(alice, models=["demo"])
    row, new = ApiKey.objects.get(user=alice).rotate(dt.timedelta(seconds=1))
    demo.reload()
    assert row.models == ["demo"]
    assert send(demo, DOORS[0], **credential("x-api-key", old)).status_code == 200
    assert send(demo, DOORS[0], **credential("x-api-key", new)).status_code == 200
    time.sleep(1.1)
    assert code(send(demo, DOORS[0], **credential("x-api-key", old))) == "key_expired"


def routes(found: list[URLPattern | URLResolver], prefix: str = "") -> list[str]:
    paths: list[str] = []
    for item in found:
        here = prefix + str(item.pattern).lstrip("^")
        paths += routes(item.url_patterns, here) if isinstance(item, URLResolver) else [here]
    return paths


def filled(route: str) -> str:
    """A path for a route: placeholders get values, regular expressions their simplest match."""
    import re

    path = re.sub(r"\(\?P<uidb36>.*?\)-\(\?P<key>.*?\)", "1-abc", route)
    path = re.sub(r"\(\?P<\w+>[^)]*\)", "x", path)
    path = re.sub(r"<uuid:\w+>", "00000000-0000-4000-8000-000000000000", path)
    path = re.sub(r"<(?:int:)?\w*id>", "1", path)
    path = re.sub(r"<[^>]+>", "x", path)
    for piece in ("(?:v1|api|backend-api)(?:/.*)?", "\\Z", "/?", "$", "^"):
        path = path.replace(piece, "v1/whatever" if piece.startswith("(?:v1") else "")
    return path.replace("(?url=.*)", "x")


def test_every_route_but_a_short_list_asks_who_is_there(demo: LiveGateway) -> None:
    asked = 0
    for route in routes(get_resolver().url_patterns):
        if route in PUBLIC or route.startswith("accounts/"):
            continue
        asked += 1
        response = demo.http.get("/" + filled(route))
        if response.status_code == 302:
            assert "login" in response.headers["location"], route
        else:
            assert response.status_code == 401, (route, response.status_code)
            assert code(response) == "invalid_api_key"
    assert asked > 60


def signed_in(user: User) -> Client:
    client = Client(enforce_csrf_checks=True)
    assert client.login(username=user.username, password=PASSWORD)
    return client


def test_a_browser_session_works_on_both_doors_with_csrf(demo: LiveGateway, alice: User) -> None:
    cookies = {"sessionid": signed_in(alice).cookies["sessionid"].value, "csrftoken": "a" * 32}
    with httpx.Client(base_url=demo.url, cookies=cookies, timeout=20) as browser:
        assert browser.get("/v1/models").status_code == 200
        refused = browser.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, code(refused)) == (403, "csrf_failed")
        good = {"x-csrftoken": "a" * 32, "origin": demo.url}
        assert browser.post("/v1/chat/completions", json=CHAT, headers=good).status_code == 200
        foreign = {**good, "origin": "https://evil.example"}
        assert browser.post("/v1/chat/completions", json=CHAT, headers=foreign).status_code == 403


def test_a_session_of_an_inactive_user_is_over(demo: LiveGateway, alice: User) -> None:
    cookies = {"sessionid": signed_in(alice).cookies["sessionid"].value}
    alice.is_active = False
    alice.save()
    with httpx.Client(base_url=demo.url, cookies=cookies) as browser:
        assert browser.get("/v1/models").status_code == 401


def test_anonymous_access_is_the_operators_choice(demo: LiveGateway, settings: Settings) -> None:
    settings.ANONYMOUS_ACCESS = True
    for door in DOORS:
        assert send(demo, door).status_code == 200
        assert send(demo, door, x_api_key="wrong").status_code == 401


def test_passwords_are_argon2(alice: User) -> None:
    assert alice.password.startswith("argon2")


@pytest.mark.parametrize(
    ("hops", "forwarded", "expected"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (3, "203.0.113.9", "203.0.113.9"),
    ],
)
def test_only_our_own_proxies_are_believed(settings: Settings, hops: int, forwarded: str, expected: str) -> None:
    settings.TRUSTED_PROXIES = hops
    assert client_address("127.0.0.1", forwarded) == expected


def test_a_spoofed_address_opens_nothing(demo: LiveGateway, alice: User, settings: Settings) -> None:
    key = demo.make_key(alice, networks=["203.0.113.0/24"])
    for door in DOORS:
        spoofed = {**credential("x-api-key", key), "X_Forwarded_For": "203.0.113.5"}
        assert send(demo, door, **spoofed).status_code == 401
    settings.TRUSTED_PROXIES = 1
    for door in DOORS:
        assert send(demo, door, **spoofed).status_code == 200
