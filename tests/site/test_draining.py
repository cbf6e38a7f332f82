"""How a server ends and is replaced: who is told, who may finish, and that nobody under load notices."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import openai
import psycopg
import pytest
import uvicorn
from openai._streaming import SSEDecoder

from g4fsite.server import DeadlineProtocol, listening_socket
from g4fsite.stopping import Server
from gateway.errors import ServerStopping
from gateway.surfaces.reconnect import reconnect_event
from tests.support import services
from tests.support.answers import Stall, chunk, silent, sse
from tests.support.commands import manage
from tests.support.gateway import GatewayProcess, make_template
from tests.support.load import Load
from tests.support.nginx import Nginx
from tests.support.provider import ScriptedProvider

ASK = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def scripted():
    with ScriptedProvider() as provider:
        provider.on("stalling", sse([chunk({"role": "assistant", "content": "one"}), Stall()]))
        provider.on("mute", silent())
        yield provider


@pytest.fixture(scope="module")
def equipped(gateway_template, tmp_path_factory, scripted):
    folder = shutil.copytree(gateway_template, tmp_path_factory.mktemp("equipped") / "data")
    models = [part for name in ("scripted", "stalling", "mute") for part in ("--model", name)]
    added = manage(
        folder, "provider", "add", "Near", "--adapter", "openai_chat", "--base-url", scripted.base_url,
        "--auth-style", "none", "--allow-private", *models,
    )  # fmt: skip
    assert added.code == 0, added.err
    return folder


@pytest.fixture
def start(equipped, tmp_path):
    started = []

    def start(*arguments, **environment):
        process = GatewayProcess(equipped, tmp_path / f"data{len(started)}", arguments, environment)
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.kill()


def wait_for(condition, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def rows(process):
    with sqlite3.connect(process.folder / "db.sqlite3") as database:
        return database.execute(
            "SELECT status, error_code, http_status FROM gateway_usageevent ORDER BY stream"
        ).fetchall()


def test_probes_are_told_at_once_and_callers_are_still_answered(start):
    process = start(DRAIN_SECONDS="3")
    with httpx.Client(base_url=process.url) as kept:
        assert kept.get("/readyz").json() == {"status": "ok", "problems": []}
        process.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        wait_for(lambda: httpx.get(f"{process.url}/readyz").status_code == 503, timeout=2)
        probe = httpx.get(f"{process.url}/readyz")
        assert probe.json() == {"status": "draining", "problems": ["draining"]}
        assert httpx.get(f"{process.url}/livez").status_code == 200
        # A connection that was idle is not closed under the caller's hands, but told to end.
        time.sleep(0.5)
        answer = kept.post("/v1/chat/completions", json=ASK, headers=process.auth())
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        fresh = httpx.post(f"{process.url}/v1/chat/completions", json=ASK, headers=process.auth())
        assert (fresh.status_code, fresh.headers["connection"]) == (200, "close")
    assert process.wait(10) == 0
    assert time.monotonic() - told > 2.9
    assert "Traceback" not in process.output


def test_ctrl_c_waits_for_no_proxy(start):
    process = start(DRAIN_SECONDS="30")
    process.http.get("/livez")
    assert process.stop(signal.SIGINT, timeout=15) == 0


def test_what_is_open_at_the_end_of_the_grace_period_is_told(start, scripted):
    process = start(STOP_GRACE_SECONDS="1")
    ask = {**ASK, "model": "mute"}
    found = []
    plain = threading.Thread(
        target=lambda: found.append(
            httpx.post(f"{process.url}/v1/chat/completions", json=ask, headers=process.auth(), timeout=20)
        )
    )
    before = len(scripted.chats)
    plain.start()
    parts = iter(process.client().chat.completions.create(**{**ASK, "model": "stalling"}, stream=True))
    assert next(parts).choices[0].delta.content == "one"
    scripted.wait_for(before + 2)
    process.process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    with pytest.raises(openai.APIError) as cut:
        list(parts)
    assert cut.value.code == "server_stopping"
    assert 0.9 < time.monotonic() - told < 15
    plain.join(5)
    assert (found[0].status_code, found[0].json()["error"]["code"]) == (503, "server_stopping")
    assert 1 <= int(found[0].headers["retry-after"]) <= 5
    # Nobody reads another's request id.
    assert cut.value.message.count("req_") == found[0].json()["error"]["message"].count("req_") == 1
    assert process.wait(10) == 0
    assert "Traceback" not in process.output
    assert rows(process) == [("interrupted", "server_stopping", 503)] * 2


def test_a_request_without_an_answer_of_its_own_is_told_too(start):
    process = start(STOP_GRACE_SECONDS="1")
    with socket.create_connection(("127.0.0.1", process.port)) as half:
        half.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n"
            b"content-length: 100\r\n\r\n{" % process.key.encode()
        )
        time.sleep(0.3)
        process.process.send_signal(signal.SIGTERM)
        half.settimeout(10)
        answer = b"".join(iter(lambda: half.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"server_stopping" in answer
    assert process.wait(10) == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.redis)])
def test_a_second_ctrl_c_ends_it_at_once(start, workers, redis_url):
    process = start("--workers", str(workers), REDIS_URL=redis_url)
    parts = iter(process.client().chat.completions.create(**{**ASK, "model": "stalling"}, stream=True))
    next(parts)
    process.process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.running is None, "the answer under way has time to end"
    assert process.stop(signal.SIGINT, timeout=15) == 0


def test_connections_that_wait_when_the_port_closes_are_answered():
    async def application(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def run():
        sock = listening_socket("127.0.0.1", 0)
        config = uvicorn.Config(application, http=DeadlineProtocol, lifespan="off", log_config=None)
        config.load()
        server = Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup([sock])
        # Nothing is awaited in between, so the loop has no chance to accept it.
        with socket.create_connection(sock.getsockname()) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await server._close_listeners([sock])
            waiting.settimeout(5)
            return await asyncio.to_thread(waiting.recv, 100)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 204 ")


@pytest.mark.redis
@pytest.mark.timeout(180)
def test_a_rolling_restart_fails_no_request(start, redis_url):
    process = start("--workers", "2", REDIS_URL=redis_url, DRAIN_SECONDS="2")
    before = workers_of(process)
    ready = []
    with Load(process.base_url, process.key, "scripted") as load:
        wait_for(lambda: load.answered > 25)
        process.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while workers_of(process) & before:
            assert time.monotonic() < deadline, "the old workers did not end"
            ready.append(httpx.get(f"{process.url}/readyz").status_code)
            time.sleep(0.05)
        enough = load.answered + 25
        wait_for(lambda: load.answered > enough)
    assert load.failures == []
    assert set(ready) == {200}
    assert len(workers_of(process)) == 2
    assert process.stop() == 0
    assert "Traceback" not in process.output


@pytest.mark.postgres
@pytest.mark.timeout(240)
def test_two_servers_behind_nginx_restarted_in_turn_fail_no_request(tmp_path, postgres_url, redis_url, scripted):
    services.require("nginx")
    environment = {
        "DATABASE_URL": postgres_url, "REDIS_URL": redis_url, "TRUSTED_PROXIES": "1", "DRAIN_SECONDS": "2",
    }  # fmt: skip
    template = make_template(tmp_path / "seed", **environment)
    servers = [GatewayProcess(template, tmp_path / name, environment=environment) for name in ("first", "second")]
    added = servers[0].manage(
        "provider", "add", "Near", "--adapter", "openai_chat", "--base-url", scripted.base_url, "--auth-style", "none",
        "--model", "scripted",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    nginx = Nginx(*[server.start().port for server in servers])
    try:
        with Load(f"{nginx.url}/v1", servers[0].key, "scripted") as load:
            wait_for(lambda: load.answered > 25)
            for server in servers:
                assert server.stop() == 0
                server.start()
                wait_for(lambda server=server: server.http.get("/readyz").status_code == 200)
                # nginx has noticed by then that it is back.
                time.sleep(3)
        assert load.failures == []
        assert load.answered > 200
    finally:
        nginx.stop()
        for server in servers:
            server.kill()


@pytest.mark.redis
@pytest.mark.timeout(180)
def test_a_restart_does_not_end_long_answers_nor_deafen_the_supervisor(start, redis_url, scripted):
    process = start("--workers", "2", REDIS_URL=redis_url, STOP_GRACE_SECONDS="4")
    parts = iter(process.client().chat.completions.create(**{**ASK, "model": "stalling"}, stream=True))
    next(parts)
    before = workers_of(process)
    process.process.send_signal(signal.SIGHUP)
    # One old worker ends, the other waits for its answer; both have successors.
    wait_for(lambda: len(workers_of(process) - before) == 2)
    victim = min(workers_of(process) - before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers_of(process) - before - {victim}) == 2)
    with pytest.raises(openai.APIError) as cut:
        list(parts)
    assert cut.value.code == "server_stopping"
    assert process.stop() == 0


@pytest.mark.redis
@pytest.mark.timeout(120)
def test_workers_do_not_outlive_a_supervisor_that_was_killed(start, redis_url):
    process = start("--workers", "2", REDIS_URL=redis_url)
    left = workers_of(process)
    process.kill()
    wait_for(lambda: not any(serves(pid) for pid in left))


def workers_of(process):
    """Process ids of the workers, without multiprocessing's helper."""
    listed = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children")
    children = {int(child) for child in listed.read_text().split()} if listed.exists() else set()
    return {child for child in children if serves(child)}


