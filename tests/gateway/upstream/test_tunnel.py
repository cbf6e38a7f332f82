"""Through an operator's HTTP proxy to a provider that speaks TLS: what each of the two learns, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from gateway.targets import Target, Timeouts
from gateway.upstream import Upstream, UpstreamStream, pool
from tests.support.calls import BODY, HEAD, PATH, POISON, Ask, Run, chunked, target, whole
from tests.support.certificates import Authority
from tests.support.connect_proxy import ESTABLISHED, ConnectProxy, connect_proxy
from tests.support.peer import Connection, Peer, peer, say_nothing

NAME = "models.example"
PASSWORD = "p@ss:wörd"
PAIR = f"ops:{PASSWORD}"
USER_INFO = "ops:p%40ss%3Aw%C3%B6rd"
# A name that only the proxy can resolve, on the port that a URL of https need not say.
ROUTE = f"{NAME}:443"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """Whose certificates this process trusts while the test runs."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path))
    pool._tls.cache_clear()
    yield made
    pool._tls.cache_clear()


def port_of(found: Peer) -> int:
    return int(found.base_url.split(":")[2].split("/")[0])


def through(port: int, user_info: str = USER_INFO, scheme: str = "http", **more: Any) -> Target:
    """A public provider behind a proxy on this machine: the proxy is the operator's word, the name is not looked up."""
    at = f"{user_info}@" if user_info else ""
    proxy = f"{scheme}://{at}127.0.0.1:{port}"
    return target(f"https://{NAME}/v1", **{"proxy": proxy, "allow_private": False, **more})


def lines_of(head: bytes) -> dict[bytes, bytes]:
    _, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    assert len(dict(fields)) == len(fields)
    return dict(fields)


def check_heads(proxy: ConnectProxy, provider: Connection) -> None:
    """Each of the two gets its own credentials and nothing of the other's."""
    [head] = proxy.heads
    assert head.startswith(f"CONNECT {ROUTE} HTTP/1.1\r\n".encode())
    assert lines_of(head).keys() == {b"host", b"proxy-authorization"}
    assert lines_of(head)[b"host"] == ROUTE.encode()
    for head in provider.heads:
        assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert lines_of(head)[b"authorization"] == b"Bearer sk-upstream-credential"
        assert lines_of(head)[b"host"] == NAME.encode()
        assert b"proxy" not in head.lower()
    assert b"sk-upstream" not in b"".join(proxy.heads) + proxy.seen


