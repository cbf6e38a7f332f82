"""The websocket `/ws/`: whose news it brings, who may open it, and how it ends. In one process, and in two workers."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from conversations.websockets import MOST_SOCKETS
from g4fsite.server import SocketProtocol
from tests.conversations.conftest import Person
from tests.support import services
from tests.support.answers import Hold, events_of, sse
from tests.support.browser import Browser
from tests.support.gateway import GatewayProcess, LiveGateway, scratch_postgres
from tests.support.provider import ScriptedProvider


class Socket:
    """One that was opened; what it hears."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        assert self.next()["type"] == "hello"

    def next(self, seconds: float = 10) -> dict[str, Any]:
        return dict(json.loads(self.wire.recv(timeout=seconds)))

    def until(self, kind: str, seconds: float = 10, **fields: Any) -> dict[str, Any]:
        """The next of this kind with these fields."""
        while True:
            found = self.next(seconds)
            if found["type"] == kind and fields.items() <= found.items():
                return found

    def send(self, **item: Any) -> None:
        self.wire.send(json.dumps(item))

    def closed(self, seconds: float = 10) -> int:
        """The code with which it ends, whatever comes before."""
        try:
            while True:
                self.wire.recv(timeout=seconds)
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.redis])])
def process(request: pytest.FixtureRequest, gateway_process: Callable[..., GatewayProcess]) -> Iterator[GatewayProcess]:
    """Alone, and as two workers."""
    if request.param == "sqlite":
        yield gateway_process()
        return
    with scratch_postgres(services.POSTGRES_URL) as url:
        yield gateway_process(DATABASE_URL=url, REDIS_URL=services.REDIS_URL, WORKERS="2")


def place_of(gateway: LiveGateway | GatewayProcess) -> str:
    return gateway.url.replace("http", "ws", 1) + "/ws/"


@pytest.fixture
def opened(gateway: LiveGateway) -> Iterator[Any]:
    with ExitStack() as all_of_them:

        def open_one(headers: dict[str, str], **options: Any) -> Socket:
            made = connect(place_of(gateway), additional_headers=headers, **options)
            return Socket(all_of_them.enter_context(made))

        yield open_one


