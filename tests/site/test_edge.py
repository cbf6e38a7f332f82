"""What every request passes: Host, paths, headers, body bounds, CORS, methods, ids; on both doors alike."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import re
import socket
import time
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from g4fsite import edge
from g4fsite.cycle import Cycle
from gateway.surfaces.openai.errors import SUPPORTED
from tests.support.gateway import LiveGateway
from tests.support.routes import routes

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
DOORS = [("POST", "/v1/chat/completions"), ("GET", "/v1/models")]

ERROR_FIELDS = {"message", "type", "param", "code"}


@pytest.fixture
def demo(gateway: LiveGateway) -> LiveGateway:
    gateway.add_demo()
    assert gateway.key
    return gateway


def exchange(gateway: LiveGateway, data: bytes, timeout: float = 10) -> bytes:
    """Raw bytes there and back, until the server closes or falls silent."""
    port = int(gateway.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(65536):
            found += piece
            head, _, rest = found.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length and len(rest) >= int(length[0].split(b":")[1]):
                break
    return found


def raw(gateway: LiveGateway, *lines: str, body: bytes = b"") -> tuple[int, Any]:
    head = "\r\n".join([*lines, f"Authorization: Bearer {gateway.key}", "Connection: close", "", ""])
    found = exchange(gateway, head.encode("latin-1") + body)
    status = int(found.split(b" ", 2)[1])
    content = found.partition(b"\r\n\r\n")[2]
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content


def error(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == "application/json"
    found = response.json()["error"]
    assert set(found) == ERROR_FIELDS
    return found


@pytest.mark.parametrize("door", DOORS)
def test_every_answer_has_an_id_and_is_not_kept(demo: LiveGateway, door: tuple[str, str]) -> None:
    method, path = door
    ids = set()
    for headers in (demo.auth(), {}):
        response = demo.http.request(method, path, headers=headers, json=CHAT if method == "POST" else None)
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert int(response.headers["openai-processing-ms"]) >= 0
        ids.add(response.headers["x-request-id"])
    assert len(ids) == 2


def test_a_request_that_is_over_leaves_nothing_to_the_collector(demo: LiveGateway) -> None:
    """Circles of objects would pile up until it comes, with the callers' keys in them."""
    headers = demo.auth()
    assert demo.http.post("/v1/chat/completions", headers=headers, json=CHAT).status_code == 200
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            demo.http.post("/v1/chat/completions", headers=headers, json=CHAT)
        left = [found for found in gc.get_objects() if type(found) is Cycle]
    finally:
        gc.enable()
    # The last one of each connection that is open.
    assert len(left) <= 3


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1@evil.example", ""])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/", "/admin/"])
def test_an_unknown_host_is_refused(demo: LiveGateway, host: str, path: str) -> None:
    status, body = raw(demo, f"GET {path} HTTP/1.1", f"Host: {host}")
    assert (status, body["error"]["code"]) == (400, "invalid_host")


def test_health_answers_any_host(demo: LiveGateway) -> None:
    for path in ("/health", "/livez", "/readyz"):
        assert raw(demo, f"GET {path} HTTP/1.1", "Host: 10.0.0.7:1337")[0] == 200
    assert demo.http.post("/health").status_code == 405


@pytest.mark.parametrize(
    "path", ["//v1/models", "//evil.example/", "/v1/models\u202e", "/" + "x" * 3000, "/v1/%00", "/v1/%0d%0ax"]
)
def test_odd_paths_are_unknown(demo: LiveGateway, path: str) -> None:
    response = demo.http.get(demo.url + path, headers=demo.auth())
    assert response.status_code == 404
    assert error(response)["code"] == "unknown_url"