def serves(pid):
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_more_requests_than_it_takes_are_refused_at_once(start, scripted):
    process = start(MAX_REQUESTS="2")
    client = process.client()
    held = [
        iter(client.chat.completions.create(**{**ASK, "model": "stalling"}, stream=True, timeout=20)) for _ in range(2)
    ]
    assert [next(parts).choices[0].delta.content for parts in held] == ["one", "one"]
    process.http.get("/livez")
    taken = []
    for _ in range(5):
        began = time.monotonic()
        refused = process.http.post("/v1/chat/completions", json=ASK, headers=process.auth())
        taken.append(time.monotonic() - began)
    assert min(taken) < 0.1
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert process.http.get("/readyz").status_code == 200, "probes are not turned away"
    del held
    client.close()
    wait_for(
        lambda: process.http.post("/v1/chat/completions", json=ASK, headers=process.auth()).status_code == 200,
        timeout=3,
    )


def test_readiness_knows_a_database_that_lacks_migrations(start):
    process = start()
    with sqlite3.connect(process.folder / "db.sqlite3") as database:
        database.execute("DELETE FROM django_migrations WHERE app = 'gateway'")
    probe = httpx.get(f"{process.url}/readyz")
    assert (probe.status_code, probe.json()) == (503, {"status": "failing", "problems": ["migrations"]})
    assert httpx.get(f"{process.url}/livez").json() == {"status": "ok"}