def cookies(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    return {"cookie": f"sessionid={client.cookies['sessionid'].value}"}


def test_lists_and_answers_of_ones_own_and_of_nobody_else(
    gateway: LiveGateway, provider: ScriptedProvider, ann: Person, ben: Person, opened: Any
):
    """Two sockets, many changes: each hears of its own, all of it and soon."""
    gateway.add_provider(provider)
    mine, others = opened(ann.headers), opened(ben.headers)
    made = ann.post("", {"title": "mine"}).json()
    ann.patch(f"/{made['id']}", {"title": "renamed", "pinned": True})
    asked = time.monotonic()
    found = mine.until("conversation")["conversation"]
    assert (found["id"], found["title"], found["pinned"]) == (made["id"], "renamed", True)
    assert time.monotonic() - asked < 5
    listed = ann.get("").json()["data"][0]
    assert found == {name: value for name, value in listed.items() if name != "hits"}

    hold = threading.Event()
    provider.on(
        "scripted", sse([*events_of([{"content": "Hel"}])[:2], Hold(hold), *events_of([{"content": "lo"}])[1:]])
    )
    browser = Browser(gateway.url, ann.headers["x-api-key"])
    asking = threading.Thread(target=lambda: browser.ask("hi", conversation_id=made["id"]))
    asking.start()
    begun = mine.until("answering", conversation_id=made["id"])
    # What the stream tells the socket tells too, from any number on, to its owner alone.
    others.send(type="follow", conversation_id=made["id"])
    assert others.next()["code"] == "conversation_not_found"
    mine.send(type="follow", conversation_id=made["id"], message_id=begun["message_id"], after=2)
    hold.set()
    numbers, text, events = [], "", []
    while not events or events[-1]["type"] != "end":
        item = mine.until("event", conversation_id=made["id"], message_id=begun["message_id"])
        numbers.append(item["id"])
        events.append(item["event"])
        text += item["event"].get("content", "")
    assert (numbers[0], numbers == list(range(3, 3 + len(numbers))), text) == (3, True, "Hello")
    asking.join(10)
    browser.close()

    # Many at once become few words; what is gone is told, too.
    ids = [ann.post("", {"title": str(number)}).json()["id"] for number in range(3)]
    ann.post("/bulk", {"ids": ids, "action": "archive"})
    archived = set()
    while archived != set(ids):
        item = mine.until("conversation")["conversation"]
        archived |= {item["id"]} if item["archived"] else set()
    ann.delete(f"/{made['id']}")
    mine.until("conversation_gone", conversation_id=made["id"])
    ben.post("", {"title": "his"})
    heard = others.until("conversation")["conversation"]
    assert heard["title"] == "his", "nothing of hers came before"


def test_who_may_open_it(gateway: LiveGateway, ann: Person, opened: Any, monkeypatch: pytest.MonkeyPatch):
    session = cookies(ann.user)
    here = gateway.url
    refused: list[tuple[int, dict[str, str], str | None]] = [
        (401, {}, None),
        (401, {}, here),
        (401, {"authorization": "Bearer sk-gw-none"}, None),
        (403, session, None),
        (403, session, "https://evil.example"),
        (403, session, "null"),
        (403, session, here + ".evil.example"),
        (403, ann.headers, "https://evil.example"),
        (400, {**session, "host": "evil.example"}, "http://evil.example"),
        (403, {"x-api-key": gateway.make_key(ann.user, "v1 alone", surfaces=["v1"])}, None),
    ]
    for status, headers, origin in refused:
        with pytest.raises(InvalidStatus) as answer:
            opened(headers, origin=origin)
        assert answer.value.response.status_code == status, (headers, origin)
        assert json.loads(answer.value.response.body)["error"]["code"]
    opened(session, origin=here)
    opened(ann.headers)
    monkeypatch.setattr("conversations.websockets.MOST_SOCKETS", 2)
    with pytest.raises(InvalidStatus) as answer:
        opened(ann.headers)
    assert (answer.value.response.status_code, "retry-after" in answer.value.response.headers) == (429, True)
    assert gateway.http.get("/ws/other").status_code == 404
    # Declined elsewhere, and no place of requests.
    wish = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert (
        gateway.http.get("/health", headers={**wish, "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}).status_code
        == 200
    )


def test_what_takes_the_right_takes_the_socket(gateway: LiveGateway, ann: Person, bob: User, opened: Any):
    """Signing out ends that session's; a new password all but keys'; a key and an account theirs, within seconds."""
    first, second = cookies(bob), cookies(bob)
    left = opened(first, origin=gateway.url)
    stays = opened(second, origin=gateway.url)
    client = Client()
    client.cookies["sessionid"] = first["cookie"].split("=")[1]
    client.post("/accounts/logout/")
    assert left.closed() == 4401
    bob.set_password("another long one")
    bob.save()
    assert stays.closed() == 4401
    keyed = opened(ann.headers)
    User.objects.filter(pk=ann.user.pk).update(is_active=False)
    gateway.reload()
    assert keyed.closed() == 4401


def test_who_asks_too_much_is_let_go(gateway: LiveGateway, ann: Person, opened: Any):
    # The connection of a handshake that cannot be read is not kept.
    wish = {"connection": "upgrade", "upgrade": "websocket"}
    answer = gateway.http.request("GET", "/ws/", headers=wish, content=b"a body", timeout=5)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_http")
    large = opened(ann.headers)
    with suppress(ConnectionClosed):
        large.wire.send("x" * (2 * 1024 * 1024))
    # 1006 where what was still on its way made the system reset the connection before the reason was read.
    assert large.closed() in (1009, 1006)
    often = opened(ann.headers)
    with suppress(ConnectionClosed):
        for _ in range(1000):
            often.send(type="unfollow", conversation_id="x")
    assert often.closed() == 1008
    odd = opened(ann.headers)
    for text in ("[]", "{", '{"type": []}', '{"type":"follow"}', '{"type":"follow","conversation_id":"x","after":-1}'):
        odd.wire.send(text)
        assert odd.next()["type"] == "refused"
    odd.wire.send(b"\xff\x00")
    assert odd.next()["type"] == "refused"
    odd.send(type="follow", conversation_id=str(uuid.uuid4()))
    assert odd.next()["code"] == "conversation_not_found"


@pytest.mark.timeout(180)
def test_every_worker_brings_the_news_and_says_that_it_stops(process: GatewayProcess):
    headers = process.auth()
    with ExitStack() as all_of_them:
        wires = [connect(place_of(process), additional_headers=headers, open_timeout=20) for _ in range(8)]
        sockets = [Socket(all_of_them.enter_context(wire)) for wire in wires]
        for title in ("one", "two"):
            asked = process.http.post("/backend-api/v2/conversations", json={"title": title}, headers=headers)
            assert asked.status_code == 201
            for socket in sockets:
                assert socket.until("conversation", 20)["conversation"]["title"] == title
        stopping = threading.Thread(target=process.stop)
        stopping.start()
        assert {socket.closed(20) for socket in sockets} == {1012}
        stopping.join(40)
    assert process.running == 0, process.output
    assert "Traceback" not in process.output


def test_what_is_sent_without_end_takes_no_memory(gateway: LiveGateway, ann: Person, caplog: pytest.LogCaptureFixture):
    """Pings whose answers nobody reads, fragments of nothing; and many sockets that are opened at once."""
    parts = urlsplit(gateway.url)
    head = "".join(f"{name}: {value}\r\n" for name, value in ann.headers.items())
    wish = f"GET /ws/ HTTP/1.1\r\nHost: {parts.netloc}\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\n"
    wish += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ping, start, nothing = b"\x89\xfd" + b"\0" * 129, b"\x01\x81" + b"\0" * 5, b"\x00\x80" + b"\0" * 4
    protocols = gateway._server.server_state.connections
    with ExitStack() as all_of_them:
        wires = []
        for _ in range(MOST_SOCKETS + 20):
            wire = all_of_them.enter_context(socket.socket())
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.settimeout(20)
            wire.connect((parts.hostname, parts.port))
            wire.sendall(wish.encode())
            wires.append(wire)
        statuses = [wire.recv(12)[9:] for wire in wires]
        assert Counter(statuses) == {b"101": MOST_SOCKETS, b"429": 20}
        first = wires[statuses.index(b"101")]
        open_ones = [one for one in protocols if isinstance(one, SocketProtocol) and not one.close_sent]
        for wire in wires:
            if wire is not first:
                wire.close()
        first.sendall(start + nothing * 100_000)
        for _ in range(20):
            first.sendall(ping * 8000)
        first.sendall(ping)
        assert sum(len(one.frames) for one in open_ones) < 10
        assert sum(one.transport.get_write_buffer_size() for one in open_ones) < 1_000_000
    assert "handshake" not in caplog.text, "refusals are nothing that went wrong here"
