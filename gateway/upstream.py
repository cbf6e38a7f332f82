"""The two calls to providers on the chat path, over aiohttp, with every network fault translated here.

Headers are built from constants and the provider's row; nothing of a caller's request travels in them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDict
from yarl import URL

from gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from gateway.network import is_public, literal_address
from gateway.targets import Endpoint, Target, Timeouts

USER_AGENT = "g4fsite/0.1"
MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
DRAIN_SECONDS = 2.0
# Shorter than servers keep an idle connection (often 5 s), so that none is closed while a request is under way.
KEEP_SECONDS = 4.0
ERROR_BODY_SECONDS = 10.0
T = TypeVar("T")
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `headers` are the provider's; they never reach a caller as they are."""

    status: int
    headers: dict[str, str]
    body: bytes


class PrivateAddress(OSError):
    """A provider's name led to an address that it may not live at."""


class PublicResolver(AbstractResolver):
    """Resolves once and refuses the whole answer when one of its addresses is not public.

    aiohttp connects to what this returns, so the checked address is the one that is used.
    """

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)  # type: ignore[arg-type]
        if not all(is_public(item["host"]) for item in found):
            raise PrivateAddress(f"{host} leads to a private address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


@lru_cache(maxsize=1024)
def _timeout(timeouts: Timeouts, stream: bool) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None if stream else timeouts.total, sock_connect=timeouts.connect)


@lru_cache(maxsize=1024)
def _url(base_url: str, path: str, query: str) -> URL:
    return URL(base_url + path + (f"?{query}" if query else ""), encoded=True)


