"""The clock of the machine is set while the server runs: an hour back, a day forward, and right again.

Time that passes is measured by a clock that nobody sets, so no request, limit, pause or row may notice. What is said
of the calendar, such as the end of a key, follows the clock that is right in the end.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support import answers, services
from tests.support.gateway import GatewayProcess
from tests.support.load import Load
from tests.support.provider import Recorded, ScriptedProvider

HOUR = 3600
JUMPS = (-HOUR, 24 * HOUR, 0)
CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
WORDS = [f"word{number} " for number in range(60)]
ROWS = """
import datetime, sys
from django.contrib.auth.models import User
from django.utils import timezone
from gateway.models import ApiKey, Credential, Provider, ProviderModel
for name, base_url, models in (
    ("First", {url!r}, ("scripted", "slow", "silent", "limited")), ("Second", {url!r}, ("limited",))
):
    row = Provider.objects.create(
        name=name, base_url=base_url, adapter="openai_chat", allow_private=True, first_event_timeout=1, timeout=1
    )
    credential = Credential(provider=row)
    credential.set_secret("sk-upstream-" + name)
    credential.save()
    for model in models:
        ProviderModel.objects.create(provider=row, public_id=model)
user = User.objects.get()
for fields in ({{"requests_per_minute": 2}}, {{"expires_at": timezone.now() + datetime.timedelta(hours=2)}}, {{}}):
    print(ApiKey.make(user, "k", **fields)[1])
"""


class Clock:
    """What a process believes the time to be: so many seconds beside the right one (libfaketime)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self.set(0)

    def set(self, seconds: int) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n", encoding="utf-8")
        fresh.replace(self._path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": services.FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            # An operator who sets the clock moves the calendar alone.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


class Aside:
    """Something asked in a thread of its own, while the test goes on."""

    def __init__(self, ask: Callable[[], httpx.Response]) -> None:
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def _run(self, ask: Callable[[], httpx.Response]) -> None:
        began = time.monotonic()
        self._response = ask()
        self._took = time.monotonic() - began

    def result(self) -> tuple[httpx.Response, float]:
        """The answer, and how long it took in seconds."""
        self._thread.join(20)
        return self._response, self._took


@pytest.fixture
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the tests run on PostgreSQL: an empty one there, and Redis. Else SQLite."""
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        return {}
    return {"DATABASE_URL": request.getfixturevalue("postgres_url"), "REDIS_URL": request.getfixturevalue("redis_url")}


@pytest.fixture
def jumping(
    gateway_process: Callable[..., GatewayProcess],
    provider: ScriptedProvider,
    tmp_path: Path,
    database: dict[str, str],
) -> tuple[GatewayProcess, Clock, list[str]]:
    """The server, its clock, and three keys: of two requests a minute, one that ends in two hours, one to revoke."""
    services.require("faketime")
    clock = Clock(tmp_path)
    process = gateway_process(wait=False, **clock.environment, **database)
    made = process.manage("shell", "-c", ROWS.format(url=provider.base_url))
    assert made.returncode == 0, made.stderr
    provider.on("slow", answers.stream(*WORDS, gap=0.1))
    provider.on("silent", answers.silent())
    provider.on(
        "limited",
        lambda request: (
            answers.error(429, headers={"retry-after": "300"}) if asked_first(request) else answers.reply("second")
        ),
    )
    keys = made.stdout.split()[-3:]
    wait_for(lambda: ask(process).status_code == 200, 40)
    return process, clock, keys


def wait_for(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ask(process: GatewayProcess, key: str = "", **more: Any) -> httpx.Response:
    headers = process.auth(key or None)
    return httpx.post(f"{process.base_url}/chat/completions", json={**CHAT, **more}, headers=headers, timeout=20)


def rows(process: GatewayProcess, database: dict[str, str]) -> list[tuple[Any, ...]]:
    query = "SELECT request_id, status, requested_model, duration_ms, first_token_ms FROM gateway_usageevent"
    if database:
        with psycopg.connect(database["DATABASE_URL"]) as connection:
            return connection.execute(query.encode()).fetchall()
    with closing(sqlite3.connect(process.folder / "db.sqlite3", timeout=10)) as connection:
        return connection.execute(query).fetchall()


def believed(response: httpx.Response) -> float:
    """The time of the process, which it writes into the id of each request."""
    return int(response.headers["x-request-id"].removeprefix("req_")[:12], 16) / 1000


def asked_first(chat: Recorded) -> bool:
    return "First" in (chat.header("authorization") or "")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_clock_that_jumps_disturbs_nobody(
    jumping: tuple[GatewayProcess, Clock, list[str]], provider: ScriptedProvider, database: dict[str, str]
) -> None:
    process, clock, (limited, ending, revoked) = jumping
    assert [ask(process, limited).status_code for _ in range(3)] == [200, 200, 429]
    assert "second" in ask(process, model="limited").text
    story = Aside(lambda: ask(process, model="slow", stream=True))
    with Load(process.base_url, process.key, "scripted", rate=30) as load:
        for jump in JUMPS:
            waiting = [
                Aside(lambda stream=stream: ask(process, model="silent", stream=stream))  # type: ignore[misc]
                for stream in (False, True)
            ]
            time.sleep(0.3)
            clock.set(jump)
            # Else the rest would show nothing.
            assert abs(believed(ask(process)) - time.time() - jump) < 30
            told = ask(process, limited)
            assert (told.status_code, 1 <= int(told.headers["retry-after"]) <= 60) == (429, True)
            assert "second" in ask(process, model="limited").text
            assert ask(process, ending).status_code == (401 if jump > 2 * HOUR else 200)
            for answer, took in (one.result() for one in waiting):
                assert answer.status_code == 504
                assert 0.9 < took < 3
    assert load.failures == []
    assert load.answered > 50
    told, _ = story.result()
    assert [word for word in WORDS if word not in told.text] == []
    assert "[DONE]" in told.text
    limiting = [chat for chat in provider.chats if chat.json["model"] == "limited" and asked_first(chat)]
    assert len(limiting) == 1
    process.manage("apikey", "revoke", revoked[:14])
    wait_for(lambda: ask(process, revoked).status_code == 401, 6)
    assert process.stop() == 0
    found = rows(process, database)
    # One request asked both providers.
    assert len({row[0] for row in found}) == len(found) == len(provider.chats) - 1
    assert {(row[1], row[2]) for row in found} == {
        ("ok", "scripted"), ("ok", "slow"), ("ok", "limited"), ("error", "silent")
    }  # fmt: skip
    assert all(0 <= row[3] < 20_000 and 0 <= (row[4] or 0) < 20_000 for row in found)
    assert "Traceback" not in process.output
