"""The running command under slow readers, many requests, a locked or lost database and a full disk."""

from __future__ import annotations

import json
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.support import answers
from tests.support.gateway import GatewayProcess, raw_request
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.running import CHAT, PLANTED, Start, ask, begun, files, memory, rows, until
from tests.support.services import ROOT


def all_sent(provider: ScriptedProvider) -> int:
    return sum(request.bytes_sent for request in provider.requests)


def sending(provider: ScriptedProvider) -> bool:
    """More than slow readers make room for."""
    before = all_sent(provider)
    time.sleep(0.5)
    return all_sent(provider) - before > 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_hundred_slow_readers_cost_little_and_hold_nobody_up(
    gateway_process: Start, provider: ScriptedProvider
) -> None:
    def endless(_: Recorded) -> answers.Answer:
        piece = answers.chunk({"content": "y" * 8000})
        return answers.sse(piece for _ in range(100_000))

    provider.on("endless", endless)
    process = begun(gateway_process, provider, "endless")
    for _ in range(20):
        assert ask(process, stream=True).status_code == 200
    before = memory(process)
    stop = threading.Event()

    def read_slowly(readers: list[socket.socket]) -> None:
        while not stop.wait(0.5):
            for reader in readers:
                reader.recv(512)

    with ExitStack() as stack:
        body = {**CHAT, "model": "endless", "stream": True}
        readers = [stack.enter_context(raw_request(process.url, process.key, body, 4096)) for _ in range(100)]
        reading = threading.Thread(target=read_slowly, args=(readers,))
        reading.start()
        assert until(lambda: all_sent(provider) > 0 and not sending(provider), 40)
        slowest = 0.0
        for _ in range(50):
            started = time.perf_counter()
            assert ask(process, stream=True).status_code == 200
            slowest = max(slowest, time.perf_counter() - started)
        grown = memory(process) - before
        stop.set()
        reading.join()
    assert grown < 50
    # Nobody waits for a slow reader; how long a busy machine takes is another matter.
    assert slowest < 2
    assert until(lambda: all(request.left.is_set() for request in provider.chats if request.json["model"] == "endless"))


@pytest.mark.slow
def test_what_waits_for_one_caller_is_bounded(gateway_process: Start, provider: ScriptedProvider) -> None:
    """One who reads nothing costs 256 KB at most, one whose event never ends 4 MiB and what it takes to look at it."""
    first, last = answers.tool_deltas("f", ["x" * 5_000_000])
    provider.on("arguments", answers.sse(answers.events_of([first, last])))
    provider.on("endless", lambda _: answers.sse(answers.chunk({"content": "y" * 500}) for _ in range(2_000_000)))
    process = begun(gateway_process, provider, "arguments", "endless")
    for _ in range(20):
        ask(process, stream=True)
    before = memory(process)
    body = {**CHAT, "model": "endless", "stream": True}
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(raw_request(process.url, process.key, body, 4096))
        time.sleep(3)
        assert memory(process) - before < 40 * 0.256 + 8
    peak = memory(process, "VmHWM")
    assert "too large" in ask(process, model="arguments", stream=True).text
    assert memory(process, "VmHWM") - peak < 16


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_many_requests_leave_it_as_it_was(gateway_process: Start, provider: ScriptedProvider) -> None:
    """100,000 are in the benchmarks."""
    process = begun(gateway_process, provider)
    echoes = provider.requests

    def some(count: int) -> None:
        for number in range(count):
            assert ask(process, stream=bool(number % 2)).status_code == 200
            echoes.clear()

    some(500)
    before, open_before = memory(process), files(process)
    some(2000)
    assert memory(process) < before * 1.1
    # A thread may have opened the database meanwhile, and a second connection to the provider may wait.
    assert files(process) <= open_before + 6
    assert until(lambda: len(rows(process)) >= 2501)


