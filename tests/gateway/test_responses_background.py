"""Responses in the background: polled, followed from any event, cancelled, and never lost without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from gateway.models import ApiKey, ResponseEvents, StoredResponse, UsageEvent
from gateway.surfaces.responses.background import background
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error, check_event, check_events, check_response, typed_events
from tests.support.provider import ScriptedProvider

ASK: dict[str, Any] = {"model": "scripted", "input": "hi", "background": True}
WORDS = ["one ", "two ", "three"]


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Answers end when it is set."""
    found = threading.Event()
    yield found
    found.set()


@pytest.fixture
def slow(gateway: LiveGateway, provider: ScriptedProvider, go: threading.Event) -> LiveGateway:
    def answer(_: Any) -> answers.Answer:
        first, second = (
            answers.events_of([{"content": WORDS[0]}], finish=None, usage=None, done=False),
            answers.events_of([{"content": word} for word in WORDS[1:]]),
        )
        return answers.sse([*first, answers.Hold(go), *second])

    gateway.add_provider(provider)
    provider.on("scripted", answer)
    return gateway


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ask(gateway: LiveGateway, key: str = "", **more: Any) -> httpx.Response:
    return gateway.http.post("/v1/responses", json={**ASK, **more}, headers=gateway.auth(key or None))


def look(gateway: LiveGateway, path: str, method: str = "GET", **params: Any) -> httpx.Response:
    return gateway.http.request(method, f"/v1/responses/{path}", headers=gateway.auth(), params=params)


def rows() -> list[tuple[str, str, int | None]]:
    writer.flush()
    return list(UsageEvent.objects.order_by("id").values_list("surface", "status", "completion_tokens"))


def test_it_is_made_while_its_caller_asks_now_and_then(slow: LiveGateway, go: threading.Event) -> None:
    client = slow.client()
    made = client.responses.create(**ASK)
    assert (made.status, made.background, made.output) == ("in_progress", True, [])
    assert client.responses.retrieve(made.id).status == "in_progress"
    check_response(look(slow, made.id).json())
    assert [item.type for item in client.responses.input_items.list(made.id)] == ["message"]
    early = ask(slow, previous_response_id=made.id)
    assert (early.status_code, check_error(early.json())["code"]) == (400, "response_not_finished")
    assert rows() == []
    go.set()
    whole = until(lambda: (found := client.responses.retrieve(made.id)).status == "completed" and found)
    assert whole.output_text == "".join(WORDS)
    assert whole.usage.output_tokens
    check_response(look(slow, made.id).json())
    more = typed_events(ask(slow, previous_response_id=made.id, background=False, stream=True).content)
    assert more[-1]["type"] == "response.completed"
    assert [row[:2] for row in rows()] == [("v1.responses", "ok")] * 2
    assert look(slow, made.id, stream="true").status_code == 400, "it was not asked for as a stream"
    assert not ResponseEvents.objects.exists()
    assert not background.busy()