@pytest.mark.parametrize(
    "path", ["/v1/nope", "/v1", "/v1/", "/api/Demo/nope", "/backend-api/v2/nope", "/v1/chat/completions/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
def test_unknown_paths_name_what_there_is(demo: LiveGateway, path: str, method: str) -> None:
    response = demo.http.request(method, path, headers=demo.auth())
    assert response.status_code == 404
    found = error(response)
    assert found["code"] == "unknown_url"
    assert "/v1/chat/completions" in found["message"]
    assert demo.http.request(method, path).status_code == 401


def test_what_there_is_is_all_there_is() -> None:
    for route in routes():
        if found := re.match(r"(v1|backend-api/v2)/([a-z_]+)", route.replace(r"(?:v1|api/(?P<provider>[^/]+))", "v1")):
            named = found[0] if found[1] == "v1" else f" {found[2]}"
            assert re.search(rf"{named}\b", SUPPORTED), route


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/chat/completions", "POST"), ("/v1/models", "GET"), ("/v1/providers/Demo", "GET")]
)
def test_methods(demo: LiveGateway, path: str, allowed: str) -> None:
    wrong = demo.http.request("DELETE", path, headers=demo.auth())
    assert wrong.status_code == 405
    assert allowed in wrong.headers["allow"]
    assert error(wrong)["code"] == "method_not_supported"
    options = demo.http.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert allowed in options.headers["allow"]
    head = demo.http.head(path, headers=demo.auth())
    assert head.status_code == (200 if allowed == "GET" else 405)
    assert head.content == b""


def test_methods_that_nobody_knows_and_what_is_no_http(demo: LiveGateway) -> None:
    for first in ("FOO /v1/models", "post /v1/chat/completions", "TRACE /v1/chat/completions", "PROPFIND /"):
        status, body = raw(demo, f"{first} HTTP/1.1", "Host: localhost")
        assert (status, body["error"]["code"], body["error"]["type"]) == (
            501,
            "unknown_method",
            "invalid_request_error",
        )
    for first in ("PRI * HTTP/2.0", "GET /v1/mo dels HTTP/1.1", "CONNECT localhost:443 HTTP/1.1"):
        status, body = raw(demo, first, "Host: localhost")
        assert (status, body["error"]["code"], set(body["error"])) == (400, "invalid_http", ERROR_FIELDS), first


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(demo: LiveGateway, *, chunked: bool) -> None:
    """RFC 9110, 7.8: a server may ignore Upgrade. Its body must not be taken for the other protocol."""
    ask = {**CHAT, "messages": [{"role": "user", "content": "x" * 100_000}]}
    body = json.dumps(ask).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", f"Authorization: Bearer {demo.key}"]
    head += ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    if chunked:
        sent = "\r\n".join([*head, "Transfer-Encoding: chunked", "", ""]).encode()
        sent += b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + 9000]), body[at : at + 9000]) for at in range(0, len(body), 9000)
        )
        sent += b"0\r\n\r\n"
    else:
        sent = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
    after = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    port = int(demo.url.rsplit(":", 1)[1])
    for cuts in ([], [10, 150, 400, 70_000]):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            for begin, end in itertools.pairwise([0, *cuts, len(sent + after)]):
                connection.sendall((sent + after)[begin:end])
                time.sleep(0.02)
            found = b""
            while piece := connection.recv(65536):
                found += piece
        first, second = found.split(b"HTTP/1.1 200 OK")[1:]
        assert b'"chat.completion"' in first
        assert b'"version"' in second


def test_trailing_slashes_and_ids_with_slashes(demo: LiveGateway) -> None:
    demo.add_provider("http://127.0.0.1:9/v1", "org/model:tag", name="Other")
    assert demo.http.get("/v1/models/", headers=demo.auth()).status_code == 200
    assert demo.http.post("/v1/chat/completions/", headers=demo.auth(), json=CHAT).status_code == 200
    assert demo.http.get("/v1/models/org/model:tag", headers=demo.auth()).json()["id"] == "org/model:tag"
    missing = demo.http.get("/v1/models/org/nope", headers=demo.auth())
    assert (missing.status_code, error(missing)["code"], error(missing)["param"]) == (404, "model_not_found", "model")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(demo: LiveGateway, settings: Settings) -> None:
    settings.MAX_BODY_BYTES = 20_000
    big = json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * 20_000}]}).encode()
    for path in ("/v1/chat/completions", "/v1/models", "/accounts/login/"):
        response = demo.http.post(path, headers=demo.auth(), content=big)
        assert (response.status_code, error(response)["code"]) == (413, "request_too_large")
        # Without a length the bytes are counted as they come.
        response = demo.http.post(path, headers=demo.auth(), content=iter([big[:9000], big[9000:]]))
        assert (response.status_code, error(response)["code"]) == (413, "request_too_large")
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: localhost")
    assert raw(demo, *lines, f"Content-Length: {10**20}")[0] in (400, 413)
    assert demo.http.post("/v1/chat/completions", headers=demo.auth(), json=CHAT).status_code == 200