def _headers(endpoint: Endpoint, credential: str, stream: bool) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(
        {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
    )
    for name, value in endpoint.headers:
        headers[name] = value
    if credential and endpoint.auth_style == "bearer":
        headers["Authorization"] = f"Bearer {credential}"
    elif credential and endpoint.auth_style == "header":
        headers[endpoint.auth_name] = credential
    if any(UNSAFE.search(value) for value in headers.values()):
        raise UpstreamBroken(f"{endpoint.name} is configured with a header that cannot be sent.")
    return headers


def _query(endpoint: Endpoint, credential: str) -> str:
    if credential and endpoint.auth_style == "query":
        extra = str(URL.build(query={endpoint.auth_name: credential}))[1:]
        return f"{endpoint.query}&{extra}" if endpoint.query else extra
    return endpoint.query


class UpstreamStream:
    """An open answer. One timer per stream closes it when the first event, the gap or the total is overdue."""

    def __init__(self, response: aiohttp.ClientResponse, target: Target, begun: float) -> None:
        self._response = response
        self._content = response.content
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._limits = target.endpoint.timeouts
        self._total_at = begun + self._limits.stream_total
        self._overdue_at = begun + self._limits.first_event
        self._overdue = ""
        self._heard = False
        self._arm()

    def _arm(self) -> None:
        self._armed_for = min(self._overdue_at, self._total_at)
        self._timer = self._loop.call_at(self._armed_for, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now < min(self._overdue_at, self._total_at):
            self._arm()
            return
        self._overdue = "took too long" if now >= self._total_at else "fell silent"
        self._response.close()

    async def read(self) -> bytes:
        """What has arrived, at least a byte; empty at the end. Raises UpstreamError."""
        try:
            data = await self._content.readany()
        except (TimeoutError, aiohttp.ClientError, ConnectionError, ValueError) as error:
            if self._overdue:
                raise UpstreamTimeout(f"{self._target.provider} {self._overdue}.") from error
            raise UpstreamBroken(f"{self._target.provider} broke off its answer.") from error
        if self._heard:
            self._overdue_at = self._loop.time() + self._limits.gap
        return data

    def heard(self) -> None:
        """An event was understood: from now on the gap counts. Comments alone do not stop the wait for the first."""
        if not self._heard:
            self._heard = True
            self._overdue_at = self._loop.time() + self._limits.gap
            self._timer.cancel()
            self._arm()

    def finish(self) -> None:
        """Ends a complete answer: the rest is read aside, so that the connection can serve again."""
        self._timer.cancel()
        if self._content.at_eof():
            self._response.release()
            return
        task = self._loop.create_task(self._drain())
        _drains.add(task)
        task.add_done_callback(_drains.discard)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._content.readany():
                    pass
            self._response.release()
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError):
            self._response.close()

    def close(self) -> None:
        """Drops the connection at once: the provider notices and stops working."""
        self._timer.cancel()
        self._response.close()


_drains: set[asyncio.Task[None]] = set()


class Upstream:
    """Connections to providers, kept alive per running loop."""

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bool, aiohttp.ClientSession]] = (
            WeakKeyDictionary()
        )

    def _session(self, guarded: bool) -> aiohttp.ClientSession:
        sessions = self._sessions.setdefault(asyncio.get_running_loop(), {})
        session = sessions.get(guarded)
        if session is None:
            resolver = PublicResolver() if guarded else None
            session = sessions[guarded] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, ttl_dns_cache=30, resolver=resolver, keepalive_timeout=KEEP_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                trust_env=False,
                auto_decompress=False,
            )
        return session

    async def close(self) -> None:
        for session in self._sessions.pop(asyncio.get_running_loop(), {}).values():
            await session.close()

    async def call(self, target: Target, path: str, body: bytes) -> Reply:
        """A plain answer of any status, whole. Raises UpstreamError for faults of the network."""
        response = await self._request(target, path, body, stream=False)
        try:
            limit = MAX_REPLY_BYTES if response.status < 400 else MAX_ERROR_BYTES
            data = await self._translated(target, lambda: _read(response, target, limit))
            return Reply(response.status, dict(response.headers), data)
        finally:
            response.release()

    async def open_stream(self, target: Target, path: str, body: bytes) -> UpstreamStream | Reply:
        """A stream when the status is 200, else the whole answer. Raises UpstreamError."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        first = target.endpoint.timeouts.first_event
        try:
            async with asyncio.timeout(first):
                response = await self._request(target, path, body, stream=True)
        except TimeoutError:
            raise UpstreamTimeout(f"{target.provider} did not begin to answer in {first:g} seconds.") from None
        if response.status == 200:
            return UpstreamStream(response, target, begun)
        try:
            async with asyncio.timeout(ERROR_BODY_SECONDS):
                data = await self._translated(target, lambda: _read(response, target, MAX_ERROR_BYTES))
        except TimeoutError:
            data = b""
        finally:
            response.close()
        return Reply(response.status, dict(response.headers), data)

    async def _request(self, target: Target, path: str, body: bytes, *, stream: bool) -> aiohttp.ClientResponse:
        endpoint = target.endpoint
        url = _url(endpoint.base_url, path, _query(endpoint, target.credential))
        literal = literal_address(url.host or "")
        if not endpoint.allow_private and literal and not is_public(literal):
            raise UpstreamBroken(f"{target.provider} is configured with a private address that is not allowed.")
        # Through a proxy it is the proxy that resolves the name; the proxy itself is the operator's choice.
        session = self._session(guarded=not endpoint.allow_private and not endpoint.proxy)
        headers = _headers(endpoint, target.credential, stream)
        timeout = _timeout(endpoint.timeouts, stream)

        async def send() -> aiohttp.ClientResponse:
            return await session.post(
                url, data=body, headers=headers, proxy=endpoint.proxy, timeout=timeout, allow_redirects=False
            )

        response = await self._translated(target, send)
        coded = response.headers.get("Content-Encoding", "identity").lower()
        if coded not in ("identity", ""):
            response.close()
            raise UpstreamBroken(f"{target.provider} sent a compressed answer though none was asked for.")
        return response

    async def _translated(self, target: Target, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except aiohttp.ServerDisconnectedError as error:
            # Not sent again to the same provider: it may have read the request, and would be paid twice.
            raise UpstreamBroken(f"{target.provider} closed the connection without an answer.") from error
        except (aiohttp.ServerTimeoutError, TimeoutError) as error:
            raise UpstreamTimeout(f"{target.provider} did not answer in time.") from error
        except PrivateAddress as error:
            raise UpstreamBroken(f"{target.provider} leads to a private address that is not allowed.") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PrivateAddress):
                raise UpstreamBroken(f"{target.provider} leads to a private address that is not allowed.") from error
            raise UpstreamBroken(f"{target.provider} cannot be reached.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamBroken(f"The connection to {target.provider} failed.") from error


async def _read(response: aiohttp.ClientResponse, target: Target, limit: int) -> bytes:
    length = response.content_length
    if length is not None and length <= limit:
        return await response.read()
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            response.close()
            if response.status >= 400:
                break
            raise UpstreamBroken(f"{target.provider} sent more than {limit // 2**20} MiB.")
    return b"".join(parts)


upstream = Upstream()

__all__ = ["Reply", "Upstream", "UpstreamError", "UpstreamStream", "upstream"]
