"""Answers that are left and rejoined at any point, through any worker, while processes are stopped and killed.

Each case runs on SQLite with one process, and on PostgreSQL and Redis with two workers.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support import services
from tests.support.answers import Answer, Hold, Pause, Step, chunk, events_of, sse
from tests.support.browser import Browser, Seen, events
from tests.support.gateway import GatewayProcess, scratch_postgres
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.running import begun, until

STREAMS = int(os.environ.get("REJOINED_STREAMS", "100"))
AT_ONCE = 8


@dataclass
class Home:
    """A server and where its rows are."""

    process: GatewayProcess
    workers: int
    database: str = ""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self.database:
            import psycopg

            with psycopg.connect(self.database) as connection:
                return connection.execute(sql.encode()).fetchall()
        with sqlite3.connect(self.process.folder / "db.sqlite3", timeout=10) as rows:
            return rows.execute(sql).fetchall()

    def browser(self) -> Browser:
        return Browser(self.process.url, self.process.key)

    def answers(self) -> list[tuple[str, str]]:
        sql = "SELECT state, text FROM conversations_message WHERE role = 'assistant' ORDER BY created_at"
        return [(str(state), str(text)) for state, text in self.rows(sql)]

    def used(self) -> list[str]:
        sql = "SELECT status FROM gateway_usageevent WHERE surface = 'backend.conversation'"
        return [str(status) for (status,) in self.rows(sql)]

    def maker(self) -> int:
        """The process that makes the one answer that is being made."""
        [(worker,)] = self.rows("SELECT worker FROM conversations_generation WHERE ended_at IS NULL")
        return int(str(worker).split(":")[1])


Start = Callable[..., Home]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.redis])])
def start(
    request: pytest.FixtureRequest, gateway_process: Callable[..., GatewayProcess], provider: ScriptedProvider
) -> Iterator[Start]:
    if request.param == "sqlite":
        yield lambda **environment: Home(begun(gateway_process, provider, **environment), 1)
        return
    with scratch_postgres(services.POSTGRES_URL) as url:
        shared = {"DATABASE_URL": url, "REDIS_URL": services.REDIS_URL, "WORKERS": "2"}
        yield lambda **environment: Home(begun(gateway_process, provider, **shared, **environment), 2, url)


def texts(seed: int) -> list[str]:
    chance = random.Random(seed)
    words = ("otter ", "ß", "日本", "\n", "🙂", "data: x\n\n", "event: end\n", '"', "\\")
    return ["".join(chance.choices(words, k=chance.randint(1, 12))) for _ in range(chance.randint(5, 60))]


def played(request: Recorded) -> Answer:
    """The text whose number was asked for, with pauses."""
    seed = int(request.json["messages"][-1]["content"])
    chance = random.Random(seed + 1)
    steps: list[dict[str, Any] | str | Step] = []
    for event in events_of([{"content": text} for text in texts(seed)]):
        steps.append(event)
        if chance.random() < 0.3:
            steps.append(Pause(chance.random() * 0.06))
    return sse(steps, packet=chance.choice((None, 7, 100)))


@pytest.mark.timeout(2400)
def test_what_is_cut_anywhere_is_joined_without_a_byte_lost(start: Start, provider: ScriptedProvider):
    home = start()
    provider.on("scripted", played)

    def one(seed: int) -> tuple[int, bool]:
        chance = random.Random(seed)
        conversation, cuts = str(uuid.uuid4()), 0
        browser = home.browser()
        seen = browser.ask(str(seed), conversation_id=conversation, most=chance.randint(1, 20))
        for _ in range(100):
            if seen.state:
                break
            browser.close()
            browser, cuts = home.browser(), cuts + 1
            most = len(seen.events) + chance.randint(1, 25)
            if chance.random() < 0.5:
                browser.rejoin(conversation, seen, most=most)
            else:
                browser.rejoin(conversation, seen, most=most, after=seen.numbers[-1])
        browser.close()
        assert seen.numbers == list(range(1, len(seen.events) + 1)), seed
        assert seen.text == "".join(texts(seed)), seed
        assert seen.state == "done"
        return cuts, True

    with ThreadPoolExecutor(AT_ONCE) as threads:
        cuts = [cut for cut, _ in threads.map(one, range(STREAMS))]
    assert sum(cuts) >= STREAMS
    assert sorted(home.answers()) == sorted(("done", "".join(texts(seed))) for seed in range(STREAMS))
    assert until(lambda: len(home.used()) >= STREAMS)
    assert home.used() == ["ok"] * STREAMS
    print(f"{STREAMS} streams, {sum(cuts)} cuts")


def ticking(stop: threading.Event, count: int = 2000) -> Answer:
    """A word each 20 ms."""
    steps: list[dict[str, Any] | str | Step] = [chunk({"role": "assistant", "content": ""})]
    for at in range(count):
        steps += [chunk({"content": f"{at} "}), Pause(0.02)]
    return sse([*steps, Hold(stop)])


def reader(home: Home, conversation: str, seen: Seen, times: list[tuple[float, int]]) -> threading.Thread:
    """Reads until the server goes; `times` says when how much had come."""

    def read() -> None:
        browser = home.browser()
        body = browser.body("go", conversation_id=conversation)
        try:
            with browser.http.stream("POST", "/backend-api/v2/conversation", json=body) as response:
                for number, event in events(response.iter_lines()):
                    if event is None:
                        seen.reconnect = True
                        continue
                    assert number is not None
                    seen.numbers.append(number)
                    seen.events.append(event)
                    times.append((time.monotonic(), len(seen.text)))
        except httpx.TransportError:
            pass
        finally:
            browser.close()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


@pytest.mark.timeout(180)
def test_a_killed_process_loses_a_second_at_most(start: Start, provider: ScriptedProvider):
    home = start()
    provider.on("scripted", ticking(threading.Event()))
    conversation, seen, times = str(uuid.uuid4()), Seen(), []
    thread = reader(home, conversation, seen, times)
    assert until(lambda: len(seen.text) > 300)
    killed, maker = time.monotonic(), home.maker()
    os.kill(maker, signal.SIGKILL)
    thread.join(10)
    if home.workers == 1:
        home.process.wait()
        home.process.start()
    assert until(lambda: home.answers()[0][0] == "interrupted", 40)
    [(_, kept)] = home.answers()
    assert time.monotonic() - killed < 45
    whole = "".join(f"{at} " for at in range(2000))
    assert whole.startswith(kept)
    before = max(count for at, count in times if at < killed - 1)
    assert len(kept) >= before > 0
    assert until(lambda: home.used() == ["interrupted"], 30)
    browser, again = home.browser(), Seen()
    assert browser.rejoin(conversation, again, message_id=seen.ids["message_id"])
    browser.close()
    assert again.events[-1] == {"type": "end", "state": "interrupted"}
    snapshots = [event for event in again.events if event["type"] == "snapshot"]
    assert snapshots[-1]["content"] == kept
    # Nothing is asked again by itself.
    assert len(provider.chats) == 2


@pytest.mark.timeout(120)
def test_a_server_that_stops_loses_nothing(start: Start, provider: ScriptedProvider):
    home = start(STOP_GRACE_SECONDS="1")
    provider.on("scripted", ticking(threading.Event()))
    conversation, seen, times = str(uuid.uuid4()), Seen(), []
    thread = reader(home, conversation, seen, times)
    assert until(lambda: len(seen.text) > 100)
    assert home.process.stop() == 0
    thread.join(10)
    assert not thread.is_alive()
    home.process.start()
    [(state, kept)] = home.answers()
    assert state == "interrupted"
    assert kept.startswith(seen.text)
    assert len(kept) >= len(seen.text) > 0
    assert seen.reconnect or seen.state == "interrupted"
    browser = home.browser()
    if not seen.state:
        browser.rejoin(conversation, seen)
    browser.close()
    last = [event for event in seen.events if event["type"] == "snapshot"]
    assert (last[-1]["content"] if last else seen.text) == kept
    assert until(lambda: home.used() == ["interrupted"])


@pytest.mark.timeout(120)
def test_an_answer_may_end_while_the_server_stops(start: Start, provider: ScriptedProvider):
    home = start(STOP_GRACE_SECONDS="20")
    rest = threading.Event()
    provider.on("scripted", sse([chunk({"content": "one "}), Hold(rest), *events_of([{"content": "two"}])]))
    browser = home.browser()
    browser.ask("go", conversation_id="mine", most=5)
    browser.close()
    process = home.process.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    rest.set()
    assert home.process.wait() == 0
    assert home.answers() == [("done", "one two")]


@pytest.mark.timeout(120)
def test_stop_works_through_any_worker(start: Start, provider: ScriptedProvider):
    home = start()
    provider.on("scripted", ticking(threading.Event()))
    for turn in range(6):
        conversation = str(uuid.uuid4())
        browser = home.browser()
        seen = browser.ask("go", conversation_id=conversation, most=8)
        browser.close()
        # A new connection may come to another worker.
        browser = home.browser()
        assert browser.stop(conversation).json() == {"stopped": [seen.ids["message_id"]]}
        chat = provider.chats[1 + turn]
        started = time.monotonic()
        assert chat.left.wait(5)
        assert time.monotonic() - started < 3
        assert browser.rejoin(conversation, seen)
        assert seen.state == "stopped"
        browser.close()
    assert [state for state, _ in home.answers()] == ["stopped"] * 6
    assert until(lambda: home.used() == ["cancelled"] * 6)


@pytest.mark.timeout(120)
def test_many_see_the_same(start: Start, provider: ScriptedProvider):
    home = start()
    provider.on("scripted", played)
    conversation = str(uuid.uuid4())
    first = home.browser()
    seen = first.ask("5", conversation_id=conversation, most=4)
    first.close()

    def watch(_: int) -> list[dict[str, Any]]:
        browser, mine = home.browser(), Seen()
        browser.rejoin(conversation, mine)
        browser.close()
        return mine.events

    with ThreadPoolExecutor(10) as threads:
        found = list(threads.map(watch, range(10)))
    assert all(events == found[0] for events in found)
    assert found[0][: len(seen.events)] == seen.events
