"""What is kept of responses: whose it is, how long, how a conversation goes on, and what happens without a database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from gateway.errors import BadRequest
from gateway.models import StoredResponse, UsageEvent
from gateway.surfaces.responses import store
from gateway.surfaces.responses.views import page_of
from gateway.usage import UsageWriter, writer
from tests.support import commands
from tests.support.answers import reply, stream
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error, check_response, typed_events
from tests.support.provider import ScriptedProvider

NOBODYS = f"resp_{'0' * 48}"


@pytest.fixture(autouse=True)
def scripted(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)


def ask(gateway: LiveGateway, key: str = "", **fields: Any) -> httpx.Response:
    body = {"model": "scripted", "input": "hi", **fields}
    return httpx.post(f"{gateway.url}/v1/responses", json=body, headers=gateway.auth(key or None), timeout=20)


def look(gateway: LiveGateway, path: str, key: str = "", method: str = "GET", **params: Any) -> httpx.Response:
    url = f"{gateway.url}/v1/responses/{path}"
    return httpx.request(method, url, headers=gateway.auth(key or None), params=params, timeout=20)


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    error = check_error(response.json())
    assert (response.status_code, error["code"]) == (status, code)
    return error


def test_a_conversation_goes_on_without_the_earlier_instructions(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    previous = ""
    for number, instructions in enumerate(("Be kind.", "Be brief.", None)):
        provider.enqueue(reply(f"answer {number}"))
        fields = {"previous_response_id": previous} if previous else {}
        answer = ask(gateway, input=f"question {number}", instructions=instructions, **fields).json()
        assert answer["previous_response_id"] == (previous or None)
        previous = answer["id"]
    assert provider.chats[1].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "question 0"},
        {"role": "assistant", "content": "answer 0"},
        {"role": "user", "content": "question 1"},
    ]
    assert [message["content"] for message in provider.chats[2].json["messages"]] == [
        "question 0", "answer 0", "question 1", "answer 1", "question 2",
    ]  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
def test_it_is_there_before_the_last_byte(gateway: LiveGateway, streaming: bool) -> None:
    """The last event is only sent once the row is committed, so whoever has it can go on at once."""
    answer = ask(gateway, stream=streaming)
    body = typed_events(answer.content)[-1]["response"] if streaming else answer.json()
    check_response(body)
    assert look(gateway, body["id"]).json() == body
    assert ask(gateway, previous_response_id=body["id"]).status_code == 200


def test_another_tenant_sees_nothing(gateway: LiveGateway, alice: User, bob: User, charlie: User) -> None:
    owner, brother = gateway.make_key(alice), gateway.make_key(alice, "second")
    made = ask(gateway, owner).json()["id"]
    item = look(gateway, f"{made}/input_items", owner).json()["data"][0]["id"]
    for stranger in (gateway.make_key(bob), gateway.make_key(charlie)):
        for method, path in (
            ("GET", made),
            ("GET", f"{made}/input_items"),
            ("POST", f"{made}/cancel"),
            ("DELETE", made),
        ):
            error = refused(look(gateway, path, stranger, method), 404, "response_not_found")
            absent = check_error(look(gateway, path.replace(made, NOBODYS), stranger, method).json())
            assert error == {**absent, "message": absent["message"].replace(NOBODYS, made)}
        refused(ask(gateway, stranger, previous_response_id=made), 400, "previous_response_not_found")
        reference = [{"type": "item_reference", "id": item}]
        refused(ask(gateway, stranger, input=reference), 400, "item_not_found")
    assert look(gateway, made, brother).status_code == 200, "all keys of a user see what is that user's"
    assert look(gateway, made, owner).status_code == 200


def test_a_strangers_turn_is_no_part_of_a_conversation(gateway: LiveGateway, alice: User, bob: User) -> None:
    """Even a row that names another user's response as its past does not lead there."""
    secret = ask(gateway, gateway.make_key(bob), input="secret").json()["id"]
    key = gateway.make_key(alice)
    mine = ask(gateway, key).json()["id"]
    StoredResponse.objects.filter(pk=mine).update(previous_id=secret)
    assert "secret" not in look(gateway, f"{mine}/input_items", key).text
    refused(ask(gateway, key, previous_response_id=mine), 400, "previous_response_not_found")


