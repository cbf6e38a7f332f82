"""One row per request that reached the choice of a provider, whatever became of it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.db.backends.sqlite3.base import DatabaseOperations
from django.utils import timezone

from g4fsite import server
from gateway.events import Usage
from gateway.models import ApiKey, Price, ProviderModel, UsageEvent
from gateway.targets import PricePolicy
from gateway.usage import UsageWriter, _naive_text, cost_of, insert, writer
from tests.support import answers
from tests.support.gateway import GatewayProcess, LiveGateway
from tests.support.provider import ScriptedProvider

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}


def unfinished(then: answers.Step) -> answers.Answer:
    """Four words, and then no end."""
    deltas = [{"content": word} for word in ("one ", "two ", "three ", "four")]
    return answers.sse([*answers.events_of(deltas, finish=None, usage=None, done=False), then])


def ask(gateway: LiveGateway, body: dict[str, Any] = CHAT, **headers: str) -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json=body, headers={**gateway.auth(), **headers})


def the_row(status: str = "") -> UsageEvent:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        writer.flush()
        rows = list(UsageEvent.objects.all())
        if rows:
            assert len(rows) == 1
            assert not status or rows[0].status == status
            return rows[0]
        time.sleep(0.02)
    raise AssertionError("no usage row was written")


def test_a_plain_answer(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, name="Acme")
    response = ask(gateway)
    row = the_row("ok")
    assert row.request_id == response.headers["x-request-id"]
    assert (row.provider_name, row.model, row.requested_model) == ("Acme", "scripted", "scripted")
    assert (row.surface, row.stream, row.http_status) == ("v1.chat", False, 200)
    assert row.prompt_tokens == response.json()["usage"]["prompt_tokens"]
    assert row.api_key == ApiKey.objects.get()
    assert row.user == row.api_key.user
    assert row.cost is None
    assert row.attempts[0]["provider"] == "Acme"
    assert "status" not in row.attempts[0]


def test_a_stream(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    ask(gateway, STREAM)
    row = the_row("ok")
    assert row.stream
    assert not row.estimated
    assert row.completion_tokens
    assert row.first_token_ms is not None
    assert row.first_token_ms <= row.duration_ms


def test_a_fallback_is_one_row_with_its_attempts(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.error(500))
    gateway.add_provider(provider, name="Bad")
    gateway.add_provider(provider, name="Good")
    assert ask(gateway).json()["provider"] == "Good"
    row = the_row("ok")
    assert row.provider_name == "Good"
    assert [(item["provider"], item.get("status")) for item in row.attempts] == [("Bad", 502), ("Good", None)]


def test_when_all_fail(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.error(500), answers.error(429))
    gateway.add_provider(provider, name="First")
    gateway.add_provider(provider, name="Second")
    assert ask(gateway).status_code == 502
    row = the_row("error")
    assert (row.http_status, row.error_code, len(row.attempts)) == (502, "provider_not_working", 2)


def test_a_stream_that_broke_books_what_came(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(unfinished(answers.Reset()))
    gateway.add_provider(provider)
    ask(gateway, STREAM)
    row = the_row("error")
    assert row.estimated
    assert row.completion_tokens


def test_a_client_that_leaves_is_booked(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(unfinished(answers.Stall()))
    gateway.add_provider(provider)
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=STREAM, headers=gateway.auth()) as response:
        next(response.iter_bytes())
    row = the_row("cancelled")
    assert row.http_status == 499
    assert row.completion_tokens


def test_refused_requests_leave_no_row(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    assert ask(gateway, {**CHAT, "model": "nope"}).status_code == 404
    assert ask(gateway, {"model": "scripted"}).status_code == 400
    writer.flush()
    assert not UsageEvent.objects.exists()


def test_a_row_outlives_its_user(gateway: LiveGateway, provider: ScriptedProvider, alice: User) -> None:
    gateway.add_provider(provider)
    key = gateway.make_key(alice)
    response = gateway.http.post("/v1/chat/completions", json=CHAT, headers=gateway.auth(key))
    assert response.status_code == 200
    alice.delete()
    row = the_row("ok")
    row.refresh_from_db()
    assert row.prompt_tokens


def test_a_known_price_gives_a_cost(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    start = timezone.now() - dt.timedelta(days=1)
    model = ProviderModel.objects.get()
    old = Price.objects.create(model=model, input=10**15, output=10**15, valid_from=start, valid_to=start)
    price = Price.objects.create(model=model, input=2_000_000_000, output=8_000_000_000, valid_from=start)
    gateway.reload()
    ask(gateway)
    row = the_row("ok")
    assert old.pk != price.pk == row.price_id
    assert row.cost == row.prompt_tokens * 2000 + row.completion_tokens * 8000


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0), 100),
        (Usage(1_000_000, 0, cached_tokens=400_000), 64),
        (Usage(0, 1_000_000, reasoning_tokens=500_000), 450),
        (Usage(1_000_000, 0, cached_tokens=9_000_000), 10),
    ],
)
def test_what_tokens_cost(usage: Usage, cost: int) -> None:
    price = PricePolicy(7, 100, 10, 400, 500, 0, None)
    assert cost_of([price], usage, 1.0) == (7, cost)


def test_without_special_prices_the_plain_ones_count() -> None:
    price = PricePolicy(7, 100, None, 400, None, 0, 10)
    assert cost_of([price], Usage(1_000_000, 1_000_000, 500_000, 500_000), 1.0) == (7, 500)
    assert cost_of([price], Usage(1, 1), 11.0) == (None, None)


GUESSED: dict[str, Any] = {"prompt_tokens": 3, "completion_tokens": 0, "estimated": True}


@pytest.mark.parametrize(
    ("prices", "usage", "cost"),
    [
        ({}, Usage(**GUESSED, characters=12), None),
        ({"character": 10**6}, Usage(**GUESSED, characters=12), 12),
        ({}, Usage(**GUESSED, audio_seconds=2.5), None),
        ({}, Usage(**GUESSED, unmeasured=True), None),
        ({"audio_second": 10**6}, Usage(**GUESSED, audio_seconds=2.5), 2),
        ({"audio_second": 10**6}, Usage(**GUESSED, unmeasured=True), None),
        ({"audio_second": 10**6}, Usage(5, 5, unmeasured=True), None),
        ({"audio_second": 0}, Usage(**GUESSED, unmeasured=True), 0),
        # Somebody counted the tokens, and they are what is paid.
        ({"input": 10**6}, Usage(7, 5, audio_seconds=2.5), 7),
        ({"input": 10**6}, Usage(7, 5, unmeasured=True), 7),
        ({"input": 10**6}, Usage(7, 5, characters=12), 7),
        ({"image": 10**6}, Usage(**GUESSED, images=2), 2),
        ({}, Usage(**GUESSED, images=2), None),
    ],
)
def test_sound_that_nobody_can_price_is_not_free(prices: Any, usage: Usage, cost: int | None) -> None:
    units: dict[str, Any] = {"input": 0, **prices}
    price = PricePolicy(7, cached_input=None, output=0, reasoning=None, valid_from=0, valid_to=None, **units)
    assert cost_of([price], usage, 1.0) == (7, cost)


def test_keys_know_when_they_were_used(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    writer._last_used_at = -1e9
    ask(gateway)
    the_row()
    deadline = time.monotonic() + 5
    while ApiKey.objects.get().last_used_at is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ApiKey.objects.get().last_used_at is not None


def test_rows_wait_while_the_database_is_away(
    gateway: LiveGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.add_provider(provider)
    away = threading.Event()
    away.set()
    commit = UsageWriter._commit

    def flaky(self: UsageWriter, records: list[Any]) -> None:
        if records and away.is_set():
            raise DatabaseError("away")
        commit(self, records)

    monkeypatch.setattr(UsageWriter, "_commit", flaky)
    for _ in range(3):
        assert ask(gateway).status_code == 200
    time.sleep(0.7)
    assert not UsageEvent.objects.exists()
    assert caplog.text.count("the database cannot be written") == 1
    away.clear()
    writer.flush()
    time.sleep(0.6)
    assert UsageEvent.objects.count() == 3


@pytest.mark.parametrize(
    "field", ["prompt_tokens", "prompt_tokens_details.cached_tokens", "completion_tokens_details.reasoning_tokens"]
)
def test_nonsense_in_usage_holds_no_row_back(gateway: LiveGateway, provider: ScriptedProvider, field: str) -> None:
    usage: dict[str, Any] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    outer, _, inner = field.partition(".")
    usage[outer] = {inner: 2**63} if inner else 2**63
    provider.enqueue(answers.reply(usage=usage))
    gateway.add_provider(provider)
    assert ask(gateway).status_code == 200
    the_row("ok")


def test_a_row_that_cannot_be_written_is_left_out_alone(
    gateway: LiveGateway, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.add_provider(provider)
    assert ask(gateway).status_code == 200
    good = {"created_at": time.time(), "api_key_id": None, "status": "ok", "surface": "x", "model": "m"}
    for name, tokens in (("req_bad", 2**63), ("req_good", 5)):
        record = {**good, "request_id": name, "prompt_tokens": tokens}
        writer.spool.begin(record)
        writer.spool.end(record)
    writer.flush()
    writer.flush()
    deadline = time.monotonic() + 5
    while UsageEvent.objects.count() < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert UsageEvent.objects.filter(request_id="req_good").exists()
    assert UsageEvent.objects.count() == 2
    assert "req_bad cannot be written" in caplog.text


def test_rows_of_other_versions_fit_the_table(gateway: LiveGateway) -> None:
    least = {"created_at": time.time(), "status": "ok", "surface": "x", "model": "m"}
    newer = {**least, "provider_name": "P", "estimated": True, "prompt_tokens": 5, "unheard_of": 1}
    insert([{**least, "request_id": "req_older"}, {**newer, "request_id": "req_newer"}])
    older, newest = (UsageEvent.objects.get(request_id=name) for name in ("req_older", "req_newer"))
    assert (older.provider_name, older.stream, older.attempts, older.prompt_tokens) == ("", False, [], None)
    assert (newest.provider_name, newest.estimated, newest.prompt_tokens) == ("P", True, 5)


def test_rows_that_know_different_things_are_written_together(gateway: LiveGateway) -> None:
    columns = {str(field.column): field.get_default() for field in UsageEvent._meta.concrete_fields}
    del columns["id"], columns["cached_tokens"]
    plain = {**columns, "created_at": time.time(), "status": "ok", "stream": True}
    known: tuple[dict[str, Any], ...] = ({}, {"cached_tokens": 3}, {}, {"cached_tokens": 4, "cost": 7})
    insert([{**plain, "request_id": f"req_{number}", **more} for number, more in enumerate(known)])
    rows = UsageEvent.objects.order_by("request_id").values_list("cached_tokens", "cost", "stream")
    assert list(rows) == [(None, None, True), (3, None, True), (None, None, True), (4, 7, True)]


TIMES = [0.0, 1763760000.0, 1763760000.5, 1763759999.9999998, 1763760000.1234567, 1763764199.000001]


@pytest.mark.parametrize("at", TIMES)
def test_a_time_is_stored_as_django_stores_it_in_sqlite(at: float) -> None:
    stored = DatabaseOperations(connection).adapt_datetimefield_value(dt.datetime.fromtimestamp(at, dt.UTC))
    assert _naive_text(at) == stored


def rows_in(database: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(database) as connection:
        query = "SELECT request_id, status FROM gateway_usageevent"
        return connection.execute(query).fetchall()


def test_kill_under_load_loses_and_doubles_nothing(
    gateway_process: Callable[..., GatewayProcess], provider: ScriptedProvider
) -> None:
    """SIGKILL while requests are under way, restart: every request that reached the provider has one row."""
    process = gateway_process()
    process.manage(
        "provider", "add", "Scripted", "--adapter", "openai_chat", "--base-url", provider.base_url,
        "--model", "scripted", "--model", "held",
    )  # fmt: skip
    time.sleep(2)
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=process.url, timeout=5, headers=process.auth()) as client:
            while not stop.is_set():
                try:
                    client.post("/v1/chat/completions", json=CHAT)
                except httpx.TransportError:
                    return

    provider.on("held", unfinished(answers.Stall()))
    workers = [threading.Thread(target=load) for _ in range(6)]
    for worker in workers:
        worker.start()
    time.sleep(2)
    holder = httpx.Client(base_url=process.url, headers=process.auth(), timeout=5)
    body = {**STREAM, "model": "held"}
    open_streams = [holder.stream("POST", "/v1/chat/completions", json=body) for _ in range(3)]
    # An iterator that is dropped closes its connection.
    reading = [stream.__enter__().iter_bytes() for stream in open_streams]
    assert all(next(pieces) for pieces in reading)
    assert process.process
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait()
    stop.set()
    for worker in workers:
        worker.join()
    for stream in open_streams:
        with contextlib.suppress(httpx.TransportError):
            stream.__exit__(None, None, None)
    holder.close()
    process.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = rows_in(process.folder / "db.sqlite3")
        if len(rows) >= len(provider.chats):
            break
        time.sleep(0.2)
    reached = len(provider.chats)
    assert reached > 50
    # Begun before the provider was asked: at most the six that were just about to ask are more.
    assert reached <= len(rows) <= reached + 6
    assert len({request_id for request_id, _ in rows}) == len(rows)
    states = [status for _, status in rows]
    assert 3 <= states.count("interrupted") <= 9 + 6
    assert set(states) <= {"ok", "interrupted"}
    assert process.stop() == 0


def test_a_reader_that_takes_nothing_is_cut_and_booked(
    gateway: LiveGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READER_SECONDS", 0.3)
    deltas = [{"content": "x" * 100_000}] * 200
    provider.enqueue(answers.sse(answers.events_of(deltas)))
    gateway.add_provider(provider)
    body = json.dumps(STREAM).encode()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        reader.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {gateway.key}\r\n"
        reader.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert the_row("cancelled").http_status == 499
    assert provider.wait_for(1).left.wait(2)


def test_a_reader_that_takes_a_little_is_not_cut(
    gateway: LiveGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READER_SECONDS", 0.3)
    provider.enqueue(answers.sse(answers.events_of([{"content": "x" * 100_000}] * 60)))
    gateway.add_provider(provider)
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=STREAM, headers=gateway.auth()) as response:
        taken = 0
        for piece in response.iter_bytes(100_000):
            taken += len(piece)
            time.sleep(0.03)
    assert taken > 6_000_000
    assert the_row("ok").http_status == 200
