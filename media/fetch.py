"""The one guarded fetcher for addresses that users give: it reaches public servers, and brings back little.

A name is resolved once and all its addresses are checked; one of those is connected to, so that no second look at
the name can lead elsewhere. Redirects go through the same door. Nothing of the environment and nothing of the
caller's travels: no proxies, no cookies, no credentials.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import httptools

from media.addresses import is_odd_address, is_public, literal_address
from media.kinds import settled

PORTS = {"http": 80, "https": 443}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_URL = 8192
MAX_ADDRESSES = 4
MAX_HEAD_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
SPACES = re.compile(r"[\x00-\x20\x7f\\]")
NAME = re.compile(r"[a-z0-9._-]{1,253}\Z")
# A name server that does not answer keeps a thread for seconds: not one of those that the rest of the server needs.
_RESOLVERS = ThreadPoolExecutor(8, thread_name_prefix="fetch-names")

Resolve = Callable[[str, int], Awaitable[list[str]]]


class FetchError(Exception):
    """Why there is no such file, in a sentence for whoever gave the address."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Rules:
    """`seconds` is for everything, redirects included. `private_hosts`: names that may lead to private addresses."""

    ports: frozenset[int] = frozenset(PORTS.values())
    max_bytes: int = 25 * 1024 * 1024
    seconds: float = 20
    max_redirects: int = 3
    private_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fetched:
    """`mime_type` is what the bytes are; a declared type only tells texts apart."""

    mime_type: str
    data: bytes = field(repr=False)


class Budget:
    """Bytes that several files may have together."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, count: int) -> None:
        """Raises FetchError once they are used up."""
        self._left -= count
        if self._left < 0:
            raise FetchError("All files together are too large.")


class Place(NamedTuple):
    """A checked URL. `host` is what servers and certificates call it, in ASCII."""

    scheme: str
    host: str
    port: int
    resource: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def resolved(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises OSError or UnicodeError."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_RESOLVERS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def fetch(
    url: str, accepted: Container[str], rules: Rules, budget: Budget | None = None, resolve: Resolve = resolved
) -> Fetched:
    """The file behind an http(s) URL if it is of an accepted type. Raises FetchError."""
    try:
        async with asyncio.timeout(rules.seconds):
            response = await _followed(url, rules, budget or Budget(rules.max_bytes), resolve)
    except TimeoutError:
        raise FetchError(f"The file did not come within {rules.seconds:g} seconds.") from None
    data = b"".join(response.parts)
    kind = settled(data, response.header(b"content-type"))
    if kind is None or kind not in accepted:
        raise FetchError(f"The address leads to {kind or 'something'} that is not accepted here.")
    return Fetched(kind, data)


async def _followed(url: str, rules: Rules, budget: Budget, resolve: Resolve) -> _Response:
    for _ in range(rules.max_redirects + 1):
        place = placed(url, rules)
        response = await _asked(place, await _addresses(place, rules, resolve), rules, budget)
        location = response.header(b"location")
        if response.status in REDIRECTS and location:
            url = _joined(url, location)
            if place.scheme == "https" and not url.lower().startswith("https:"):
                raise FetchError("The server redirects from https to something less.")
            continue
        if response.status != 200:
            raise FetchError(f"The server answered with status {response.status}.")
        return response
    raise FetchError(f"There are more than {rules.max_redirects} redirects.")


def placed(url: str, rules: Rules) -> Place:
    """Raises FetchError for everything but a plain address that the rules allow."""
    if len(url) > MAX_URL or SPACES.search(url):
        raise FetchError("The address holds spaces, control characters or backslashes, or is too long.")
    try:
        parts = urlsplit(url)
        scheme, port, name = parts.scheme, parts.port, parts.hostname or ""
    except ValueError:
        raise FetchError("The address is not a URL.") from None
    if scheme not in PORTS or not name:
        raise FetchError("The address must begin with http:// or https:// and a host.")
    if "@" in parts.netloc:
        raise FetchError("The address must not hold credentials.")
    port = PORTS[scheme] if port is None else port
    if port not in rules.ports:
        raise FetchError(f"Port {port} is not allowed.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
    return Place(scheme, _host(name), port, f"{path}?{query}" if query else path)


def _host(name: str) -> str:
    """In ASCII and lower case, so that what is checked is what is resolved. Raises FetchError."""
    try:
        host = name.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        raise FetchError("The host is not a name.") from None
    if "%" not in host and (address := literal_address(host)):
        return address
    if not NAME.match(host) or is_odd_address(host):
        raise FetchError("The host is not a name, or an address in an unusual spelling.")
    return host


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise FetchError("The server redirects to something that is not a URL.") from None


async def _addresses(place: Place, rules: Rules, resolve: Resolve) -> list[str]:
    """Where the host is, every one of its addresses checked. Raises FetchError."""
    if literal_address(place.host):
        found = [place.host]
    else:
        try:
            found = await resolve(place.host, place.port)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise FetchError("The host cannot be found.")
    if place.host not in rules.private_hosts and not all(is_public(address) for address in found):
        raise FetchError("The address leads into a private network.")
    return found[:MAX_ADDRESSES]


async def _asked(place: Place, addresses: list[str], rules: Rules, budget: Budget) -> _Response:
    reader, writer = await _connected(place, addresses)
    try:
        writer.write(
            f"GET {place.resource} HTTP/1.1\r\nhost: {place.authority}\r\nuser-agent: g4fsite\r\naccept: */*\r\n"
            "accept-encoding: identity\r\nconnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        response = _Response(rules.max_bytes)
        while not response.over:
            data = await reader.read(READ_BYTES)
            before = response.size
            response.feed(data)
            budget.take(response.size - before)
        return response
    except OSError:
        raise FetchError("The connection broke off.") from None
    finally:
        writer.transport.abort()


async def _connected(place: Place, addresses: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first address that takes the call; the certificate has to be the name's. Raises FetchError."""
    secure = place.scheme == "https"
    for address in addresses:
        try:
            return await asyncio.open_connection(
                address, place.port, ssl=_tls() if secure else None, server_hostname=place.host if secure else None
            )
        except ssl.SSLCertVerificationError:
            raise FetchError("The server's certificate is not trusted.") from None
        except OSError:
            continue
    raise FetchError("The server cannot be reached.")


