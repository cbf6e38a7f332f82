"""GET /backend-api/v2/create: texts, streams, pictures, kept answers, and whom a browser may be sent by."""

from __future__ import annotations

import socket
import threading
import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.core.cache import cache
from pytest_django import Settings

from gateway.models import UsageEvent, UserLimits
from gateway.surfaces.backend.create import without_markdown
from gateway.usage import writer
from tests.people import alice, bob
from tests.support import answers
from tests.support.answers import Hold
from tests.support.browsers import signed_in
from tests.support.gateway import LiveGateway
from tests.support.pictures import images, picture
from tests.support.provider import ScriptedProvider
from tests.support.refusals import refused
from tests.support.web import small_web

PATH = "/backend-api/v2/create"
CODE = "Look:\n```\nplain\n```\nand\n```python title=a\nprint(1)\n```\n```sql\nselect 1\n```\n"


@pytest.fixture
def acme(gateway: LiveGateway, provider: ScriptedProvider) -> LiveGateway:
    gateway.add_provider(provider, "m", {"public_id": "painter", "image": True, "chat": False}, name="Acme")
    assert gateway.key
    return gateway


def ask(gateway: LiveGateway, key: str | None = None, **query: str) -> httpx.Response:
    return gateway.http.get(PATH, params={"model": "m", "prompt": "Hi", **query}, headers=gateway.auth(key))


def rows() -> list[UsageEvent]:
    writer.flush()
    return list(UsageEvent.objects.order_by("id"))


def test_it_answers_in_plain_text(acme: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.reply("Good <b>day</b>"))
    answer = ask(acme, provider="acme", _="ignored")
    assert (answer.status_code, answer.text) == (200, "Good <b>day</b>")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert provider.chats[0].json["messages"] == [{"role": "user", "content": "Hi"}]
    (row,) = rows()
    assert (row.surface, row.status, row.prompt_tokens, row.stream) == ("backend.create", "ok", 7, False)


def test_the_automatic_choice_may_be_named(acme: LiveGateway, provider: ScriptedProvider) -> None:
    for query in ({"provider": "AnyProvider", "model": ""}, {"provider": "", "model": "default"}):
        provider.enqueue(answers.reply("yes"))
        assert ask(acme, **query).text == "yes"


def test_several_providers_are_tried_in_their_order(acme: LiveGateway, provider: ScriptedProvider) -> None:
    acme.add_provider("http://127.0.0.1:9/v1", "m", name="Broken", priority=99)
    provider.enqueue(answers.reply("at last"))
    assert ask(acme, provider="Broken Acme").text == "at last"
    (row,) = rows()
    assert [item["provider"] for item in row.attempts] == ["Broken", "Acme"]


def test_an_end_that_is_none_is_said(acme: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.stream("Half", finish="length"))
    assert ask(acme, stream="true").text == "Half [length]"


def test_a_stream_comes_as_it_is_written(acme: LiveGateway, provider: ScriptedProvider) -> None:
    go_on = threading.Event()
    one, *rest = answers.events_of([{"content": "One "}, {"content": "two"}])[1:]
    provider.enqueue(answers.sse([one, Hold(go_on), *rest]))
    with acme.http.stream("GET", PATH, params={"prompt": "x", "model": "m", "stream": "1"}, headers=acme.auth()) as got:
        assert got.headers["content-type"] == "text/plain; charset=utf-8"
        parts = got.iter_text()
        assert next(parts).strip() == "One"
        go_on.set()
        assert "".join(parts) == "two"
    assert rows()[0].stream is True


