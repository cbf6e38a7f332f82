"""What a conversation is given beside its messages: what the web says, and what is remembered of its user."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError

from conversations.models import Message
from tests.conversations.conftest import Person
from tests.people import person
from tests.support.answers import stream
from tests.support.browser import Browser
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider
from tests.support.web import Web, small_web


@pytest.fixture
def asking(gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[tuple[Browser, Person]]:
    gateway.add_provider(provider, "scripted")
    someone = Person(gateway, person("dora"))
    browser = Browser(gateway.url, someone.headers["x-api-key"])
    yield browser, someone
    browser.close()


@pytest.fixture
def web(settings: Any) -> Iterator[Web]:
    with small_web() as made:
        settings.WEB_SEARCH, settings.SEARXNG_URL = "searxng", made.url
        settings.FETCH_PORTS, settings.FETCH_PRIVATE_HOSTS = frozenset({made.port}), frozenset({"127.0.0.1"})
        made.pages["/frogs"] = "<html><body><p>The smallest frog measures seven millimetres.</p></body></html>"
        made.results = [{"url": f"{made.url}/frogs", "title": "Frogs", "content": "small"}]
        cache.clear()
        yield made


def asked(provider: ScriptedProvider) -> list[dict[str, Any]]:
    return list(provider.chats[-1].json["messages"])


def test_sources_are_told_and_kept_with_the_answer(
    asking: tuple[Browser, Person], provider: ScriptedProvider, web: Web
) -> None:
    browser, someone = asking
    provider.on("scripted", stream("Seven ", "millimetres [1", "]."))
    conversation = str(uuid.uuid4())
    body = browser.body("smallest frog?")
    seen = browser.send({**body, "conversation_id": conversation, "web_search": True})
    assert seen.state == "done", seen.events
    source = {"url": f"{web.url}/frogs", "title": "Frogs", "start": 18, "end": 21}
    assert seen.one("citation")["citation"] == source
    assert {"type": "reasoning", "status": "Searching the web for smallest frog?"} in seen.events
    assert "measures seven millimetres" in asked(provider)[-1]["content"]
    # What is kept is what was said, without what was found.
    [question, answer] = someone.get(f"/{conversation}").json()["messages"]
    assert (question["content"], answer["citations"]) == ("smallest frog?", [source])
    assert browser.send({**body, "conversation_id": conversation, "web_search": False}).state == "done"
    assert asked(provider)[-1] == {"role": "user", "content": "smallest frog?"}


def test_a_search_that_fails_leaves_the_chat(
    asking: tuple[Browser, Person], provider: ScriptedProvider, web: Web
) -> None:
    browser, _ = asking
    web.answer = (500, b"")
    provider.on("scripted", stream("I do not know."))
    seen = browser.send({**browser.body("smallest frog?"), "web_search": True})
    assert (seen.text, seen.state) == ("I do not know.", "done")
    assert asked(provider)[-1]["content"] == "smallest frog?"
    assert "citation" not in seen.types


def test_a_chat_goes_without_what_cannot_be_looked_up(
    asking: tuple[Browser, Person], provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: int) -> bool:
        raise OperationalError("away")

    monkeypatch.setattr("conversations.memory.store.is_used", away)
    provider.on("scripted", stream("Hello."))
    seen = asking[0].ask("hi")
    assert (seen.text, seen.state) == ("Hello.", "done")


def test_what_is_remembered_comes_only_where_its_user_wants_it(
    asking: tuple[Browser, Person], provider: ScriptedProvider, gateway: LiveGateway
) -> None:
    browser, someone = asking
    provider.on("scripted", stream("Hello."))
    here = "/backend-api/v2/memory/me"
    assert someone.post(here, {"items": [{"role": "user", "content": "Dora keeps frogs."}]}).json() == {"count": 1}
    browser.ask("hi")
    assert asked(provider) == [{"role": "user", "content": "hi"}]
    assert someone.patch(f"{here}/settings", {"used_in_chats": True}).status_code == 200
    body = browser.body("hi")
    instructions = {"role": "system", "content": "Be short."}
    browser.send({**body, "messages": [instructions, *body["messages"]]})
    first, told, last = asked(provider)
    assert (first, last) == (instructions, {"role": "user", "content": "hi"})
    assert told["role"] == "system"
    assert "Dora keeps frogs." in told["content"]
    # It is of no message that is kept, and of nobody else's chat.
    assert not Message.objects.filter(text__contains="frogs").exists()
    other = Browser(gateway.url, Person(gateway, person("erik")).headers["x-api-key"])
    other.ask("hi")
    other.close()
    assert asked(provider) == [{"role": "user", "content": "hi"}]
