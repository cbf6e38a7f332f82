"""What goes out to a provider, and where to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.errors import Unavailable, UpstreamBroken, UpstreamError, UpstreamTimeout
from gateway.targets import Timeouts
from gateway.upstream import Upstream
from tests.support.calls import BODY, Ask, Run, target, whole
from tests.support.peer import Connection, peer

# What aiohttp says of large bodies; a caller's body is bounded.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@contextlib.asynccontextmanager
async def deaf(say: bytes = b"", close: bool = False) -> Any:
    """A listener that reads the beginning of a request and then no more."""
    held: list[Any] = []

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            held.append(transport)

        def data_received(self, data: bytes) -> None:
            self.transport.pause_reading()
            if say:
                self.transport.write(say)
            if close:
                self.transport.close()

    server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", held
    finally:
        server.close()
        for transport in held:
            transport.abort()


LARGE = b"x" * 32_000_000


def test_a_provider_that_does_not_read_the_request_is_504(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        async with deaf() as (url, _):
            begun = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await ask(client, target(url, timeouts=Timeouts(total=0.5, first_event=0.5)), LARGE)
            assert time.monotonic() - begun < 1.5

    run(scenario)


def test_an_answer_before_the_request_was_read_counts(run: Run, ask: Ask) -> None:
    """413 while the body is still on its way: it is told, and the connection does not serve again."""
    refusal = whole(b'{"error": {"message": "too large"}}', b"413 Content Too Large")

    async def scenario(client: Upstream) -> None:
        async with deaf(refusal) as (url, held):
            for _ in range(2):
                status, body = await ask(client, target(url, timeouts=Timeouts(total=3, first_event=3)), LARGE)
                assert (status, b"too large" in body) == (413, True)
            assert len(held) == 2

    run(scenario)


def test_an_answer_and_a_close_before_the_request_was_read(run: Run, ask: Ask) -> None:
    """The reset may overtake the answer: then it is a broken connection, and never a wait."""
    refusal = whole(b"no", b"413 Content Too Large", b"Connection: close")

    async def scenario(client: Upstream) -> None:
        async with deaf(refusal, close=True) as (url, _):
            begun = time.monotonic()
            with contextlib.suppress(UpstreamBroken):
                assert (await ask(client, target(url), LARGE))[0] == 413
            assert time.monotonic() - begun < 2

    run(scenario)


def test_a_large_request_arrives_whole(run: Run, ask: Ask) -> None:
    async def length(connection: Connection) -> None:
        await connection.send(whole(b"%d" % len(connection.bodies[-1])))

    async def scenario(client: Upstream) -> None:
        async with peer(length) as found:
            for size in (0, 1, 70_000, len(LARGE)):
                assert await ask(client, target(found), LARGE[:size]) == (200, b"%d" % size)
            assert len(found.connections) == 1

    run(scenario)


def test_what_goes_out(run: Run, ask: Ask) -> None:
    """One Host, one length, our own agent, no cookies, no coding, and the operator's headers and query."""

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok", b"200 OK", b"Set-Cookie: a=b; Path=/")) as found:
            made = target(found, headers=(("X-Team", "blue"), ("User-Agent", "ours/1")), query="v=1&w=a%2Fb")
            for _ in range(2):
                assert await ask(client, made) == (200, b"ok")
            port = found.base_url.split(":")[2].split("/")[0]
            for head in found.connections[0].heads:
                first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
                fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
                assert first == "POST /v1/chat/completions?v=1&w=a%2Fb HTTP/1.1"
                assert len(fields) == len(dict(fields))
                sent = dict(fields)
                assert sent["host"] == f"127.0.0.1:{port}"
                assert sent["content-length"] == str(len(BODY))
                assert sent["authorization"] == "Bearer sk-upstream-credential"
                assert (sent["x-team"], sent["user-agent"]) == ("blue", "ours/1")
                assert sent["accept-encoding"] == "identity"
                assert not sent.keys() & {"cookie", "expect", "transfer-encoding", "te", "upgrade"}

    run(scenario)


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "a\rb", "a\x00b", "a\x7fb"])
def test_a_header_that_cannot_be_sent_is_not_sent(run: Run, ask: Ask, value: str) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok")) as found:
            with pytest.raises(UpstreamBroken):
                await ask(client, target(found, headers=(("X-Team", value),)))
            assert not found.connections

    run(scenario)


def test_an_ipv6_address(run: Run, ask: Ask) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok"), host="::1") as found:
            assert await ask(client, target(found)) == (200, b"ok")
            assert b"\r\nhost: [::1]:" in found.connections[0].heads[0].lower()

    run(scenario)


def test_a_proxy_gets_the_whole_url(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok")) as found:
            proxy = found.base_url.removesuffix("/v1")
            made = target("http://models.example/v1", proxy=proxy, allow_private=False)
            assert await ask(client, made) == (200, b"ok")
            head = found.connections[0].heads[0]
            assert head.startswith(b"POST http://models.example/v1/chat/completions HTTP/1.1\r\n")
            assert b"\r\nhost: models.example\r\n" in head.lower()

    run(scenario)


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Whatever wants to open one meanwhile fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_limit_of_open_files_is_no_fault_of_the_providers(run: Run, ask: Ask) -> None:
    """503, and the breaker, which hears of UpstreamErrors, does not hear of it."""

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok")) as found:
            with no_more_files(), pytest.raises(Unavailable) as caught:
                await ask(client, target(found))
            assert (caught.value.status, caught.value.code) == (503, "overloaded")
            assert await ask(client, target(found)) == (200, b"ok")

    run(scenario)


def test_a_name_that_moves_inside_is_refused_at_use(run: Run, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the address that is used, whatever the name says a moment later."""

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok")) as found:
            port = int(found.base_url.split(":")[2].split("/")[0])
            asked = []

            async def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
                asked.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
            with pytest.raises(UpstreamError, match="private address"):
                await ask(client, target(f"http://models.example:{port}/v1", allow_private=False))
            assert asked
            assert not found.connections

    run(scenario)
