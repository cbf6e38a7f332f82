"""What a deployment runs: nginx in front of two workers on PostgreSQL and Redis."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import httpx
import openai
import pytest

from tests.support import services
from tests.support.answers import stream
from tests.support.gateway import GatewayProcess, make_template, scratch_postgres
from tests.support.nginx import HEADER_SECONDS, Nginx
from tests.support.provider import ScriptedProvider

ROOT = services.ROOT
ASK = {"model": "scripted", "messages": [{"role": "user", "content": "hello out there"}]}


class Stack:
    def __init__(self, gateway, nginx, provider):
        self.gateway, self.nginx, self.provider = gateway, nginx, provider

    def client(self, key=None):
        return openai.OpenAI(
            api_key=key or self.gateway.key, base_url=f"{self.nginx.url}/v1", max_retries=0, timeout=20
        )

    def key(self, *arguments):
        made = self.gateway.manage("apikey", "create", "--user", "charlie", "--name", "deployed", *arguments)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    services.require("postgres")
    services.require("redis")
    services.require("nginx")
    folder = tmp_path_factory.mktemp("deploy")
    with scratch_postgres(services.POSTGRES_URL) as url, ScriptedProvider() as provider:
        settings = {"DATABASE_URL": url, "REDIS_URL": services.REDIS_URL, "TRUSTED_PROXIES": "1"}
        template = make_template(folder / "template", **settings)
        gateway = GatewayProcess(template, folder / "data", ["--workers", "2"], settings)
        added = gateway.manage(
            "provider", "add", "Scripted", "--adapter", "openai_chat", "--base-url", provider.base_url,
            "--auth-style", "none", "--model", "scripted",
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
        nginx = Nginx(gateway.port)
        try:
            yield Stack(gateway.start(), nginx, provider)
        finally:
            gateway.kill()
            nginx.process.kill()
            nginx.process.wait(10)


def marked(test):
    return pytest.mark.postgres(pytest.mark.redis(test))


@marked
def test_a_chat_through_nginx(stack):
    with stack.client() as client:
        reply = client.chat.completions.with_raw_response.create(**ASK)
        assert reply.parse().choices[0].message.content == "hello out there"
        # nginx writes its line when the answer is out.
        wait_for(lambda: reply.headers["x-request-id"] in stack.nginx.log, timeout=5)


@marked
def test_chunks_come_one_by_one(stack):
    stack.provider.enqueue(stream("one", "two", "three", "four", gap=0.4))
    with stack.client() as client:
        began = time.monotonic()
        arrived = {
            item.choices[0].delta.content: time.monotonic() - began
            for item in client.chat.completions.create(**ASK, stream=True)
            if item.choices and item.choices[0].delta.content
        }
    assert list(arrived) == ["one", "two", "three", "four"]
    moments = list(arrived.values())
    assert all(0.2 < later - earlier < 0.8 for earlier, later in pairwise(moments)), moments


@marked
def test_a_client_that_leaves_frees_the_provider(stack):
    stack.provider.enqueue(stream(*["more "] * 100, gap=0.1))
    before = len(stack.provider.chats)
    with stack.client() as client:
        answer = client.chat.completions.create(**ASK, stream=True)
        next(iter(answer))
        answer.close()
    assert stack.provider.wait_for(before + 1).left.wait(3)


@marked
def test_the_address_behind_the_proxy_is_the_clients(stack):
    key = {"authorization": f"Bearer {stack.key('--network', '127.0.0.2/32')}"}
    spoofed = [
        {"x-forwarded-for": "127.0.0.2"},
        {"x-forwarded-for": "127.0.0.2, 127.0.0.2"},
        {"x-real-ip": "127.0.0.2"},
        {"forwarded": "for=127.0.0.2"},
        {"x_forwarded_for": "127.0.0.2"},
    ]
    with (
        httpx.Client(base_url=stack.nginx.url, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as elsewhere,
        httpx.Client(base_url=stack.nginx.url) as here,
    ):
        wait_for(lambda: elsewhere.get("/v1/models", headers=key).status_code == 200)
        # The other worker may learn of the key a moment later.
        time.sleep(1.5)
        for ask in (lambda http, more: http.get("/v1/models", headers=key | more),
                    lambda http, more: http.post("/v1/chat/completions", json=ASK, headers=key | more)):  # fmt: skip
            for more in ({}, {"x-forwarded-for": "203.0.113.9"}):
                assert ask(elsewhere, more).status_code == 200
            for more in ({}, *spoofed):
                refused = ask(here, more)
                assert refused.status_code == 401, more
                assert refused.json()["error"]["code"] == "ip_not_authorized"


@marked
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(stack):
    with socket.create_connection(("127.0.0.1", stack.nginx.port), timeout=5) as raw:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {33 * 2**20}\r\n"
        raw.sendall(head.encode() + b"content-type: application/json\r\n\r\n{")
        # nginx holds the connection open for a while, so that the client can read this.
        answer = raw.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer
    assert b"nginx/" not in answer


@marked
def test_a_large_body_below_the_limit_passes(stack):
    text = "x" * (20 * 2**20)
    with stack.client() as client:
        body = {**ASK, "messages": [{"role": "user", "content": text}]}
        assert client.chat.completions.create(**body).choices[0].message.content == text


@marked
def test_a_half_sent_header_is_not_waited_for(stack):
    with socket.create_connection(("127.0.0.1", stack.nginx.port), timeout=10) as raw:
        raw.sendall(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
        began = time.monotonic()
        answer = read_all(raw)
    assert HEADER_SECONDS * 0.5 < time.monotonic() - began < HEADER_SECONDS + 4
    assert not answer or answer.startswith(b"HTTP/1.1 408 ")


@marked
def test_static_files_come_through(stack):
    collected = stack.gateway.manage("collectstatic", "--noinput", "--verbosity", "0")
    assert collected.returncode == 0, collected.stderr
    # The workers list the files when they start.
    assert stack.gateway.stop() == 0
    stack.gateway.start()
    page = httpx.get(f"{stack.nginx.url}/accounts/login/")
    assert page.status_code == 200
    sheet = re.search(r'href="(/static/[^"]+\.css)"', page.text)[1]
    file = httpx.get(stack.nginx.url + sheet, headers={"accept-encoding": "gzip"})
    assert (file.status_code, file.headers["content-encoding"]) == (200, "gzip")
    assert "immutable" in file.headers["cache-control"]


@marked
def test_setup_links_are_not_in_the_proxys_log(stack):
    assert httpx.get(f"{stack.nginx.url}/setup/a-secret-token/?also=this").status_code == 403
    wait_for(lambda: "/setup/..." in stack.nginx.log, timeout=5)
    assert "a-secret-token" not in stack.nginx.log
    assert "also=this" not in stack.nginx.log


@marked
def test_a_revoked_key_is_refused_by_every_worker_within_five_seconds(stack):
    key = stack.key()
    headers = {"authorization": f"Bearer {key}"}

    def statuses(url):
        return {httpx.get(f"{url}/v1/models", headers=headers).status_code for _ in range(20)}

    wait_for(lambda: statuses(stack.gateway.url) == {200})
    assert stack.gateway.manage("apikey", "revoke", key[:14]).returncode == 0
    began = time.monotonic()
    # A connection of its own for each request: both workers take their share.
    wait_for(lambda: statuses(stack.gateway.url) == {401}, timeout=5)
    assert time.monotonic() - began < 5
    assert statuses(stack.nginx.url) == {401}


@marked
def test_a_signal_lets_answers_end_and_leaves_nothing_running(stack):
    """The last one: it takes the stack down."""
    group = processes_under(stack.gateway.process.pid)
    assert len(group) >= 3
    stack.provider.enqueue(stream(*["slow "] * 10, gap=0.2))
    said = []
    reading = threading.Thread(target=lambda: said.extend(text_of(stack.client())))
    before = len(stack.provider.chats)
    reading.start()
    stack.provider.wait_for(before + 1)
    assert stack.gateway.stop(signal.SIGTERM) == 0
    reading.join(10)
    assert "".join(said) == "slow " * 10
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in group), timeout=3)
    gone = httpx.post(f"{stack.nginx.url}/v1/chat/completions", json=ASK)
    assert (gone.status_code, gone.headers["retry-after"]) == (503, "1")
    assert set(gone.json()["error"]) == {"message", "type", "param", "code"}
    assert stack.nginx.stop() == 0


def text_of(client):
    with client:
        for item in client.chat.completions.create(**ASK, stream=True):
            if item.choices and item.choices[0].delta.content:
                yield item.choices[0].delta.content


def read_all(raw):
    parts = []
    try:
        while part := raw.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def wait_for(condition, timeout=15.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def processes_under(pid):
    found = {pid}
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    for child in listed.read_text().split() if listed.exists() else ():
        found |= processes_under(int(child))
    return found
