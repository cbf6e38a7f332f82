"""What every HTTP request passes before any app sees it: identity, limits, Host, CORS, and the last resort.

A plain ASGI wrapper, because Django's own checks come after it has taken in a whole body, and because the
streamed routes never reach Django.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import chain

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host

from g4fsite.draining import draining
from g4fsite.runtime import runtime
from gateway.errors import BadRequest, GatewayError, ServerStopping, Unavailable
from gateway.snapshot import store
from gateway.surfaces.anthropic import errors as anthropic_errors
from gateway.surfaces.exchange import Connection, Exchange, Message, Receive, Scope, Send
from gateway.surfaces.openai.errors import error_bytes, error_headers, unknown_url

log = logging.getLogger("g4fsite.request")

App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH_PATHS = {"/health", "/livez", "/readyz"}
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
# Reachable before the first user exists; everything else waits for the setup.
SETUP_PREFIXES = ("/setup/", "/static/")
MAX_PATH = 2048
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 200
MIN_BYTES_PER_SECOND = 4096
LAST_WORD_SECONDS = 1.0
# The random parts of so many requests' names are fetched at once: each fetch is a system call.
NAMES_AT_ONCE = 256
# Controls, and characters that reverse or hide text in logs.
BAD_PATH = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufffd]")
# Django undoes octal escapes in quoted cookies, and its sessions then meet a NUL.
ODD_COOKIE = re.compile(rb"\\[0-3][0-7]{2}")
CHARSET = re.compile(rb"(?i);\s*charset\s*=\s*\"?([^\s;\"]*)")
CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin-1")
CREDENTIAL_HEADERS = (b"authorization", b"g4f-api-key", b"x-api-key", b"cookie")
# Paths whose answers say how long they took.
TIMED = ("/v1", "/api/")
PLAIN_HEADERS = [*Exchange.plain_headers]
USUAL_LINES = b"".join(b"%b: %b\r\n" % header for header in PLAIN_HEADERS)
USUAL_LINES += b"x-content-type-options: nosniff\r\nx-request-id: %b\r\n"
TIMED_LINES = USUAL_LINES + b"openai-processing-ms: %d\r\n"
SINGLE_HEADERS = frozenset((b"host", b"content-length", b"content-type", b"origin"))


class Body:
    """Counts a request's body as it arrives: at most so many bytes, never stalled, never at a trickle.

    A body that breaks a rule ends for the app as if the client had left, which every app handles; the edge
    then answers with `problem`.
    """

    __slots__ = ("_connection", "_receive", "_size", "_started", "announced", "done", "problem")

    def __init__(self, receive: Receive, connection: Connection | None = None) -> None:
        self.problem: BadRequest | None = None
        self.done = False
        # Whether the size was known, and small enough, before the first byte.
        self.announced = False
        self._size = 0
        self._connection = connection
        self._receive = receive
        self._started = time.monotonic()

    async def receive(self) -> Message:
        if self.done:
            return await self._receive()
        try:
            return await self._counted()
        except BadRequest as error:
            self.problem = error
            return {"type": "http.disconnect"}

    def arrived(self) -> bytes | None:
        """The whole of it, where our server has it and nobody has read any; None: `receive`."""
        if self.done or self._size or not self.announced or self._connection is None:
            return None
        body = self._connection.taken()
        self.done = body is not None
        return body

    async def _counted(self) -> Message:
        """Raises BadRequest 413 or 408."""
        if self._connection is not None and self._connection.has_message():
            # Most bodies arrive with their head: no timer for those.
            message = await self._receive()
        else:
            message = await self._in_time()
        self._size += len(message.get("body", b""))
        self.done = not message.get("more_body", False)
        if not self.announced and self._size > settings.MAX_BODY_BYTES:
            raise too_large()
        if not self.done:
            self._check_pace()
        return message

    def _check_pace(self) -> None:
        late = time.monotonic() - self._started - settings.BODY_STALL_SECONDS
        if late > 0 and self._size < late * MIN_BYTES_PER_SECOND:
            raise BadRequest("The request's body arrives too slowly.", status=408, code="request_timeout")

    async def _in_time(self) -> Message:
        try:
            async with asyncio.timeout(settings.BODY_STALL_SECONDS):
                return await self._receive()
        except TimeoutError:
            raise BadRequest("The request's body stopped arriving.", status=408, code="request_timeout") from None


def too_large() -> BadRequest:
    return BadRequest(
        f"The request's body is larger than {settings.MAX_BODY_BYTES} bytes.", status=413, code="request_too_large"
    )


_names: list[str] = []
os.register_at_fork(after_in_child=_names.clear)


def new_request_id() -> str:
    """The time comes first, so that rows are added at the end of the index by which they are unique."""
    try:
        name = _names.pop()
    except IndexError:
        drawn = os.urandom(10 * NAMES_AT_ONCE).hex()
        _names.extend(drawn[at : at + 20] for at in range(20, len(drawn), 20))
        name = drawn[:20]
    return f"req_{int(time.time() * 1000):012x}{name}"


class Edge:
    """`direct`: apps by the whole path that leads to them, which are found without `app`'s routing."""

    def __init__(self, app: App, direct: Mapping[str, App] | None = None) -> None:
        self._app = app
        self._direct = direct or {}
        self._hosts: set[bytes] = set()
        self._paths: set[str] = set()
        self._under_way = 0
        self._max_under_way = settings.MAX_REQUESTS or sys.maxsize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (self._open if scope["type"] == "websocket" else self._app)(scope, receive, send)
            return
        request_id = new_request_id()
        connection: Connection | None = scope.get("g4f.connection")
        if connection is None:
            # Our server has done it: Django joins names by underscore, so `x_api_key` would count as `x-api-key`.
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if b"_" not in name]}
        body = Body(receive, connection)
        response = Response(scope, send, request_id, body, connection)
        scope["g4f.request_id"] = request_id
        scope["g4f.started"] = time.perf_counter()
        scope["g4f.edge"] = response
        self._under_way += 1
        try:
            if self._under_way > self._max_under_way and scope["path"] not in HEALTH_PATHS:
                raise Unavailable("The server has as many requests under way as it takes.", code="overloaded")
            if not runtime.started:
                await runtime.ensure_started()
            self._check(scope, body)
            app = self._direct.get(scope["path"])
            if scope["method"] == "OPTIONS" and (preflight := _preflight(scope)) is not None:
                await response.whole(preflight.status_code, [], b"")
                return
            if app is None:
                await self._app(scope, body.receive, response.send)
            else:
                scope["url_route"] = {"args": (), "kwargs": {}}
                await app(scope, body.receive, response.send)
            if body.problem is not None:
                await response.error(body.problem)
        except GatewayError as error:
            await response.error(error)
        except asyncio.CancelledError:
            # Only a server that stops cancels. A caller who does not read must not hold it up any longer.
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await response.error(ServerStopping())
        except Exception:
            log.exception("request failed", extra={"request_id": request_id, "path": scope["path"]})
            await response.error(
                GatewayError(f"The server had an error. Its log has it under {request_id}.", code="internal_error")
            )
        finally:
            self._under_way -= 1
            # Else the two would keep each other until the collector comes.
            scope.pop("g4f.edge", None)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket, or an answer in its place: it is refused before it is open."""
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if b"_" not in name]}
        scope["g4f.request_id"] = request_id = new_request_id()
        try:
            if not runtime.started:
                await runtime.ensure_started()
            if draining.closing:
                raise ServerStopping
            self._check_headers(scope)
            if not store.current.has_users:
                raise Unavailable("This server has no user yet.", code="setup_required", should_retry=False)
            await self._app(scope, receive, send)
        except GatewayError as error:
            error.named(request_id)
            headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
            headers += [(b"cache-control", b"no-store"), *error_headers(error)]
            await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": error_bytes(error)})

    def _check(self, scope: Scope, body: Body) -> None:
        path = scope["path"]
        if scope["method"] not in METHODS:
            raise BadRequest("This server knows no such method.", status=501, code="unknown_method", should_retry=False)
        if path in HEALTH_PATHS:
            return
        body.announced = self._check_headers(scope)
        if path not in self._paths:
            if path.startswith("//") or len(path) > MAX_PATH or BAD_PATH.search(path):
                raise unknown_url(scope["method"], ascii(path)[1:-1])
            if path in self._direct:
                self._paths.add(path)
        if not store.current.has_users and not path.startswith(SETUP_PREFIXES):
            raise Unavailable(
                "This server has no user yet. Open the setup link that it printed when it started.",
                code="setup_required",
                should_retry=False,
            )

    def _check_headers(self, scope: Scope) -> bool:
        """Whether they say how long the body is."""
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS:
            raise BadRequest("The request has too many headers.", status=431, code="headers_too_large")
        # What our server read with its head may already say that it is small.
        most = scope.get("g4f.head_bytes", sys.maxsize)
        if most > MAX_HEADER_BYTES and len(b"".join(chain.from_iterable(headers))) > MAX_HEADER_BYTES:
            raise BadRequest("The request's headers are too large.", status=431, code="headers_too_large")
        seen = scope.get("g4f.headers")
        if seen is None:
            seen = dict(headers)
            if len(seen) != len(headers):
                _check_repeated(headers)
            else:
                scope["g4f.headers"] = seen
        if b"cookie" in seen and any(name == b"cookie" and ODD_COOKIE.search(value) for name, value in headers):
            raise BadRequest("A cookie holds an escaped control character.", code="invalid_header")
        host = seen.get(b"host", b"")
        if host not in self._hosts:
            self._check_host(host)
        scope["g4f.content_type"] = kind = seen.get(b"content-type", b"")
        charset = CHARSET.search(kind) if kind != b"application/json" else None
        if charset and charset.group(1).lower() not in CHARSETS:
            raise BadRequest("Unsupported charset; send UTF-8.", status=415, code="unsupported_media_type")
        length = seen.get(b"content-length")
        if length is None:
            return False
        if not length.isdigit():
            raise BadRequest("Content-Length is not a number.", code="invalid_header")
        if len(length) > 18 or int(length) > settings.MAX_BODY_BYTES:
            raise too_large()
        return b"transfer-encoding" not in seen

    def _check_host(self, host: bytes) -> None:
        domain, _ = split_domain_port(host.decode("latin-1"))
        if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
            raise BadRequest("Unknown Host. The operator lists the allowed ones in ALLOWED_HOSTS.", code="invalid_host")
        if len(self._hosts) < 1000:
            self._hosts.add(host)


def _check_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    """Raises BadRequest when a header that has one value came with two."""
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in SINGLE_HEADERS and seen.setdefault(name, value) != value:
            raise BadRequest(f"The header {name.decode()} was sent twice.", code="invalid_header")


class Response:
    """Adds what every response carries, and knows whether an error can still become a status."""

    __slots__ = ("_body", "_connection", "_over", "_request_id", "_send", "_started", "scope")

    def __init__(
        self, scope: Scope, send: Send, request_id: str, body: Body, connection: Connection | None = None
    ) -> None:
        self.scope = scope
        self._started = False
        self._over = False
        self._connection = connection
        self._body = body
        self._send = send
        self._request_id = request_id.encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            message["headers"] = self._headers(message.get("headers", ()))
        elif not message.get("more_body"):
            self._over = True
        await self._send(message)

    def arrived(self) -> bytes | None:
        """The whole body of the request, where it is here."""
        return self._body.arrived()

    def sent_whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """An answer in one piece, where the connection is our own server's; False when it must go as messages."""
        connection = self._connection
        if connection is None or self._started:
            return False
        if status == 200 and self._body.done and headers == PLAIN_HEADERS and not _origin(self.scope):
            sent = connection.good(self._usual_lines(), body)
        else:
            sent = connection.whole(status, self._headers(headers), body)
        self._started = self._over = sent
        return sent

    def _usual_lines(self) -> bytes:
        """What `_headers` comes to for most answers."""
        if not self.scope["path"].startswith(TIMED):
            return USUAL_LINES % self._request_id
        return TIMED_LINES % (self._request_id, self._elapsed())

    def _elapsed(self) -> float:
        """Milliseconds."""
        begun: float = self.scope["g4f.started"]
        return (time.perf_counter() - begun) * 1000

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        names = {name.lower() for name, _ in headers}
        headers.append((b"x-request-id", self._request_id))
        if b"x-content-type-options" not in names:
            headers.append((b"x-content-type-options", b"nosniff"))
        if b"openai-processing-ms" not in names and self.scope["path"].startswith(TIMED):
            headers.append((b"openai-processing-ms", b"%d" % self._elapsed()))
        if not self._body.done and _has_body(self.scope) and b"connection" not in names:
            # The rest of the body will not be read, and must not be taken for the next request's time.
            headers.append((b"connection", b"close"))
        if b"cache-control" not in names and any(n in CREDENTIAL_HEADERS for n, _ in self.scope["headers"]):
            headers.append((b"cache-control", b"no-store"))
        return headers + _cors(self.scope) if _origin(self.scope) else headers

    async def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body})

    async def error(self, error: GatewayError) -> None:
        if self._over:
            return
        if self._started:
            # Too late for a status: the connection is cut, so that no client takes the rest for whole.
            if self._connection is not None:
                self._connection.cut()
                return
            raise ConnectionAbortedError("the answer broke off")
        error.named(self._request_id.decode())
        error.request_id = self._request_id.decode()
        known = anthropic_errors.speaks_anthropic(self.scope["path"])
        more = anthropic_errors.message_error_headers(error) if known else error_headers(error)
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *more]
        await self.whole(error.status, headers, anthropic_errors.error_bytes(error) if known else error_bytes(error))


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