def test_a_length_that_lies_ends_the_connection(demo: LiveGateway) -> None:
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    assert raw(demo, *lines, "Content-Length: 5", body=json.dumps(CHAT).encode())[0] == 400
    assert raw(demo, *lines, "Content-Length: x")[0] == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/accounts/login/"])
def test_a_stalled_body_is_given_up(demo: LiveGateway, settings: Settings, path: str) -> None:
    settings.BODY_STALL_SECONDS = 1
    started = time.monotonic()
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    status, body = raw(demo, *lines, "Content-Length: 500", body=b'{"model":')
    assert (status, body["error"]["code"]) == (408, "request_timeout")
    assert time.monotonic() - started < 5


def test_a_trickling_body_is_given_up(demo: LiveGateway, settings: Settings) -> None:
    settings.BODY_STALL_SECONDS = 1
    port = int(demo.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {demo.key}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n")
        for _ in range(40):
            connection.sendall(b" ")
            time.sleep(0.1)
            connection.setblocking(False)
            try:
                answer = connection.recv(65536)
                break
            except BlockingIOError:
                connection.setblocking(True)
        else:
            pytest.fail("the server waited for ever")
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_half_sent_header_is_given_up(demo: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from g4fsite import server

    monkeypatch.setattr(server, "HEADER_SECONDS", 0.5)
    assert exchange(demo, b"GET /v1/models HTTP/1.1\r\nHost: loc", timeout=5) == b""
    # Line ends between requests, and the rest of a body that was refused, keep no connection either.
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    refused = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
    for first in (head, refused):
        port = int(demo.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(first)
            assert connection.recv(65536).startswith(b"HTTP/1.1")
            with pytest.raises(OSError), contextlib.closing(connection):  # noqa: PT011 - reset or broken pipe
                for _ in range(40):
                    connection.sendall(b"\r\n")
                    time.sleep(0.1)
    # A connection on which a request came through is another matter: it may idle.
    assert b"200 OK" in exchange(demo, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")


@pytest.mark.parametrize(
    "endless",
    [b"a: b\r\n", b"x", b"xxxxxxxxxxxxxxxx"],
)
def test_a_head_without_end_is_refused_while_it_comes(demo: LiveGateway, endless: bytes) -> None:
    port = int(demo.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nx-pad: ")
        sent, answer = 0, b""
        with contextlib.suppress(OSError):
            while sent < 4 * 2**20:
                connection.sendall(endless * (16384 // len(endless)))
                sent += 16384
                time.sleep(0.001)
        with contextlib.suppress(OSError):
            answer = connection.recv(65536)
    assert sent < 2**20
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")


def test_a_trailer_is_no_header(demo: LiveGateway) -> None:
    body = json.dumps(CHAT).encode()
    chunked = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n\r\n" % (len(body), body, demo.key.encode())
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    found = exchange(demo, head + b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n" + chunked)
    assert found.startswith(b"HTTP/1.1 401")


def test_an_answer_before_the_bodys_end_ends_the_connection(demo: LiveGateway) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
    found = exchange(demo, head)
    assert found.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in found.lower()


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Cookie", 'sessionid="\\000abcdefghijkl"', 400),
        ("Content-Type", "multipart/form-data; boundary=x; charset=hex", 415),
        ("Content-Type", "application/x-www-form-urlencoded; charset=undefined", 415),
    ],
)
def test_headers_that_break_frameworks_are_refused(demo: LiveGateway, header: str, value: str, status: int) -> None:
    for path in ("/accounts/login/", "/v1/models", "/admin/"):
        assert demo.http.post(path, headers={header: value}, content=b"x").status_code == status


def test_headers_that_contradict_each_other(demo: LiveGateway) -> None:
    status, body = raw(demo, "GET /v1/models HTTP/1.1", "Host: localhost", "Host: evil.example")
    assert (status, body["error"]["code"]) == (400, "invalid_header")
    assert raw(demo, "GET /v1/models HTTP/1.1", "Host: localhost", "X-Pad: " + "x" * 20_000)[0] in (400, 431)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        (None, 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_content_types(demo: LiveGateway, kind: str | None, status: int) -> None:
    headers = {**demo.auth(), **({"content-type": kind} if kind else {})}
    response = demo.http.post("/v1/chat/completions", headers=headers, content=json.dumps(CHAT))
    assert response.status_code == status
    if status == 415:
        assert error(response)["code"] == "unsupported_media_type"


ORIGIN = "https://app.example"


@pytest.mark.parametrize("door", DOORS)
def test_cors_is_off_by_default(demo: LiveGateway, door: tuple[str, str]) -> None:
    method, path = door
    asked = {"origin": ORIGIN, "access-control-request-method": method}
    assert "access-control-allow-origin" not in demo.http.options(path, headers=asked).headers
    body = CHAT if method == "POST" else None
    response = demo.http.request(method, path, headers={**demo.auth(), "origin": ORIGIN}, json=body)
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("door", DOORS)
def test_a_listed_origin_is_let_in_without_credentials(
    demo: LiveGateway, door: tuple[str, str], settings: Settings
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
    method, path = door
    asked = {"access-control-request-method": method, "access-control-request-headers": "authorization"}
    listed = demo.http.options(path, headers={**asked, "origin": ORIGIN})
    assert listed.status_code == 200
    assert listed.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in listed.headers["access-control-allow-headers"]
    assert "origin" in listed.headers["vary"].lower()
    assert "access-control-allow-credentials" not in listed.headers
    unlisted = demo.http.options(path, headers={**asked, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in unlisted.headers
    body = CHAT if method == "POST" else None
    response = demo.http.request(method, path, headers={**demo.auth(), "origin": ORIGIN}, json=body)
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in response.headers["access-control-expose-headers"]
    refused = demo.http.request(method, path, headers={"origin": ORIGIN}, json=body)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)


def test_without_a_user_only_health_and_setup_answer(gateway: LiveGateway) -> None:
    gateway.reload()
    assert gateway.http.get("/health").status_code == 200
    assert gateway.http.get("/setup/nope/").status_code == 403
    for path in ("/", "/v1/models", "/admin/", "/accounts/login/", "/metrics", "/docs/"):
        response = gateway.http.get(path)
        assert (response.status_code, error(response)["code"]) == (503, "setup_required")
        assert response.headers["x-should-retry"] == "false"


def test_a_bug_is_a_500_with_an_id_and_one_line_of_log(
    demo: LiveGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("gateway.surfaces.openai.consumer.parse_chat", broken)
    monkeypatch.setattr("gateway.surfaces.openai.views.visible_models", broken)
    for method, path in DOORS:
        caplog.clear()
        response = demo.http.request(method, path, headers=demo.auth(), json=CHAT if method == "POST" else None)
        assert response.status_code == 500
        assert "secret detail" not in response.text
        assert response.headers["x-request-id"] in error(response)["message"]
        lines = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(lines) == 1
        assert "a secret detail" in caplog.text


def test_metrics_are_for_staff_and_the_token(demo: LiveGateway, charlie: Any, settings: Settings) -> None:
    settings.METRICS_TOKEN = "a-long-metrics-token"
    assert demo.http.get("/metrics").status_code == 403
    assert demo.http.get("/metrics", headers=demo.auth()).status_code == 403
    for key in (settings.METRICS_TOKEN, demo.make_key(charlie)):
        response = demo.http.get("/metrics", headers=demo.auth(key))
        assert response.status_code == 200
        assert "g4f_requests" in response.text


def test_readiness_tells_what_is_wrong(demo: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo.http.get("/readyz").json() == {"status": "ok", "problems": []}
    monkeypatch.setattr("g4fsite.health.BACKLOG_LIMIT", -1)
    response = demo.http.get("/readyz")
    assert (response.status_code, response.json()["problems"]) == (503, ["usage"])


def test_the_version_is_public(demo: LiveGateway) -> None:
    assert demo.http.get("/version").json()["version"].count(".") == 2


def test_the_schema_and_its_page(demo: LiveGateway) -> None:
    schema = demo.http.get("/schema/", headers=demo.auth()).json()
    assert schema["openapi"].startswith("3.1")
    assert "text/event-stream" in schema["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert "/v1/models" in "".join(schema["paths"])
    assert demo.http.get("/docs/").status_code in (302, 401)


def test_an_error_after_the_start_cuts_the_connection() -> None:
    """No client may take half an answer for a whole one."""
    import asyncio

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def run() -> None:
        scope = {"path": "/v1/x", "headers": [], "method": "GET", "g4f.started": 0.0}
        response = edge.Response(scope, send, "req_1", edge.Body(receive))
        await response.send({"type": "http.response.start", "status": 200, "headers": []})
        with pytest.raises(ConnectionAbortedError):
            await response.error(edge.GatewayError("x"))
        await response.send({"type": "http.response.body", "body": b""})
        await response.error(edge.GatewayError("x"))

    asyncio.run(run())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