@pytest.mark.postgres
def test_readiness_knows_a_database_that_is_away_and_back(gateway_process, postgres_url):
    process = gateway_process(DATABASE_URL=postgres_url)
    name = postgres_url.rsplit("/", 1)[1]
    assert fastest(process, "/livez") < 0.05
    assert fastest(process, "/readyz") < 0.05
    with psycopg.connect(postgres_url.rsplit("/", 1)[0] + "/postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        probe = process.http.get("/readyz")
        assert (probe.status_code, probe.json()) == (503, {"status": "failing", "problems": ["database"]})
        assert process.http.get("/livez").status_code == 200
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    wait_for(lambda: process.http.get("/readyz").status_code == 200, timeout=20)


def fastest(process, path):
    process.http.get(path)
    taken = []
    for _ in range(10):
        began = time.monotonic()
        assert process.http.get(path).status_code == 200
        taken.append(time.monotonic() - began)
    return min(taken)


def test_clients_that_can_come_back_are_told_when_and_after_what():
    events = [next(SSEDecoder().iter_bytes(iter([reconnect_event(f"{number}")]))) for number in range(20)]
    assert [(event.event, event.id, event.data) for event in events[:2]] == [
        ("reconnect", "0", "{}"),
        ("reconnect", "1", "{}"),
    ]
    assert all(1000 <= event.retry <= 5000 for event in events)
    assert len({event.retry for event in events}) > 1
    assert len({ServerStopping().retry_after for _ in range(20)}) > 1
