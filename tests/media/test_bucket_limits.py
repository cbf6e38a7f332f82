"""Limits and revocation hold for buckets as for answers, and attached ones are read for nobody who may not ask."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client

from gateway.live import answers as live_answers
from gateway.models import ApiKey, UserLimits
from media import links
from media.models import Bucket, StoredFile
from tests.media.conftest import picture
from tests.people import PASSWORD
from tests.support.gateway import LiveGateway, raw_request
from tests.support.provider import ScriptedProvider

BASE = "/backend-api/v2/files"
pytestmark = pytest.mark.usefixtures("_own_folder")


@pytest.fixture
def _own_folder(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = ""
    settings.MEDIA_STORAGE = "file"
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    settings.FILE_UPLOAD_TEMP_DIR.mkdir()


class Site:
    """Pages that come when `go` is set. `asked` lists what was wanted."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.came = threading.Event()
        self.go = threading.Event()
        self.url = ""


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            found.came.set()
            found.go.wait(15)
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"words")

        def log_message(self, *given: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.FETCH_PORTS = frozenset({server.server_port})
        settings.FETCH_PRIVATE_HOSTS = frozenset({"127.0.0.1"})
        found.url = f"http://127.0.0.1:{server.server_port}"
        yield found
        found.go.set()
        server.shutdown()


def put(gateway: LiveGateway, key: str, name: str = "a.txt", data: bytes = b"one") -> httpx.Response:
    return gateway.http.post(f"{BASE}/b", files={"files": (name, data)}, headers=gateway.auth(key))


def put_site(gateway: LiveGateway, key: str, site: Site) -> None:
    answer = put(gateway, key, "downloads.json", json.dumps([{"url": f"{site.url}/page"}]).encode())
    assert answer.status_code == 200, answer.text


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_limit_of_a_key_counts_what_is_done_with_buckets(gateway: LiveGateway, alice: User) -> None:
    one = gateway.make_key(alice, "one", requests_per_minute=1)
    assert put(gateway, one).headers["x-ratelimit-remaining-requests"] == "0"
    refused(put(gateway, one, data=b"two"))
    for method, path in (("GET", f"{BASE}/b"), ("GET", "/files/b/stream"), ("DELETE", f"{BASE}/b")):
        refused(gateway.http.request(method, path, headers=gateway.auth(one)))
    four = gateway.make_key(alice, "four", requests_per_minute=4)
    left = []
    for method, path in (
        ("HEAD", f"{BASE}/b"),
        ("GET", f"{BASE}/b"),
        ("GET", f"{BASE}/b/stream"),
        ("DELETE", f"{BASE}/b"),
    ):
        answer = gateway.http.request(method, path, headers=gateway.auth(four))
        assert answer.status_code == 200
        left.append(answer.headers["x-ratelimit-remaining-requests"])
    assert left == ["3", "2", "1", "0"]


@pytest.mark.parametrize("path", ["/files/b/media/c.png", "/files/b/thumbnail/c.png", "/search/png", "/media/{}"])
def test_media_thumbnails_and_searches_count_as_well(gateway: LiveGateway, alice: User, path: str) -> None:
    put(gateway, gateway.make_key(alice, "free"), "c.png", picture())
    stored = StoredFile.objects.get()
    path = path.format(stored.name)
    two = gateway.auth(gateway.make_key(alice, "two", requests_per_minute=2))
    left = [gateway.http.get(path, headers=two) for _ in range(2)]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in left] == ["1", "0"]
    assert all(answer.status_code in (200, 302) for answer in left)
    refused(gateway.http.get(path, headers=two))
    # Nothing was asked of others, and whoever holds a signed address is nobody.
    assert gateway.http.get(path, headers=gateway.auth(gateway.make_key(alice, "three"))).status_code in (200, 302)
    assert gateway.http.get(links.signed_url(stored, "")).status_code == 200