class _Response:
    """One answer as it comes in. Nobody waits for the body of a redirect or an error: it is over with its head."""

    def __init__(self, max_bytes: int) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.size = 0
        self.over = False
        self._max_bytes = max_bytes
        self._head_bytes = 0
        self._headed = False
        self._framed = False
        self._parser = httptools.HttpResponseParser(self)

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    def feed(self, data: bytes) -> None:
        """Takes what has arrived; empty at the connection's end. Raises FetchError."""
        if not data:
            self._end()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise FetchError("The server does not speak HTTP.") from None
        if not self._headed:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise FetchError("The server does not speak HTTP.")
        if self._headed and self.status == 200:
            self._check()
        elif self._headed:
            self.over = True

    def _check(self) -> None:
        length = self.header(b"content-length")
        if self.size > self._max_bytes or (length.isdigit() and int(length[:20]) > self._max_bytes):
            raise FetchError(f"The file is larger than {self._max_bytes} bytes.")
        if self.header(b"content-encoding").lower() not in ("", "identity"):
            raise FetchError("The server sent a compressed answer, though none was asked for.")

    def _end(self) -> None:
        if not self._headed or self._framed:
            raise FetchError("The connection broke off.")
        self.over = True

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        # Later ones are trailers.
        if not self._headed:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self._headed = True
            self._framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def on_body(self, data: bytes) -> None:
        if self.status == 200 and not self.over:
            self.parts.append(data)
            self.size += len(data)

    def on_message_complete(self) -> None:
        if self._headed:
            self.over = True
        else:
            # An interim answer (1xx): the real one follows.
            self.headers = []