_cors_rules = CorsMiddleware(lambda _: HttpResponse())


def _plain_request(scope: Scope) -> HttpRequest:
    request = HttpRequest()
    request.method, request.path, request.path_info = scope["method"], scope["path"], scope["path"]
    for name, value in scope["headers"]:
        if name in (b"origin", b"host", b"access-control-request-method", b"access-control-request-private-network"):
            key = name.decode().upper().replace("-", "_")
            request.META[key if key == "HOST" else f"HTTP_{key}"] = value.decode("latin-1")
    return request


def _origin(scope: Scope) -> bool:
    """Whether the caller is a page of another origin, and the operator allows some."""
    seen = scope.get("g4f.headers")
    found = any(name == b"origin" for name, _ in scope["headers"]) if seen is None else b"origin" in seen
    return found and bool(settings.CORS_ALLOWED_ORIGINS)


def _preflight(scope: Scope) -> HttpResponse | None:
    """django-cors-headers' own answer to a pre-flight; None for other requests with OPTIONS."""
    if not _origin(scope):
        return None
    return _cors_rules.check_preflight(_plain_request(scope))  # type: ignore[return-value]


def _cors(scope: Scope) -> list[tuple[bytes, bytes]]:
    request, response = _plain_request(scope), HttpResponse()
    # The middleware leaves this mark on a request for itself.
    vars(request)["_cors_enabled"] = _cors_rules.is_enabled(request)
    _cors_rules.add_response_headers(request, response)
    return [
        (name.lower().encode(), value.encode())
        for name, value in response.headers.items()
        if name.lower() != "content-type"
    ]