def test_its_stream_is_left_and_followed_from_any_event(slow: LiveGateway, go: threading.Event) -> None:
    client = slow.client()
    seen = []
    with client.responses.create(**ASK, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    made, last = seen[0].response.id, seen[-1].sequence_number
    # What was not kept yet comes all the same, and what comes later too.
    threading.Timer(0.5, go.set).start()
    rest = list(client.responses.retrieve(made, stream=True, starting_after=last))
    numbers = [event.sequence_number for event in (*seen, *rest)]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.completed"
    assert rest[-1].response.output_text == "".join(WORDS)
    again = look(slow, made, stream="true")
    assert again.headers["content-type"].startswith("text/event-stream")
    check_events(typed_events(again.content))
    assert [event["sequence_number"] for event in typed_events(again.content)] == numbers
    for after in range(-1, len(numbers)):
        params = {"starting_after": after} if after >= 0 else {}
        told = typed_events(look(slow, made, stream="true", **params).content)
        assert [event["sequence_number"] for event in told] == numbers[after + 1 :]
    assert check_error(look(slow, made, stream="true", starting_after="x").json())["param"] == "starting_after"
    assert len(rows()) == 1
    assert look(slow, made, "DELETE").status_code == 200
    assert not ResponseEvents.objects.exists()


def test_who_follows_has_a_stream_open_and_loses_it_with_the_key(slow: LiveGateway, alice: User, settings: Any) -> None:
    settings.MAX_STREAMS_PER_KEY = 2
    key = slow.make_key(alice)
    with slow.client(key).responses.create(**ASK, stream=True) as stream:
        made = next(iter(stream)).response.id
    address, headers = f"/v1/responses/{made}?stream=true", slow.auth(key)
    with slow.http.stream("GET", address, headers=headers) as followed:
        parts = followed.iter_bytes()
        next(parts)
        [refused] = typed_events(slow.http.get(address, headers=headers).content)
        assert (refused["type"], refused["code"]) == ("error", "too_many_streams")
        ApiKey.objects.filter(name="test").update(revoked_at=timezone.now())
        slow.reload()
        assert b"completed" not in b"".join(parts)


def test_who_cancels_ends_it_once(slow: LiveGateway, provider: ScriptedProvider, alice: User) -> None:
    client = slow.client()
    made = client.responses.create(**ASK)
    provider.wait_for(1, 10)
    strange = slow.client(slow.make_key(alice))
    with pytest.raises(openai.NotFoundError):
        strange.responses.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        strange.responses.retrieve(made.id)
    assert [client.responses.cancel(made.id).status for _ in range(2)] == ["cancelled", "cancelled"]
    until(lambda: not background.busy())
    assert [row[:2] for row in rows()] == [("v1.responses", "cancelled")]
    assert client.responses.retrieve(made.id).status == "cancelled"
    check_response(look(slow, made.id).json())
    # Of a stream its followers hear, and one that is deleted is not made to its end either.
    with client.responses.create(**ASK, stream=True) as stream:
        events = iter(stream)
        made_streamed = next(events).response.id
        assert client.responses.cancel(made_streamed).status == "cancelled"
        last = list(events)[-1]
        assert (last.type, getattr(last, "code", "")) == ("error", "response_cancelled")
        check_event(last.model_dump(mode="json"))
    gone = client.responses.create(**ASK).id
    client.responses.delete(gone)
    until(lambda: not background.busy())
    assert [row[1] for row in rows()] == ["cancelled"] * 3
    assert StoredResponse.objects.filter(pk=gone).count() == 0


def test_what_cannot_begin_or_fails_says_so(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, settings: Any
) -> None:
    gateway.add_provider(provider)
    for fields in ({"store": False}, {"background": 1}):
        refused = check_error(ask(gateway, **fields).json())
        assert refused["param"] == "background"
    provider.enqueue(answers.error(400, "no such thing"))
    made = ask(gateway).json()
    body = until(lambda: (found := look(gateway, made["id"]).json())["status"] == "failed" and found)
    assert body["error"] == {"code": "invalid_prompt", "message": "no such thing"}
    check_response(body)
    provider.enqueue(answers.error(500))
    events = typed_events(ask(gateway, stream=True).content)
    assert events[-1]["type"] in ("error", "response.failed")
    assert [row[1] for row in rows()] == ["error", "error"]
    limited = gateway.make_key(alice, requests_per_minute=1, max_streams=1)
    provider.enqueue(answers.reply("fine"), answers.reply("fine"))
    assert [ask(gateway, limited).status_code for _ in range(2)] == [200, 429]
    settings.RESPONSES_RETENTION_DAYS = 0
    assert check_error(ask(gateway).json())["param"] == "background"


def test_what_a_dead_process_left_has_failed(slow: LiveGateway) -> None:
    made = ask(slow).json()["id"]
    row = StoredResponse.objects.filter(pk=made)
    # As another process that has died: nobody renews it.
    until(row.exists)
    row.update(worker="dead", lease_until=timezone.now() + timedelta(seconds=60))
    assert look(slow, made).json()["status"] == "in_progress"
    row.update(lease_until=timezone.now() - timedelta(seconds=1))
    body = look(slow, made).json()
    assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
    check_response(body)
    # Whoever thought that it was its own hears of it, and changes nothing.
    until(lambda: not background.busy())
    assert look(slow, made).json() == body
    assert [row[1] for row in rows()] == ["cancelled"]


def test_a_server_that_stops_says_so(slow: LiveGateway, go: threading.Event) -> None:
    made = ask(slow, stream=False).json()["id"]
    slow.__exit__()
    row = StoredResponse.objects.get(pk=made)
    assert row.lease_until is None
    assert '"status":"failed"' in row.response
    assert [row[1] for row in rows()] == ["interrupted"]
