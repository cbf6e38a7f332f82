"""GET /backend-api/v2/synthesize/{provider}: sound for a page, for two users, and for no other site."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest

from gateway.models import UsageEvent
from gateway.usage import writer
from tests.people import PASSWORD, alice, bob
from tests.support.answers import error
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error
from tests.support.provider import ScriptedProvider
from tests.support.sounds import MP3, speaking

PATH = "/backend-api/v2/synthesize/Acme"
FAULTS: list[tuple[str, str, int, str | None, str]] = [
    (PATH, "", 400, "text", "missing_required_parameter"),
    (PATH, "text=", 400, "text", "missing_required_parameter"),
    (PATH, "text=+", 400, "text", "invalid_value"),
    (PATH, f"text={'x' * 4097}", 422, "text", "string_above_max_length"),
    (PATH, "text=%ff%fe", 400, None, "invalid_value"),
    (PATH, "&".join(["a=b"] * 60), 400, None, "invalid_value"),
    (PATH, "text=x&speed=fast", 400, "speed", "invalid_type"),
    (PATH, "text=x&speed=nan", 422, "speed", "decimal_above_max_value"),
    (PATH, "text=x&model=nope", 404, "model", "model_not_found"),
    ("/backend-api/v2/synthesize/Nobody", "text=x", 404, "provider", "provider_not_found"),
]
# What browsers say of who makes them ask, and what comes of it.
SITES: list[tuple[dict[str, str], int]] = [
    ({"sec-fetch-site": "same-origin"}, 200),
    ({"sec-fetch-site": "none"}, 200),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "cross-site", "referer": "{url}/chat/"}, 403),
    ({"referer": "{url}/chat/"}, 200),
    ({"referer": "http://evil.example/"}, 403),
    ({"origin": "null"}, 403),
    ({}, 403),
]


@pytest.fixture
def speaker(gateway: LiveGateway, provider: ScriptedProvider) -> ScriptedProvider:
    provider.on("tts-up", speaking())
    gateway.add_provider(
        provider, {"public_id": "tts", "upstream_name": "tts-up", "speech": True}, {"public_id": "chat"}, name="Acme"
    )
    return provider


def rows() -> list[UsageEvent]:
    writer.flush()
    return list(UsageEvent.objects.order_by("id"))


def browser(gateway: LiveGateway) -> httpx.Client:
    """Signed in, as a page of ours asks."""
    client = httpx.Client(base_url=gateway.url, timeout=20)
    client.get("/accounts/login/")
    token = client.cookies["csrftoken"]
    headers = {"x-csrftoken": token, "referer": f"{gateway.url}/accounts/login/"}
    answer = client.post("/accounts/login/", data={"login": "alice", "password": PASSWORD}, headers=headers)
    assert answer.status_code == 302, answer.text
    return client


def test_it_speaks(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    query = {"text": "Hello there.", "voice": "nova", "speed": "1.5", "format": "mp3", "_": "ignored"}
    answer = gateway.http.get(PATH, params=query, headers=gateway.auth())
    assert answer.content == MP3
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["cache-control"] == "private, max-age=604800"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert speaker.requests[0].json == {
        "model": "tts-up", "input": "Hello there.", "voice": "nova", "speed": 1.5, "response_format": "mp3"
    }  # fmt: skip
    (row,) = rows()
    assert (row.surface, row.characters, row.status) == ("backend.synthesize", 12, "ok")
    # As g4f's GUI spells providers, and with another header for the key.
    again = gateway.http.get(PATH.lower(), params={"text": "x"}, headers={"g4f-api-key": gateway.key})
    assert again.status_code == 200


def test_faults_name_their_parameter(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    for path, query, status, param, code in FAULTS:
        answer = gateway.http.get(f"{path}?{query}", headers=gateway.auth())
        assert answer.status_code == status, (query, answer.text)
        found = check_error(answer.json())
        assert (found["param"], found["code"]) == (param, code), query
    assert not speaker.requests


def test_a_provider_that_cannot_says_so(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "chat", name="Mute")
    gateway.add_provider(provider, {"public_id": "claude", "speech": True}, name="Claude", adapter="anthropic")
    for name in ("Mute", "Claude"):
        answer = gateway.http.get(f"/backend-api/v2/synthesize/{name}?text=x", headers=gateway.auth())
        assert answer.status_code == 400
        assert check_error(answer.json())["code"] == "unsupported_operation"
        assert "cache-control" not in answer.headers or "max-age" not in answer.headers["cache-control"]


def test_other_methods_are_refused(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    for method in ("POST", "HEAD", "DELETE"):
        answer = gateway.http.request(method, f"{PATH}?text=x", headers=gateway.auth())
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")
    assert gateway.http.options(PATH, headers=gateway.auth()).status_code == 204
    assert not speaker.requests


def test_strangers_and_keys_of_other_doors_are_refused(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    narrow = gateway.make_key(alice(), surfaces=["v1"])
    assert gateway.http.get(f"{PATH}?text=x").status_code == 401
    assert gateway.http.get(f"{PATH}?text=x&key={narrow}").status_code == 401
    answer = gateway.http.get(f"{PATH}?text=x", headers=gateway.auth(narrow))
    assert (answer.status_code, check_error(answer.json())["code"]) == (403, "surface_not_allowed")
    assert not speaker.requests


def test_another_site_cannot_make_a_browser_ask(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    alice()
    gateway.reload()
    with closing(browser(gateway)) as page:
        for headers, status in SITES:
            sent = {name: value.format(url=gateway.url) for name, value in headers.items()}
            assert page.get(f"{PATH}?text=x", headers=sent).status_code == status, headers
            # Refused before anything is looked up: nobody learns which providers there are.
            unknown = page.get("/backend-api/v2/synthesize/Nobody?text=x", headers=sent)
            assert unknown.status_code == (403 if status == 403 else 404), headers
            # A key is no browser's to send by itself.
            assert page.get(f"{PATH}?text=x", headers={**sent, **gateway.auth()}).status_code == 200
    assert len(speaker.requests) == len(SITES) + 3


def test_two_users_are_told_apart(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    first, second = alice(), bob()
    ours, theirs = gateway.make_key(first), gateway.make_key(second, requests_per_minute=1)
    for key in (ours, theirs, ours):
        assert gateway.http.get(f"{PATH}?text=x", headers=gateway.auth(key)).status_code == 200
    limited = gateway.http.get(f"{PATH}?text=x", headers=gateway.auth(theirs))
    assert (limited.status_code, check_error(limited.json())["code"]) == (429, "rate_limit_exceeded")
    assert [row.user for row in rows()] == [first, second, first]


def test_a_failing_provider_is_not_cached(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    speaker.on("tts-up", error(500))
    answer = gateway.http.get(f"{PATH}?text=x", headers=gateway.auth())
    assert (answer.status_code, answer.headers["cache-control"]) == (502, "no-store")


def test_what_is_kept_is_kept_for_whom_it_was_made(gateway: LiveGateway, speaker: ScriptedProvider) -> None:
    answer = gateway.http.get(f"{PATH}?text=Hello", headers=gateway.auth())
    assert answer.headers["cache-control"] == "private, max-age=604800"
    assert answer.headers["vary"] == "cookie, authorization, g4f-api-key, x-api-key"