def test_a_users_limit_counts_what_all_their_keys_and_pages_ask_for(gateway: LiveGateway, alice: User) -> None:
    put(gateway, gateway.make_key(alice, "free"), "c.png", picture())
    UserLimits.objects.create(user=alice, requests_per_minute=2)
    gateway.reload()
    client = Client()
    assert client.login(username=alice.username, password=PASSWORD)
    cookie = {"cookie": f"sessionid={client.cookies['sessionid'].value}"}
    path = "/files/b/media/c.png"
    assert gateway.http.get(path, headers=cookie).status_code == 200
    assert gateway.http.get(path, headers=gateway.auth(gateway.make_key(alice, "other"))).status_code == 200
    refused(gateway.http.get(path, headers=cookie))


def test_a_key_that_is_revoked_gets_no_further_events(gateway: LiveGateway, alice: User, site: Site) -> None:
    key = gateway.make_key(alice, "reader")
    put_site(gateway, key, site)
    found: list[httpx.Response] = []
    with _asked(gateway, f"{BASE}/b/stream", key, found):
        assert site.came.wait(10)
        ApiKey.objects.get(name="reader").revoke()
    # Nothing had been sent, so that the status is still the true one.
    assert (found[0].status_code, found[0].json()["error"]["code"]) == (401, "invalid_api_key")
    assert "revoked" in found[0].text


def test_a_key_that_is_revoked_in_the_middle_is_told_in_the_stream(
    gateway: LiveGateway, alice: User, site: Site, settings: Any
) -> None:
    settings.HEARTBEAT_SECONDS = 0.2
    key = gateway.make_key(alice, "reader")
    put_site(gateway, key, site)
    with httpx.stream("GET", f"{gateway.url}{BASE}/b/stream", headers=gateway.auth(key), timeout=20) as answer:
        ApiKey.objects.get(name="reader").revoke()
        *_, last = (line for line in answer.iter_lines() if line.startswith("data: "))
    assert json.loads(last[6:])["error"]["code"] == "invalid_api_key"


def test_a_text_whose_key_is_revoked_breaks_off_without_other_words(gateway: LiveGateway, alice: User) -> None:
    key = gateway.make_key(alice, "reader")
    assert put(gateway, key, data=b"words " * 4_000_000).status_code == 200
    parts = urlsplit(gateway.url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((parts.hostname, parts.port))
        connection.sendall(f"GET {BASE}/b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        connection.settimeout(20)
        got = connection.recv(4096)
        ApiKey.objects.get(name="reader").revoke()
        time.sleep(2.5)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 20):
                got += data
    assert got.startswith(b"HTTP/1.1 200")
    assert len(got) < 20_000_000
    assert b"revoked" not in got


def test_an_upload_whose_key_is_revoked_leaves_nothing(gateway: LiveGateway, alice: User) -> None:
    key = gateway.make_key(alice, "writer")
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    body = head + b"y" * 200_000 + b"\r\n--x--\r\n"
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:  # type: ignore[arg-type]
        kind = "Content-Type: multipart/form-data; boundary=x\r\n"
        start = f"POST {BASE}/b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{kind}"
        connection.sendall(f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1000])
        time.sleep(0.3)
        ApiKey.objects.get(name="writer").revoke()
        time.sleep(2.5)
        connection.sendall(body[1000:])
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 401")
    assert Bucket.objects.count() == 0


def chat(gateway: LiveGateway, key: str, **more: Any) -> httpx.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": [{"bucket_id": "b"}]}], **more}
    return gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(key))


def test_nothing_is_fetched_for_a_chat_beyond_its_limit(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, site: Site
) -> None:
    gateway.add_provider(provider)
    put_site(gateway, gateway.make_key(alice, "free"), site)
    one = gateway.make_key(alice, "one", requests_per_minute=1)
    assert gateway.http.get(f"{BASE}/none", headers=gateway.auth(one)).status_code == 404
    for stream in (False, True):
        refused(chat(gateway, one, stream=stream))
    assert (site.asked, provider.requests) == ([], [])


def test_nothing_is_fetched_for_an_edit_beyond_its_limit(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, site: Site
) -> None:
    gateway.add_provider(provider)
    site.go.set()
    one = gateway.auth(gateway.make_key(alice, "one", requests_per_minute=1))
    body = {"model": "scripted", "prompt": "x", "images": [{"image_url": f"{site.url}/a.png"}]}
    answer = gateway.http.post("/v1/images/edits", json=body, headers=one)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image_url")
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert site.asked == ["/a.png"]
    refused(gateway.http.post("/v1/images/edits", json=body, headers=one))
    assert site.asked == ["/a.png"]


