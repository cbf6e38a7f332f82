"""Cookie files: who may upload them, what is kept of them, and what a provider behind cookies is sent."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.core.management import call_command

from gateway.cookies import BadCookies, for_host, header, read, stored
from gateway.models import Credential, Provider
from tests.support.answers import Answer, error, reply
from tests.support.gateway import LiveGateway
from tests.support.provider import Recorded, ScriptedProvider

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SECRET = "cookie-value-4f7a91"
QUESTION: Any = [{"role": "user", "content": "Hello"}]


def listed(*cookies: dict[str, Any]) -> bytes:
    return json.dumps(list(cookies)).encode()


def one(value: str = SECRET, domain: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    return {"domain": domain, "name": "session", "value": value, **more}


def har(url: str, *cookies: dict[str, Any], headers: tuple[dict[str, Any], ...] = ()) -> bytes:
    request = {"method": "GET", "url": url, "cookies": list(cookies), "headers": list(headers)}
    return json.dumps({"log": {"version": "1.2", "entries": [{"request": request, "response": {}}]}}).encode()


def guarded(request: Recorded) -> Answer:
    """A provider whose proxy knows nothing but the cookie."""
    if f"session={SECRET}" not in (request.header("cookie") or ""):
        return error(401, "Log in first.")
    return reply("Behind the cookie.")


@pytest.fixture
def scripted(provider: ScriptedProvider) -> ScriptedProvider:
    provider.on("m", guarded)
    return provider


@pytest.fixture
def row(gateway: LiveGateway, scripted: ScriptedProvider) -> Provider:
    return gateway.add_provider(scripted, "m", name="Behind", credentials=(), auth_style="cookies")


@pytest.fixture
def staff_key(gateway: LiveGateway, charlie: User) -> str:
    return gateway.make_key(charlie)


def upload(gateway: LiveGateway, key: str, *files: tuple[str, bytes], field: str = "files") -> httpx.Response:
    path = "/v1/upload_cookies" if field == "files" else "/backend-api/v2/upload_cookies"
    sent = [(field, (name, data, "application/json")) for name, data in files]
    return gateway.http.post(path, files=sent, headers=gateway.auth(key))


def kept(row: Provider) -> list[str]:
    return [credential.secret.reveal() for credential in Credential.objects.filter(provider=row)]


@pytest.mark.usefixtures("row")
def test_a_chat_goes_through_with_the_cookies_of_the_upload(
    gateway: LiveGateway, scripted: ScriptedProvider, staff_key: str
) -> None:
    with pytest.raises(Exception, match="credential"):
        gateway.client().chat.completions.create(model="m", messages=QUESTION)
    assert not scripted.chats
    answer = upload(gateway, staff_key, ("b.json", listed(one(), one("theirs", "elsewhere.example"))))
    assert (answer.status_code, answer.json()) == (200, [{"filename": "b.json"}])
    gateway.reload()
    chat = gateway.client().chat.completions.create(model="m", messages=QUESTION)
    assert chat.choices[0].message.content == "Behind the cookie."
    assert scripted.chats[0].header("cookie") == f"session={SECRET}"
    assert scripted.chats[0].header("authorization") is None


def test_a_new_upload_replaces_what_was_there_and_other_credentials_stay(
    gateway: LiveGateway, row: Provider, staff_key: str
) -> None:
    own = Credential(provider=row, label="mine")
    own.set_secret("a=b")
    own.save()
    upload(gateway, staff_key, ("a.json", listed(one("first"), {**one("x"), "name": "old"})))
    upload(gateway, staff_key, ("b.har", har("http://127.0.0.1/chat", {"name": "session", "value": "second"})))
    mine, uploaded = kept(row)
    assert mine == "a=b"
    assert header(uploaded, row.base_url) == "session=second"
    # Nothing for this provider: what it has stays.
    upload(gateway, staff_key, ("c.json", listed(one("third", "elsewhere.example"))))
    assert kept(row)[1] == uploaded


def test_ordinary_keys_and_strangers_may_not(gateway: LiveGateway, row: Provider, alice: User, bob: User) -> None:
    for field in ("files", "file"):
        for user_key in (gateway.make_key(alice, f"a{field}"), gateway.make_key(bob, f"b{field}")):
            answer = upload(gateway, user_key, ("b.json", listed(one())), field=field)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "permission_denied"
        assert upload(gateway, "sk-gw-nobody", ("b.json", listed(one())), field=field).status_code == 401
    assert kept(row) == []


def test_both_routes_answer_as_documented(gateway: LiveGateway, row: Provider, staff_key: str) -> None:
    two = upload(gateway, staff_key, ("../x/b.json", listed(one())), ("notes.txt", b"?"), ("c.HAR", har("http://a.b/")))
    assert two.json() == [{"filename": "b.json"}, {"filename": "c.HAR"}]
    assert upload(gateway, staff_key, ("notes.txt", b"?")).json() == []
    nothing = gateway.http.post("/v1/upload_cookies", files={"other": b"x"}, headers=gateway.auth(staff_key))
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "files")

    def said(name: str, data: bytes) -> tuple[int, str, str]:
        answer = upload(gateway, staff_key, (name, data), field="file")
        return answer.status_code, answer.text, answer.headers["content-type"]

    assert said("b.json", listed(one("by the other"))) == (200, "File saved", "text/plain; charset=utf-8")
    assert header(kept(row)[0], row.base_url) == "session=by the other"
    assert said("b.txt", b"?")[:2] == (400, "Not supported file")
    none = gateway.http.post("/backend-api/v2/upload_cookies", files={"x": b"x"}, headers=gateway.auth(staff_key))
    assert (none.status_code, none.text) == (400, "No selected file")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("b.json", b"{"),
        ("b.json", b"\xff\xfe"),
        ("b.json", b'{"a": 1}'),
        ("b.json", b"7"),
        ("b.json", b"[" * 5000),
        ("b.har", b"[]"),
        ("b.har", b'{"log": {"entries": 5}}'),
        ("b.json", listed(one("a\r\nX-Evil: 1"))),
        ("b.json", listed(one("a\x00b"))),
        ("b.json", listed(one("a; admin=1"))),
        ("b.json", listed({**one(), "name": "a=b"})),
        ("b.json", listed(one("ü"))),
        ("b.json", listed(one("x" * 5000))),
        ("b.json", listed(*({**one("x" * 1000), "name": f"n{number}"} for number in range(9)))),
    ],
)
def test_bad_files_are_refused_as_a_whole(
    gateway: LiveGateway, row: Provider, staff_key: str, name: str, data: bytes
) -> None:
    answer = upload(gateway, staff_key, ("good.json", listed(one())), (name, data))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_cookies"
    assert "X-Evil" not in answer.text
    assert kept(row) == []


def test_what_is_no_form_is_refused(gateway: LiveGateway, staff_key: str) -> None:
    headers = gateway.auth(staff_key)
    assert gateway.http.post("/v1/upload_cookies", json=[one()], headers=headers).status_code == 415
    broken = {**headers, "content-type": "multipart/form-data"}
    assert gateway.http.post("/v1/upload_cookies", content=b"x", headers=broken).status_code == 400
    many = [("files", (f"{number}.json", b"[]")) for number in range(60)]
    assert gateway.http.post("/v1/upload_cookies", files=many, headers=headers).status_code == 400
    assert gateway.http.get("/v1/upload_cookies", headers=headers).status_code == 405


def test_both_routes_are_in_the_schema(gateway: LiveGateway, staff_key: str) -> None:
    paths = gateway.http.get("/schema/", headers=gateway.auth(staff_key)).json()["paths"]
    for path, field in (("/v1/upload_cookies", "files"), ("/backend-api/v2/upload_cookies", "file")):
        (kind,) = paths[path]["post"]["requestBody"]["content"]
        assert kind == "multipart/form-data"
        assert field in str(paths[path]["post"]["requestBody"]) or "Cookie" in str(paths[path]["post"]["requestBody"])


def test_a_browser_needs_its_csrf_token(gateway: LiveGateway, row: Provider, charlie: User, staff_key: str) -> None:
    from django.test import Client

    browser = Client()
    browser.force_login(charlie)
    cookies = {"sessionid": browser.cookies["sessionid"].value}
    sent = [("files", ("b.json", listed(one())))]
    refused = httpx.post(f"{gateway.url}/v1/upload_cookies", files=sent, cookies=cookies)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")
    assert kept(row) == []


def test_cookies_are_never_shown(
    gateway: LiveGateway, row: Provider, scripted: ScriptedProvider, staff_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = [upload(gateway, staff_key, ("b.json", listed(one()))).text]
    gateway.reload()
    scripted.on("m", error(400, f"You sent session={SECRET}, which I do not like."))
    refused = gateway.http.post(
        "/v1/chat/completions", json={"model": "m", "messages": QUESTION}, headers=gateway.auth(staff_key)
    )
    assert refused.status_code == 400
    shown.append(refused.text)
    for command in (("provider", "show", "Behind"), ("provider", "credential", "list", "Behind"), ("config", "export")):
        output = io.StringIO()
        call_command(*command, stdout=output)
        shown.append(output.getvalue())
    credential = Credential.objects.get(provider=row)
    shown += [str(credential), repr(credential.secret), credential.secret.token, caplog.text]
    assert not [text for text in shown if SECRET in text]


def test_a_test_of_the_provider_sends_them(
    gateway: LiveGateway, row: Provider, scripted: ScriptedProvider, staff_key: str
) -> None:
    from gateway.operations import Refused, test_provider

    with pytest.raises(Refused, match="no cookies"):
        test_provider(row)
    upload(gateway, staff_key, ("b.json", listed(one())))
    assert [result.problem for result in test_provider(row)] == [""]
    assert scripted.requests[-1].header("cookie") == f"session={SECRET}"


def test_expired_cookies_are_no_credential(gateway: LiveGateway, row: Provider, staff_key: str) -> None:
    upload(gateway, staff_key, ("b.json", listed(one(expires=time.time() + 0.3))))
    assert len(kept(row)) == 1
    time.sleep(0.35)
    gateway.reload()
    answer = gateway.http.post(
        "/v1/chat/completions", json={"model": "m", "messages": QUESTION}, headers=gateway.auth(staff_key)
    )
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("cookie", "url", "sent"),
    [
        ({"domain": "a.example"}, "https://a.example/v1", True),
        ({"domain": "A.Example"}, "https://a.example/v1", True),
        ({"domain": "a.example"}, "https://b.a.example/v1", False),
        ({"domain": ".a.example"}, "https://b.a.example/v1", True),
        ({"domain": ".a.example", "hostOnly": True}, "https://b.a.example/v1", False),
        ({"domain": ".a.example"}, "https://evila.example/v1", False),
        ({"domain": ".example"}, "https://a.example/v1", False),
        ({"domain": ".0.0.1"}, "http://127.0.0.1/v1", False),
        ({"domain": "a.example", "secure": True}, "http://a.example/v1", False),
        ({"domain": "a.example", "secure": True}, "https://a.example/v1", True),
        ({"domain": "a.example", "path": "/v1"}, "https://a.example/v1", True),
        ({"domain": "a.example", "path": "/v"}, "https://a.example/v1", False),
        ({"domain": "a.example", "path": "/"}, "https://a.example", True),
        ({"domain": "a.example", "expires": -1}, "https://a.example/v1", True),
        ({"domain": "a.example", "expirationDate": 12.5}, "https://a.example/v1", False),
        ({"domain": "a.example", "expires": "2020-01-01T00:00:00Z"}, "https://a.example/v1", False),
        ({"domain": "a.example", "expires": "soon"}, "https://a.example/v1", True),
    ],
)
def test_who_gets_a_cookie(cookie: dict[str, Any], url: str, sent: bool) -> None:
    cookies = read("x.json", listed({"name": "n", "value": "v", **cookie}))
    assert bool(header(stored(for_host(cookies, url)), url)) is sent


def test_longer_paths_come_first_and_the_last_of_a_kind_counts() -> None:
    cookies = read("x.json", listed(one("1"), one("2"), {**one("3"), "path": "/v1"}, {"name": "broken"}, "no cookie"))
    assert header(stored(for_host(cookies, "http://127.0.0.1/v1")), "http://127.0.0.1/v1") == "session=3; session=2"


def test_a_har_gives_what_the_requests_sent() -> None:
    lines = ({"name": "Cookie", "value": "a=1; b=x=y; bad"}, {"name": "Accept", "value": "c=3"})
    assert (
        header(stored(read("x.har", har("https://h.example/a", headers=lines))), "https://h.example/") == "a=1; b=x=y"
    )
    foreign = har("https://h.example/a", {"name": "a", "value": "1", "domain": ".bank.example"})
    assert read("x.har", foreign) == []
    wide = har("https://h.example/a", {"name": "a", "value": "1", "domain": ".h.example"})
    assert header(stored(read("x.har", wide)), "https://api.h.example/") == "a=1"


def test_a_file_of_very_many_cookies_is_refused() -> None:
    with pytest.raises(BadCookies, match="more than"):
        read("x.json", listed(*[one("v", "a.b")] * 50_001))


def test_a_secret_typed_by_hand_is_the_header_itself() -> None:
    assert header("a=1; b=2", "https://h.example") == "a=1; b=2"
    assert header("[oh no", "https://h.example") == ""
    assert header(listed(one(domain="h.example")).decode(), "https://h.example") == f"session={SECRET}"