@pytest.mark.parametrize("answer", [whole(b"over tls"), chunked(b"over", b" tls")], ids=["length", "chunked"])
def test_a_tunnel_serves_again_and_again(run: Run, ask: Ask, authority: Authority, answer: bytes) -> None:
    async def scenario(client: Upstream) -> None:
        async with (
            peer(answer, tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy,
        ):
            for _ in range(3):
                assert await ask(client, through(proxy.port)) == (200, b"over tls")
            [connection] = found.connections
            assert connection.bodies == [BODY] * 3
            check_heads(proxy, connection)

    run(scenario)


def test_the_proxy_may_be_spoken_to_by_tls(run: Run, ask: Ask, authority: Authority) -> None:
    """TLS within TLS: the outer certificate is the proxy's, the inner one the provider's."""

    async def scenario(client: Upstream) -> None:
        async with (
            peer(whole(b"inner"), tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR, tls=authority.server()) as proxy,
        ):
            for _ in range(2):
                assert await ask(client, through(proxy.port, scheme="https")) == (200, b"inner")
            assert len(found.connections) == 1
            check_heads(proxy, found.connections[0])

    run(scenario)


def test_large_bodies_pass_both_ways(run: Run, ask: Ask, authority: Authority) -> None:
    async def echo(connection: Connection) -> None:
        await connection.send(whole(connection.bodies[-1]))

    body = bytes(range(256)) * 20_000

    async def scenario(client: Upstream) -> None:
        async with (
            peer(echo, tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy,
        ):
            assert await ask(client, through(proxy.port), body) == (200, body)
            assert await ask(client, through(proxy.port)) == (200, BODY)
            assert len(proxy.heads) == 1

    run(scenario)


def test_many_at_once_have_tunnels_of_their_own(run: Run, ask: Ask, authority: Authority) -> None:
    async def echo(connection: Connection) -> None:
        await asyncio.sleep(0.02)
        await connection.send(whole(connection.bodies[-1]))

    async def scenario(client: Upstream) -> None:
        async with (
            peer(echo, tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy,
        ):
            for _ in range(2):
                marks = [b"mark-%d" % number for number in range(20)]
                said = await asyncio.gather(*(ask(client, through(proxy.port), mark) for mark in marks))
                assert said == [(200, mark) for mark in marks]
            assert len(proxy.heads) == len(found.connections) == 20

    run(scenario)


@pytest.mark.parametrize(
    "said",
    [
        whole(b"who?", b"407 Proxy Authentication Required", b"Proxy-Authenticate: Basic realm=x"),
        whole(b"<html>no</html>", b"403 Forbidden", b"Content-Type: text/html"),
        whole(b"", b"502 Bad Gateway"),
        whole(b"", b"302 Found", b"Location: https://elsewhere.example/"),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"",
    ],
    ids=["407", "403", "502", "302", "101", "cut", "tls-alert", "ssh", "endless", "closed"],
)
def test_a_refused_tunnel_is_502(run: Run, ask: Ask, authority: Authority, said: bytes) -> None:
    """Neither the provider's key nor the request is told to a proxy that does not connect."""

    async def refuse(connection: Connection) -> None:
        await connection.send(said)
        connection.writer.write_eof()

    async def scenario(client: Upstream) -> None:
        async with peer(refuse) as proxy:
            for _ in range(2):
                with pytest.raises(UpstreamBroken) as caught:
                    await ask(client, through(port_of(proxy)))
                assert (caught.value.status, caught.value.code) == (502, "provider_not_working")
                assert caught.value.message == "Acme cannot be reached."
            assert len(proxy.connections) == 2
            for connection in proxy.connections:
                await asyncio.wait_for(connection.lost.wait(), 1)
                assert len(connection.heads) == 1
                assert b"sk-upstream" not in connection.heads[0]

    run(scenario)


@pytest.mark.parametrize("user_info", ["", "ops", "ops:wrong", "%00%0d%0a:x"])
def test_wrong_credentials_of_the_proxy_are_502(run: Run, ask: Ask, authority: Authority, user_info: str) -> None:
    async def scenario(client: Upstream) -> None:
        async with (
            peer(whole(b"no"), tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy,
        ):
            with pytest.raises(UpstreamBroken, match=r"^Acme cannot be reached\.$"):
                await ask(client, through(proxy.port, user_info))
            assert len(proxy.heads) == 1
            assert lines_of(proxy.heads[0]).keys() <= {b"host", b"proxy-authorization"}
            assert not found.connections

    run(scenario)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", ESTABLISHED], ids=["mute", "interim", "tls"])
def test_a_proxy_that_falls_silent_is_504(run: Run, ask: Ask, authority: Authority, said: bytes) -> None:
    async def act(connection: Connection) -> None:
        await connection.send(said)
        await say_nothing(connection)

    async def scenario(client: Upstream) -> None:
        async with peer(act) as proxy:
            begun = time.monotonic()
            with pytest.raises(UpstreamTimeout) as caught:
                await ask(client, through(port_of(proxy), timeouts=Timeouts(connect=0.4)))
            assert caught.value.status == 504
            assert time.monotonic() - begun < 1.5
            await asyncio.wait_for(proxy.connections[0].lost.wait(), 1)

    run(scenario)


@pytest.mark.parametrize("wrong", ["authority", "name", "date"])
def test_another_certificate_behind_the_proxy_hears_nothing(
    run: Run, ask: Ask, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "other").mkdir()
    signer = Authority(tmp_path / "other") if wrong == "authority" else authority
    tls = signer.server("other.example" if wrong == "name" else NAME, -1 if wrong == "date" else 9)

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"no"), tls=tls) as found, connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy:
            with pytest.raises(UpstreamBroken):
                await ask(client, through(proxy.port))
            assert len(proxy.heads) == 1
            assert not [body for connection in found.connections for body in connection.bodies]

    run(scenario)


@pytest.mark.parametrize("more", [POISON, whole(b"poison"), b"x"])
def test_what_a_proxy_adds_is_never_an_answer(run: Run, ask: Ask, authority: Authority, more: bytes) -> None:
    """Bytes before the encryption come from nobody who was asked."""

    async def scenario(client: Upstream) -> None:
        async with (
            peer(whole(b"mine"), tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR, established=ESTABLISHED + more) as proxy,
        ):
            for _ in range(2):
                with contextlib.suppress(UpstreamError):
                    assert await ask(client, through(proxy.port)) == (200, b"mine")

    run(scenario)


def test_a_tunnel_that_died_while_idle_is_replaced(run: Run, ask: Ask, authority: Authority) -> None:
    async def scenario(client: Upstream) -> None:
        async with (
            peer(whole(b"ok"), tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy,
        ):
            assert await ask(client, through(proxy.port)) == (200, b"ok")
            proxy.cut()
            await asyncio.sleep(0.05)
            assert await ask(client, through(proxy.port)) == (200, b"ok")
            assert len(proxy.heads) == 2

    run(scenario)


def test_a_tunnel_that_is_cut_within_an_answer_is_502(run: Run, ask: Ask, authority: Authority) -> None:
    async def scenario(client: Upstream) -> None:
        async with contextlib.AsyncExitStack() as stack:

            async def half(connection: Connection) -> None:
                await connection.send(HEAD + b"Content-Length: 10\r\n\r\nhalf")
                await asyncio.sleep(0.05)
                proxy.cut()

            found = await stack.enter_async_context(peer(half, whole(b"next"), tls=authority.server(NAME)))
            proxy = await stack.enter_async_context(connect_proxy({ROUTE: port_of(found)}, PAIR))
            with pytest.raises(UpstreamBroken):
                await ask(client, through(proxy.port))
            assert await ask(client, through(proxy.port)) == (200, b"next")

    run(scenario)


def test_who_leaves_closes_the_tunnel(run: Run, authority: Authority) -> None:
    async def begin(connection: Connection) -> None:
        await connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nword\r\n")
        await say_nothing(connection)

    async def scenario(client: Upstream) -> None:
        async with (
            peer(begin, tls=authority.server(NAME)) as found,
            connect_proxy({ROUTE: port_of(found)}, PAIR) as proxy,
        ):
            stream = await client.open_stream(through(proxy.port), PATH, BODY)
            assert isinstance(stream, UpstreamStream)
            assert await stream.read() == b"word"
            stream.close()
            await asyncio.wait_for(found.connections[0].lost.wait(), 0.5)

    run(scenario)


def test_an_address_of_ipv6_is_asked_for_in_brackets(run: Run, ask: Ask, authority: Authority) -> None:
    async def scenario(client: Upstream) -> None:
        async with connect_proxy({}, PAIR) as proxy:
            proxied = f"http://{USER_INFO}@127.0.0.1:{proxy.port}"
            with pytest.raises(UpstreamBroken):
                await ask(client, target("https://[2001:db8::1]:8443/v1", proxy=proxied))
            assert proxy.heads[0].startswith(b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nhost: [2001:db8::1]:8443\r\n")

    run(scenario)


def test_a_plain_provider_is_relayed_with_the_proxys_credentials(run: Run, ask: Ask) -> None:
    """No tunnel for http: the proxy reads the request, so it is told who asks with the request."""

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok")) as proxy:
            proxied = f"http://{USER_INFO}@127.0.0.1:{port_of(proxy)}"
            for _ in range(2):
                assert await ask(client, target(f"http://{NAME}/v1", proxy=proxied)) == (200, b"ok")
            [connection] = proxy.connections
            for head in connection.heads:
                assert head.startswith(f"POST http://{NAME}/v1/chat/completions HTTP/1.1\r\n".encode())
                assert lines_of(head)[b"proxy-authorization"] == b"Basic b3BzOnBAc3M6d8O2cmQ="

    run(scenario)