def test_a_stream_says_that_it_waits_for_what_is_fetched(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, site: Site, settings: Any
) -> None:
    settings.HEARTBEAT_SECONDS = 0.2
    gateway.add_provider(provider)
    key = gateway.make_key(alice, "one", requests_per_minute=5)
    put_site(gateway, key, site)
    threading.Timer(1, site.go.set).start()
    answer = chat(gateway, key, stream=True)
    assert answer.status_code == 200
    assert answer.text.startswith(": waiting\n\n")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers["x-ratelimit-remaining-requests"] == "3"
    assert "words" in provider.requests[-1].json["messages"][0]["content"][0]["text"]


def test_what_goes_wrong_after_the_wait_is_told_in_the_stream(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, site: Site, settings: Any
) -> None:
    settings.HEARTBEAT_SECONDS = 0.2
    gateway.add_provider(provider)
    key = gateway.make_key(alice)
    put_site(gateway, key, site)
    threading.Timer(1, site.go.set).start()
    messages = [{"role": "user", "content": [{"bucket_id": "b"}, {"bucket_id": "none"}]}]
    answer = chat(gateway, key, stream=True, messages=messages)
    assert answer.status_code == 200
    assert answer.text.startswith(": waiting\n\n")
    last = answer.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "bucket_not_found"
    assert chat(gateway, key, stream=True, messages=messages).status_code == 404
    assert provider.requests == []


@pytest.mark.parametrize("how", ["leaves", "is revoked"])
def test_nobody_is_asked_for_a_caller_who_is_gone(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, site: Site, how: str
) -> None:
    gateway.add_provider(provider)
    key = gateway.make_key(alice, "reader")
    put_site(gateway, key, site)
    body = {"model": "scripted", "messages": [{"role": "user", "content": [{"bucket_id": "b"}]}]}
    connection = raw_request(gateway.url, key, body)
    assert site.came.wait(10)
    wait_until(lambda: len(live_answers) == 1)
    if how == "leaves":
        connection.close()
    else:
        ApiKey.objects.get(name="reader").revoke()
        connection.settimeout(6)
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")
        connection.close()
    wait_until(lambda: len(live_answers) == 0)
    site.go.set()
    time.sleep(0.5)
    assert provider.requests == []


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 6
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextlib.contextmanager
def _asked(gateway: LiveGateway, path: str, key: str, found: list[httpx.Response]) -> Iterator[None]:
    """What is asked beside the block, whose answer is in `found` after it; within the time of a revocation."""

    def ask() -> None:
        found.append(httpx.get(gateway.url + path, headers=gateway.auth(key), timeout=20))

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    thread.join(6)
    assert found, "nobody was told within 6 seconds"


def test_forms_of_a_thousand_and_one_fields_or_51_files_are_refused(gateway: LiveGateway, charlie: User) -> None:
    """C29, at every door that takes forms."""
    headers = gateway.auth(gateway.make_key(charlie))
    for path, file in (
        ("/v1/images/edits", "image"),
        ("/api/Scripted/images/edits", "image"),
        ("/v1/audio/transcriptions", "file"),
        ("/v1/audio/translations", "file"),
        ("/v1/upload_cookies", "file"),
        ("/backend-api/v2/files/b", "files"),
        ("/backend-api/v2/conversation", "file"),
    ):
        for sent in ([("x", (None, b"y"))] * 1001, [(file, ("a.txt", b"x"))] * 51):
            answer = gateway.http.post(path, files=sent, headers=headers)
            assert answer.status_code in (400, 413), (path, answer.text[:200])
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    # A page's form, which Django reads.
    gateway.http.get("/accounts/login/")
    assert gateway.http.post("/accounts/login/", data={f"f{at}": "x" for at in range(1001)}).status_code == 400
    assert not Bucket.objects.exists()