def test_the_log_at_its_loudest_is_lines_of_json_without_secrets(
    gateway_process: Start, provider: ScriptedProvider
) -> None:
    provider.on("leaky", answers.error(500, f"bad key {PLANTED} \n\x1b[31m"))
    process = begun(gateway_process, provider, "leaky", LOG_LEVEL="DEBUG", LOG_FORMAT="json")
    odd = [
        (b"authorization", process.auth()["authorization"].encode()),
        (b"user-agent", "a\u202e\u2028[31m".encode()),
    ]
    for body in ({}, {"stream": True}, {"model": "leaky"}, {"model": "no\nsuch\u202e"}, {"user": "\u202e\x1b[2J"}):
        process.http.post("/v1/chat/completions", json={**CHAT, **body}, headers=odd)
    process.http.get("/v1/models/%0a%1b[31mERROR%e2%80%ae", headers=odd)
    process.http.get("/v1/models", headers={"authorization": "Bearer sk-wrong-but-secret-123"})
    process.http.get("/v1/models", headers={"cookie": "sessionid=planted-session-1234"})
    # The client keeps the cookie of the page.
    page = process.http.get("/accounts/login/")
    token = page.cookies["csrftoken"]
    form = {"login": "charlie\n", "password": "planted-password-1", "csrfmiddlewaretoken": token}
    process.http.post("/accounts/login/", data=form)
    assert process.stop() == 0
    lines = process.output.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(event["logger"].startswith("gateway") for event in events)
    # What is no JSON is the greeting of the command, which comes before the first event.
    assert not [
        line for line in lines[next(i for i, line in enumerate(lines) if line.startswith("{")) :] if line[:1] != "{"
    ]
    text = process.output
    secrets = [(process.folder / "secrets" / name) for name in ("secret_key", "key_pepper", "encryption_keys")]
    marks = [path.read_text(encoding="utf-8").strip() for path in secrets if path.exists()]
    marks += [process.key, PLANTED, "sk-wrong-but-secret-123", "planted-session-1234"]
    for mark in [*marks, "planted-password-1", token, "\x1b", "\u202e"]:
        assert mark not in text


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else may write, as while a backup or a long transaction has it."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_chat_goes_on_while_sqlite_is_locked(gateway_process: Start, provider: ScriptedProvider) -> None:
    process = begun(gateway_process, provider)
    with locked(process.folder / "db.sqlite3"):
        held = time.monotonic()
        asked = 0
        while time.monotonic() - held < 10:
            started = time.monotonic()
            response = ask(process, stream=bool(asked % 2))
            assert response.status_code == 200
            assert time.monotonic() - started < 2
            assert process.http.get("/v1/models", headers=process.auth()).status_code == 200
            asked += 1
            time.sleep(0.1)
        page = process.http.get("/accounts/login/")
        form = {"login": "charlie", "password": "x", "csrfmiddlewaretoken": page.cookies["csrftoken"]}
        started = time.monotonic()
        refused = process.http.post("/accounts/login/", data=form)
        assert refused.status_code in {200, 503}
        assert time.monotonic() - started < 7
    assert until(lambda: len(rows(process)) >= asked + 1)
    assert set(rows(process).values()) == {"ok"}
    assert process.stop() == 0


@pytest.mark.postgres
def test_chat_goes_on_while_postgresql_is_down(
    gateway_process: Start, provider: ScriptedProvider, postgres_url: str
) -> None:
    """No connection to the database is left and none is let in, as while its server starts anew."""
    process = begun(gateway_process, provider, DATABASE_URL=postgres_url)
    base, name = postgres_url.rsplit("/", 1)
    with psycopg.connect(f"{base}/postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        ids = set()
        for number in range(40):
            response = ask(process, stream=bool(number % 2))
            assert response.status_code == 200
            ids.add(response.headers["x-request-id"])
            time.sleep(0.1)
        ready = process.http.get("/readyz")
        assert ready.status_code == 503
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())

    def written() -> int:
        with psycopg.connect(postgres_url) as connection:
            query = "SELECT count(*), count(DISTINCT request_id) FROM gateway_usageevent WHERE request_id = ANY(%s)"
            found = connection.execute(query, [list(ids)]).fetchone()
        assert found
        assert found[0] == found[1]
        return int(found[0])

    assert until(lambda: written() == len(ids), 30)
    assert process.http.get("/readyz").status_code == 200
    assert process.stop() == 0


def test_chat_goes_on_while_the_disk_is_full(gateway_process: Start, provider: ScriptedProvider) -> None:
    """Neither journal nor database nor log can grow; when they can again, each request has its one row."""
    process = begun(gateway_process, provider)
    assert process.process
    pid = process.process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, unlimited[1]))
    ids = set()
    for number in range(200):
        response = ask(process, stream=bool(number % 2))
        assert response.status_code == 200
        ids.add(response.headers["x-request-id"])
    time.sleep(1.5)
    assert not ids <= rows(process).keys()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    assert until(lambda: ids <= rows(process).keys())
    with sqlite3.connect(process.folder / "db.sqlite3") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert process.stop() == 0
    assert {status for name, status in rows(process).items() if name in ids} == {"ok"}


WRITE = """
import sys, time, uuid
from gateway.usage import insert
worst = 0.0
for number in range(200):
    record = {"request_id": f"req_{uuid.uuid4().hex}", "created_at": time.time(), "status": "ok", "surface": "x"}
    begun = time.monotonic()
    insert([record])
    worst = max(worst, time.monotonic() - begun)
print(worst)
"""


def test_many_processes_write_to_sqlite_at_once(gateway_template: Path, tmp_path: Path) -> None:
    """IMMEDIATE transactions wait for each other: no `database is locked`, and nobody waits long."""
    process = GatewayProcess(gateway_template, tmp_path / "data")
    command = [sys.executable, "manage.py", "shell", "-c", WRITE]
    writers = [
        subprocess.Popen(command, env=process.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    said = [writer.communicate()[0].decode() for writer in writers]
    assert all(writer.returncode == 0 for writer in writers), said
    assert len(rows(process)) == 600
    assert max(float(text.splitlines()[-1]) for text in said) < 4