@pytest.mark.parametrize("id", ["", "resp_1", "x" * 5000, "resp_\0", f"{NOBODYS}'--", "../chat", NOBODYS])
def test_whatever_is_named_as_previous_is_found_or_refused(gateway: LiveGateway, id: str) -> None:
    found = ask(gateway, previous_response_id=id)
    if id:
        refused(found, 400, "previous_response_not_found")
        refused(ask(gateway, input=[{"type": "item_reference", "id": id}]), 400, "item_not_found")
    else:
        assert found.status_code == 200


def test_a_deleted_turn_ends_what_followed_it(gateway: LiveGateway) -> None:
    first = ask(gateway).json()["id"]
    second = ask(gateway, previous_response_id=first).json()["id"]
    deleted = look(gateway, first, method="DELETE")
    assert deleted.json() == {"id": first, "object": "response", "deleted": True}
    error = refused(ask(gateway, previous_response_id=second), 400, "previous_response_not_found")
    assert first in error["message"]
    refused(look(gateway, first, method="DELETE"), 404, "response_not_found")


def test_an_item_reference_stands_for_what_was_said(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(reply("the answer"))
    made = ask(gateway, input="the question").json()
    asked = look(gateway, f"{made['id']}/input_items").json()["data"][0]
    items = [
        {"type": "item_reference", "id": asked["id"]},
        {"id": made["output"][0]["id"]},
        {"role": "user", "content": "?"},
    ]
    again = ask(gateway, input=items).json()
    assert [message["content"] for message in provider.chats[1].json["messages"]] == ["the question", "the answer", "?"]
    kept = look(gateway, f"{again['id']}/input_items", order="asc").json()["data"]
    assert [item["type"] for item in kept] == ["message"] * 3


def test_items_are_listed_page_by_page(gateway: LiveGateway) -> None:
    items = [{"role": "user", "content": str(number)} for number in range(25)]
    made = ask(gateway, input=items).json()["id"]

    def page(**params: Any) -> tuple[list[str], bool, str]:
        found = look(gateway, f"{made}/input_items", **params).json()
        assert (found["first_id"], found["last_id"]) == (found["data"][0]["id"], found["data"][-1]["id"])
        return [item["content"][0]["text"] for item in found["data"]], found["has_more"], found["last_id"]

    first, more, last = page()
    assert (first, more) == ([str(number) for number in range(24, 4, -1)], True)
    rest, more, _ = page(after=last)
    assert (rest, more) == (["4", "3", "2", "1", "0"], False)
    assert page(order="asc", limit=2)[0] == ["0", "1"]
    for params in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "up"}, {"after": "msg_none"}):
        name = next(iter(params))
        assert refused(look(gateway, f"{made}/input_items", **params), 400, "invalid_value")["param"] == name


def test_a_response_is_not_told_again_as_a_stream(gateway: LiveGateway) -> None:
    made = ask(gateway).json()["id"]
    assert refused(look(gateway, made, stream="true"), 400, "unsupported_parameter")["param"] == "stream"


def test_who_says_so_leaves_nothing(gateway: LiveGateway) -> None:
    made = ask(gateway, store=False).json()
    assert made["store"] is False
    refused(look(gateway, made["id"]), 404, "response_not_found")
    assert not StoredResponse.objects.exists()


def test_a_server_that_keeps_nothing_says_so(gateway: LiveGateway, settings: Settings) -> None:
    settings.RESPONSES_RETENTION_DAYS = 0
    assert ask(gateway, store=True).json()["store"] is False
    assert not StoredResponse.objects.exists()


def test_callers_without_a_user_leave_nothing(gateway: LiveGateway, alice: User, settings: Settings) -> None:
    settings.ANONYMOUS_ACCESS = True
    gateway.reload()
    made = httpx.post(f"{gateway.url}/v1/responses", json={"model": "scripted", "input": "hi"}).json()
    assert made["store"] is False
    assert not StoredResponse.objects.exists()
    refused(httpx.get(f"{gateway.url}/v1/responses/{made['id']}"), 404, "response_not_found")