def test_who_leaves_ends_the_providers_work(acme: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.silent())
    parts = urlsplit(acme.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as caller:
        head = f"GET {PATH}?prompt=x&model=m&stream=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {acme.key}"
        caller.sendall(f"{head}\r\n\r\n".encode())
        upstream = provider.wait_for(1)
    assert upstream.left.wait(5)


def test_a_stream_that_breaks_off_is_cut(acme: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.sse([*answers.events_of([{"content": "Half"}], done=False)[:2], "{broken"]))
    with pytest.raises(httpx.RemoteProtocolError):
        ask(acme, stream="true")
    # Where nothing was said yet there is still room for a status.
    provider.enqueue(answers.sse(["{broken"]))
    refused(ask(acme, stream="true"), 502)
    assert rows()[0].status == "error"


@pytest.mark.parametrize(
    ("fence", "expected"),
    [
        ("true", "print(1)"),
        ("1", "print(1)"),
        ("python", "print(1)"),
        ("SQL", "select 1"),
        ("rust", ""),
        ("false", CODE),
    ],
)
def test_code_alone_may_be_wanted(acme: LiveGateway, provider: ScriptedProvider, fence: str, expected: str) -> None:
    provider.enqueue(answers.reply(CODE))
    # A stream would know too late where the block begins and ends.
    assert ask(acme, filter_markdown=fence, stream="true" if fence != "false" else "").text == expected


def test_fences() -> None:
    assert without_markdown("no code", "*") == "no code"
    assert without_markdown("~~~js\na\n```\nb\n~~~", "*") == "a\n```\nb"
    assert without_markdown("```py\nopen", "*") == "open"
    assert without_markdown("```" * 50_000, "*").startswith("```")


def test_a_picture_is_where_its_address_leads(acme: LiveGateway, provider: ScriptedProvider) -> None:
    red = picture("red")
    provider.enqueue(images(red))
    answer = ask(acme, model="painter", prompt="a fox")
    assert answer.status_code == 302, answer.text
    place = answer.headers["location"]
    assert place.startswith(f"{acme.url}/media/")
    assert acme.http.get(place).headers["content-type"] == "image/png"
    provider.enqueue(images(red, red))
    assert [line.startswith(acme.url) for line in ask(acme, model="painter").text.splitlines()] == [True, True]
    assert [(row.surface, row.images) for row in rows()] == [("backend.create", 1), ("backend.create", 2)]


class TestKeptAnswers:
    def test_the_same_word_gets_the_same_answer(self, acme: LiveGateway, provider: ScriptedProvider) -> None:
        word = str(uuid.uuid4())
        provider.enqueue(answers.reply("first"), answers.reply("second"), answers.reply("third"))
        assert [ask(acme, cache=word).text for _ in range(2)] == ["first", "first"]
        assert ask(acme, cache=word).headers["x-gateway-cache"] == "hit"
        assert ask(acme, cache=word, prompt="Other").text == "second"
        assert ask(acme).text == "third"
        assert len(rows()) == 3

    def test_nobody_gets_anothers(self, acme: LiveGateway, provider: ScriptedProvider) -> None:
        word, mine, theirs = str(uuid.uuid4()), acme.make_key(alice()), acme.make_key(bob())
        provider.enqueue(answers.reply("for alice"), answers.reply("for bob"))
        assert ask(acme, mine, cache=word).text == "for alice"
        assert ask(acme, theirs, cache=word).text == "for bob"

    def test_streams_and_pictures_too(self, acme: LiveGateway, provider: ScriptedProvider) -> None:
        word = str(uuid.uuid4())
        provider.enqueue(answers.stream("one ", "answer"), images(picture("red")))
        assert [ask(acme, cache=word, stream="1").text for _ in range(2)] == ["one answer"] * 2
        places = [ask(acme, cache=word, model="painter").headers["location"] for _ in range(2)]
        assert places[0] == places[1]

    def test_failures_are_not_kept(self, acme: LiveGateway, provider: ScriptedProvider) -> None:
        word = str(uuid.uuid4())
        provider.enqueue(answers.error(400, "no"), answers.reply("yes"))
        refused(ask(acme, cache=word), 400)
        assert ask(acme, cache=word).text == "yes"


@pytest.mark.parametrize(
    ("query", "status", "param", "code"),
    [
        ({"prompt": " "}, 400, "prompt", "missing_required_parameter"),
        ({"model": "nope"}, 404, "model", "model_not_found"),
        ({"provider": "Nobody"}, 404, "provider", "provider_not_found"),
        ({"provider": "Nobody None"}, 404, "provider", "provider_not_found"),
        ({"model": "x" * 5000}, 400, "model", "invalid_value"),
        ({"model": "a\nb"}, 400, "model", "invalid_value"),
    ],
)
def test_faults_name_their_parameter(
    acme: LiveGateway, query: dict[str, str], status: int, param: str, code: str
) -> None:
    refused(ask(acme, **query), status, code, param)


def test_what_cannot_be_read_is_refused(acme: LiveGateway) -> None:
    for query in ("prompt=%ff%fe", "&".join(["a=b"] * 60)):
        refused(acme.http.get(f"{PATH}?{query}", headers=acme.auth()), 400, "invalid_value")
    refused(acme.http.post(PATH, headers=acme.auth()), 405)
    refused(acme.http.get(f"{PATH}?prompt=x"), 401)


def test_a_providers_refusal_has_its_status(acme: LiveGateway, provider: ScriptedProvider) -> None:
    for stream in ("", "true"):
        provider.enqueue(answers.error(429, "slow down"))
        refused(ask(acme, stream=stream), 429)


def test_limits_hold(acme: LiveGateway, provider: ScriptedProvider) -> None:
    user, word = alice(), str(uuid.uuid4())
    UserLimits.objects.create(user=user, requests_per_minute=2)
    key = acme.make_key(user)
    provider.enqueue(answers.reply("one"))
    assert [ask(acme, key, cache=word).status_code for _ in range(2)] == [200, 200]
    refused(ask(acme, key, cache=word), 429, "rate_limit_exceeded")
    assert len(provider.chats) == 1


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
def test_another_site_cannot_ask_in_a_users_name(
    acme: LiveGateway, provider: ScriptedProvider, site: str, status: int
) -> None:
    alice()
    with signed_in(acme.url, "alice") as page:
        answer = page.get(PATH, params={"prompt": "x", "model": "m"}, headers={"sec-fetch-site": site})
        assert answer.status_code == status
        # Before anything is looked up: nobody learns which models there are.
        unknown = page.get(PATH, params={"prompt": "x", "model": "nope"}, headers={"sec-fetch-site": site})
        assert unknown.status_code == (404 if status == 200 else 403)
    assert len(provider.chats) == (status == 200)


@pytest.mark.parametrize("streamed", ["", "true"])
def test_it_searches_the_web_and_names_its_sources(
    acme: LiveGateway, provider: ScriptedProvider, settings: Any, streamed: str
) -> None:
    with small_web() as web:
        settings.WEB_SEARCH, settings.SEARXNG_URL = "searxng", web.url
        first = {"url": "https://a.example/", "title": "A", "content": "a"}
        web.results = [first, {"url": "https://b.example/", "title": "B"}]
        cache.clear()
        provider.enqueue(answers.stream("Frogs [2].") if streamed else answers.reply("Frogs [2]."))
        answer = ask(acme, web_search="small frogs", stream=streamed)
        assert web.queries == ["small frogs"]
    assert answer.text == "Frogs [2].\n\n[2] B https://b.example/"
    assert "[1] A\nhttps://a.example/\na" in provider.chats[-1].json["messages"][0]["content"]
    assert "warning" not in answer.headers


def test_a_picture_is_not_kept_longer_than_its_address(
    acme: LiveGateway, provider: ScriptedProvider, settings: Settings
) -> None:
    settings.MEDIA_URL_SECONDS = 60
    word = str(uuid.uuid4())
    provider.enqueue(images(picture("red")), images(picture("red")))
    places = [ask(acme, cache=word, model="painter").headers["location"] for _ in range(2)]
    assert places[0] != places[1]


def test_of_several_providers_any_may_have_the_model(acme: LiveGateway, provider: ScriptedProvider) -> None:
    acme.add_provider(provider, "other", name="Beta")
    provider.enqueue(answers.reply("from the second"))
    assert ask(acme, provider="Beta Acme").text == "from the second"