def test_a_failed_answer_is_not_kept(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(stream("Hel", done=False, finish=None, usage=None))
    assert typed_events(ask(gateway, stream=True).content)[-1]["type"] == "response.failed"
    assert not StoredResponse.objects.exists()


def test_odd_characters_are_kept(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    odd = "a\0b \U0001f9a6 \ufffe"
    provider.enqueue(reply(odd))
    made = ask(gateway, input=odd).json()
    assert look(gateway, made["id"]).json()["output_text"] == odd
    assert look(gateway, f"{made['id']}/input_items").json()["data"][0]["content"][0]["text"] == odd


def test_a_long_conversation_is_one_query(gateway: LiveGateway, alice: User) -> None:
    previous = ""
    for number in range(50):
        named = f"resp_{number:048x}"
        items = [{"id": f"msg_{number}", "type": "message"}]
        store.save(named, alice.pk, previous, 1700000000, items, {"output": []})
        previous = named
    with CaptureQueriesContext(connection) as queries:
        turns = store.conversation(previous, alice.pk)
    assert len(queries) == 1
    assert [turn.input[0]["id"] for turn in turns] == [f"msg_{number}" for number in range(50)]


def kept(user: User, number: int, previous: str = "", said: str = "", answered: str = "") -> str:
    """A stored turn of one item that was said and one that was answered."""
    token = f"{number:048x}"
    words = [{"id": f"msg_{token}_i0", "type": "message", "role": "user", "content": [text(said)]}]
    output = [{"id": f"msg_{token}_0", "type": "message", "role": "assistant", "content": [text(answered)]}]
    store.save(f"resp_{token}", user.pk, previous, 1700000000, words, {"output": output})
    return f"resp_{token}"


def text(words: str) -> dict[str, Any]:
    return {"type": "input_text", "text": words}


def test_a_conversation_that_is_too_large_is_not_read(gateway: LiveGateway, alice: User, settings: Settings) -> None:
    settings.MAX_BODY_BYTES = 3000
    key = gateway.make_key(alice)
    small = kept(alice, 1, said="x" * 5000)
    large = kept(alice, 2, small, answered="x" * 5000)
    larger = kept(alice, 3, large)
    assert ask(gateway, key, previous_response_id=small).status_code == 200
    for named in (large, larger):
        error = refused(ask(gateway, key, previous_response_id=named), 413, "request_too_large")
        assert error["param"] == "previous_response_id"
    with CaptureQueriesContext(connection) as queries, pytest.raises(BadRequest):
        store.conversation(larger, alice.pk)
    assert len(queries) == 1


def test_a_small_request_does_not_grow_by_what_it_refers_to(
    gateway: LiveGateway, alice: User, settings: Settings
) -> None:
    settings.MAX_BODY_BYTES = 3000
    key, token = gateway.make_key(alice), f"{1:048x}"
    kept(alice, 1, said="x" * 900)

    def refer(*names: str) -> httpx.Response:
        return ask(gateway, key, input=[{"type": "item_reference", "id": name} for name in names])

    assert refer(*[f"msg_{token}_i0"] * 2).status_code == 200
    error = refused(refer(*[f"msg_{token}_i0"] * 3), 413, "request_too_large")
    assert error["param"] == "input"


def test_small_items_of_large_responses_are_bounded_by_what_holds_them(
    gateway: LiveGateway, alice: User, settings: Settings
) -> None:
    settings.MAX_BODY_BYTES = 3000
    key = gateway.make_key(alice)
    for number in range(3):
        kept(alice, number, said="x" * 2500, answered="a")
    answers, said = ([f"msg_{number:048x}_{kind}0" for number in range(3)] for kind in ("", "i"))
    assert set(store.items_named(answers, alice.pk)) == set(answers), "what was said beside them is not read"
    error = refused(
        ask(gateway, key, input=[{"id": name.replace("i0", "i7")} for name in said]), 413, "request_too_large"
    )
    assert error["param"] == "input"


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_page_of_items_reads_no_more_turns_than_it_needs(alice: User, settings: Settings, newest_first: bool) -> None:
    previous = ""
    for number in range(30):
        previous = kept(alice, number, previous, said="x" * 100)
    turns = store.turns_to(previous, alice.pk)
    assert (len(turns), turns[0]) == (30, previous)
    found, after, more = [], None, True
    while more:
        with CaptureQueriesContext(connection) as queries:
            page, more = page_of(turns, 4, newest_first=newest_first, after=after)
        assert len(queries) <= 4
        after = page[-1]["id"]
        found += [item["id"] for item in page]
    said = [f"msg_{number:048x}_{kind}0" for number in range(30) for kind in ("i", "")][:-1]
    assert found == (said[::-1] if newest_first else said)
    settings.MAX_BODY_BYTES = 100
    page, more = page_of(turns, 4, newest_first=newest_first)
    assert (len(page) < 4, more) == (True, True)


@contextmanager
def without_table() -> Iterator[None]:
    """The database answers, and cannot do what is asked; for the callers that is the same as none."""
    table = StoredResponse._meta.db_table

    def rename(*names: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE {} RENAME TO {}".format(*names))

    rename(table, "elsewhere")
    try:
        yield
    finally:
        rename("elsewhere", table)


def booked() -> UsageEvent:
    writer.flush()
    return UsageEvent.objects.get()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_response_that_cannot_be_kept_says_so_and_is_booked(gateway: LiveGateway, streaming: bool) -> None:
    assert gateway.key
    with without_table():
        answer = ask(gateway, stream=streaming)
    if streaming:
        events = typed_events(answer.content)
        assert (events[-1]["type"], events[-1]["code"]) == ("error", "storage_unavailable")
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert "response.completed" not in [event["type"] for event in events]
    else:
        refused(answer, 503, "storage_unavailable")
        assert answer.headers["retry-after"]
    row = booked()
    assert (row.status, row.error_code) == ("error", "storage_unavailable")
    assert row.completion_tokens


def test_without_the_database_only_what_needs_it_fails(gateway: LiveGateway) -> None:
    made = ask(gateway).json()["id"]
    with without_table():
        refused(ask(gateway, previous_response_id=made), 503, "storage_unavailable")
        for method, path in (("GET", made), ("GET", f"{made}/input_items"), ("DELETE", made)):
            refused(look(gateway, path, method=method), 503, "storage_unavailable")
        assert ask(gateway, store=False).status_code == 200
    assert ask(gateway, previous_response_id=made).status_code == 200


def test_a_slow_database_holds_up_nobody_else(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    saving, go_on = threading.Event(), threading.Event()
    real = store.save

    def slow(*given: Any) -> None:
        saving.set()
        assert go_on.wait(10)
        real(*given)

    monkeypatch.setattr(store, "save", slow)
    found: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: found.append(ask(gateway)))
    waiting.start()
    try:
        assert saving.wait(5)
        body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
        chat = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=gateway.auth(), timeout=5)
        assert chat.status_code == 200
        assert not found, "nobody hears of an answer before it is kept"
    finally:
        go_on.set()
        waiting.join(10)
    assert found[0].status_code == 200


def made_old(gateway: LiveGateway, days: float) -> str:
    made: str = ask(gateway).json()["id"]
    StoredResponse.objects.filter(pk=made).update(created_at=timezone.now() - timedelta(days=days))
    return made


def test_what_is_too_old_is_purged(gateway: LiveGateway, settings: Settings) -> None:
    settings.RESPONSES_RETENTION_DAYS = 7
    old, young = made_old(gateway, 7.1), made_old(gateway, 6.9)
    assert (
        commands.run("purge").out == "1 stored response deleted.\n0 idempotent answers deleted.\n"
        "0 sessions deleted.\n0 conversations deleted.\n0 expired shares deleted.\n"
    )
    assert [row.pk for row in StoredResponse.objects.all()] == [young] != [old]
    settings.RESPONSES_RETENTION_DAYS = 0
    assert json.loads(commands.run("purge", "--json").out) == {
        "responses": 1,
        "idempotent_answers": 0,
        "sessions": 0,
        "conversations": 0,
        "expired_shares": 0,
        "leftovers": 0,
    }


def test_the_server_purges_by_itself(gateway: LiveGateway) -> None:
    made_old(gateway, 31)
    carrier = UsageWriter()
    purged = threading.Event()
    carrier.purge = purged.set
    carrier.start()
    try:
        assert purged.wait(5)
    finally:
        carrier.stop()
    assert writer.purge is not None
    writer.purge()
    assert not StoredResponse.objects.exists()


def test_a_user_who_is_deleted_leaves_nothing(gateway: LiveGateway, alice: User) -> None:
    ask(gateway, gateway.make_key(alice))
    assert StoredResponse.objects.count() == 1
    alice.delete()
    assert not StoredResponse.objects.exists()


def test_other_methods_are_405(gateway: LiveGateway) -> None:
    for method, path in (
        ("GET", ""),
        ("PUT", NOBODYS),
        ("POST", f"{NOBODYS}/input_items"),
        ("GET", f"{NOBODYS}/cancel"),
    ):
        answer = look(gateway, path, method=method)
        refused(answer, 405, "method_not_supported")
        assert answer.headers["allow"]
