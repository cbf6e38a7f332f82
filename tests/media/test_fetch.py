"""The guarded fetcher: where it refuses to go, how little it takes, and that nothing leads it astray on the way."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop

from media import fetch as fetching
from media.addresses import is_public
from media.fetch import Budget, Fetched, FetchError, Resolve, Rules, fetch
from media.kinds import AUDIO, IMAGES, PDF, PLAIN
from tests.gateway.upstream.test_tls import Authority
from tests.support.calls import chunked, whole
from tests.support.peer import Connection, Peer, dripping, hang_up, nobody_accepts, peer, say_nothing, then_hang_up

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
ANYTHING = IMAGES | AUDIO | {PDF, PLAIN}
PICTURE = whole(PNG, b"200 OK", b"Content-Type: text/html")
Played = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Played:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def play(scenario: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(10):
                await scenario()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return play


def port_of(found: Peer) -> int:
    return urlsplit(found.base_url).port or 0


def rules(*found: Peer, hosts: tuple[str, ...] = ("127.0.0.1",), **fields: object) -> Rules:
    ports = frozenset({80, 443, *map(port_of, found)})
    return Rules(**{"ports": ports, "private_hosts": frozenset(hosts), "seconds": 3, **fields})  # type: ignore[arg-type]


def names(**known: list[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives each name's addresses one after the other, and the names it was asked for."""
    asked: list[str] = []
    left = {name.replace("_", "."): list(addresses) for name, addresses in known.items()}

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        addresses = left[host]
        return [addresses.pop(0) if len(addresses) > 1 else addresses[0]]

    return resolve, asked


async def refused(url: str, found: Rules | None = None, **more: object) -> str:
    with pytest.raises(FetchError) as caught:
        await fetch(url, ANYTHING, found or Rules(seconds=3), **more)  # type: ignore[arg-type]
    return caught.value.message


def test_a_file_is_what_its_bytes_are(run: Played) -> None:
    async def scenario() -> None:
        async with peer(PICTURE) as server:
            found = await fetch(f"{server.base_url}/a%20b/ü.png?q=[1]&x=ü#part", IMAGES, rules(server))
            assert found == Fetched("image/png", PNG)
            head = server.connections[0].heads[0].decode()
            assert head.startswith("GET /v1/a%20b/%C3%BC.png?q=[1]&x=%C3%BC HTTP/1.1\r\n")
            assert f"host: 127.0.0.1:{port_of(server)}\r\n" in head
            assert not any(word in head.lower() for word in ("cookie", "authorization", "referer"))
            await asyncio.wait_for(server.connections[0].lost.wait(), 2)

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        chunked(PNG[:50], PNG[50:]),
        b"HTTP/1.1 100 Continue\r\n\r\n" + whole(PNG),
        then_hang_up(b"HTTP/1.0 200 OK\r\n\r\n" + PNG),
        dripping(whole(PNG), 7),
    ],
)
def test_every_framing_of_http_is_read(run: Played, answer: object) -> None:
    async def scenario() -> None:
        async with peer(answer) as server:  # type: ignore[arg-type]
            assert (await fetch(server.base_url, IMAGES, rules(server))).data == PNG

    run(scenario)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0X7F.1/",
        "http://127.0.0.1./",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://localhost/",
        "http://localhost./",
        "http://LOCALHOST/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:0:0:0:0:80ff:fffe]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fc00::1]/",
        "http://[ff02::1]/",
        "http://10.0.0.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://198.18.0.1/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "https://user:password@example.com/",
        "https://user@example.com/",
        "https://@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1#@example.com/",
        "https://127.0.0.1?@example.com/",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://exa mple.com/",
        "https://example.com/\r\nhost: evil",
        "https://exam%70le.com/",
        "https://[::1/",
        "https://[vx.1]/",
        "https:///path",
        "https://./",
        "https://" + "a" * 300 + ".com/",
        "https://example.com/" + "a" * 9000,
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//example.com/",
        "data:image/png;base64,AAAA",
        "example.com",
        "",
    ],
)
def test_places_it_does_not_go_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: object, **__: object) -> None:
        raise AssertionError("it connected")

    monkeypatch.setattr(asyncio, "open_connection", connect)
    assert asyncio.run(refused(url))


def test_a_name_with_one_private_address_is_refused_whole(run: Played) -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "::ffff:10.0.0.1"]

    async def scenario() -> None:
        assert "private network" in await refused("http://pictures.test/", resolve=both)

    run(scenario)


def test_a_name_is_resolved_once_and_that_address_is_used(run: Played) -> None:
    async def scenario() -> None:
        resolve, asked = names(pictures_test=["127.0.0.1", "127.0.0.2"])
        async with peer(PICTURE) as server:
            url = f"http://pictures.test:{port_of(server)}/"
            await fetch(url, IMAGES, rules(server, hosts=("pictures.test",)), resolve=resolve)
            assert asked == ["pictures.test"]
            assert b"host: pictures.test:" in server.connections[0].heads[0]

    run(scenario)


def test_a_name_that_moves_inside_between_two_redirects_is_refused(
    run: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1" or is_public(address))

    async def scenario() -> None:
        resolve, asked = names(pictures_test=["127.0.0.1", "127.0.0.2"])
        async with peer(whole(b"", b"302 Found", b"Location: /again"), PICTURE) as server:
            url = f"http://pictures.test:{port_of(server)}/"
            assert "private network" in await refused(url, rules(server, hosts=()), resolve=resolve)
            assert asked == ["pictures.test", "pictures.test"]
            assert server.requests == 1

    run(scenario)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://localhost:{port}/",
        "http://0x7f.1:{port}/",
        "http://[::1]:{port}/",
        "http://127.0.0.1:1/",
        "http://u:p@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "http://[::1",
    ],
)
def test_a_redirect_goes_through_the_same_door(run: Played, location: str) -> None:
    async def scenario() -> None:
        async with peer(b"") as server:
            said = location.format(port=port_of(server)).encode()
            server._script = [whole(b"", b"302 Found", b"Location: " + said), PICTURE]
            assert await refused(server.base_url, rules(server))
            assert server.requests == 1

    run(scenario)


def test_three_redirects_are_followed_and_a_fourth_is_not(run: Played) -> None:
    async def scenario() -> None:
        again = whole(b"ignored", b"307 Temporary Redirect", b"Location: /next")
        async with peer(*[again] * 3, PICTURE) as server:
            assert (await fetch(server.base_url, IMAGES, rules(server))).data == PNG
        async with peer(again) as server:
            assert "more than 3" in await refused(server.base_url, rules(server))
            assert server.requests == 4

    run(scenario)


def test_an_endless_body_is_cut(run: Played) -> None:
    async def pour(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await connection.send(PNG * 100)

    async def scenario() -> None:
        async with peer(pour) as server:
            assert "larger than 100000" in await refused(server.base_url, rules(server, max_bytes=100_000))
            await asyncio.wait_for(server.connections[0].lost.wait(), 2)

    run(scenario)


def test_a_body_that_promises_too_much_is_not_read(run: Played) -> None:
    async def scenario() -> None:
        async with peer(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n") as server:
            assert "larger than" in await refused(server.base_url, rules(server, max_bytes=100_000))

    run(scenario)


def test_files_share_what_they_may_have_together(run: Played) -> None:
    async def scenario() -> None:
        async with peer(PICTURE) as server:
            budget = Budget(len(PNG) * 2)
            for _ in range(2):
                await fetch(server.base_url, IMAGES, rules(server), budget)
            assert "together" in await refused(server.base_url, rules(server), budget=budget)

    run(scenario)


@pytest.mark.parametrize(
    "answer", [dripping(whole(PNG), 1, 0.1), say_nothing, dripping(b"HTTP/1.1 200 OK\r\n" * 99, 1, 0.1)]
)
def test_a_slow_answer_is_given_up(run: Played, answer: Callable[[Connection], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with peer(answer) as server:
            begun = time.monotonic()
            assert "within 0.3 seconds" in await refused(server.base_url, rules(server, seconds=0.3))
            assert time.monotonic() - begun < 1
            await asyncio.wait_for(server.connections[0].lost.wait(), 2)

    run(scenario)


def test_a_server_that_takes_no_calls_is_given_up(run: Played) -> None:
    async def scenario() -> None:
        with nobody_accepts() as url:
            port = urlsplit(url).port or 0
            found = Rules(ports=frozenset({port}), seconds=0.3, private_hosts=frozenset({"127.0.0.1"}))
            assert "within 0.3 seconds" in await refused(url, found)

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (whole(b"gone", b"404 Not Found"), "status 404"),
        (whole(b"", b"302 Found"), "status 302"),
        (whole(b"", b"304 Not Modified"), "status 304"),
        (whole(b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"200 OK", b"Content-Type: image/svg+xml"), "text/plain"),
        (whole(b"MZ\x00\x01binary", b"200 OK", b"Content-Type: image/png"), "something"),
        (whole(b""), "something"),
        (whole(PNG, b"200 OK", b"Content-Encoding: gzip"), "compressed"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000, "does not speak HTTP"),
        (then_hang_up(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + PNG), "broke off"),
        (then_hang_up(chunked(PNG, end=b"")), "broke off"),
        (hang_up, "broke off"),
    ],
)
def test_what_is_not_a_file_of_an_accepted_type_is_refused(run: Played, answer: object, text: str) -> None:
    async def scenario() -> None:
        async with peer(answer) as server:  # type: ignore[arg-type]
            with pytest.raises(FetchError) as caught:
                await fetch(server.base_url, IMAGES, rules(server))
            assert text in caught.value.message

    run(scenario)


def test_of_a_text_the_declared_type_is_believed(run: Played) -> None:
    async def scenario() -> None:
        async with peer(whole(b"a,b\n1,2\n", b"200 OK", b"Content-Type: text/csv; charset=utf-8")) as server:
            assert (await fetch(server.base_url, {"text/csv"}, rules(server))).mime_type == "text/csv"

    run(scenario)


def test_a_name_that_does_not_exist(run: Played) -> None:
    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async def scenario() -> None:
        assert "cannot be found" in await refused("http://nowhere.test/", resolve=nowhere)
        assert "private network" in await refused("http://localhost/")

    run(scenario)


def test_the_next_address_is_tried_when_one_takes_no_calls(run: Played) -> None:
    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    async def scenario() -> None:
        async with peer(PICTURE) as server:
            url = f"http://pictures.test:{port_of(server)}/"
            assert await fetch(url, IMAGES, rules(server, hosts=("pictures.test",)), resolve=two)
        assert "cannot be reached" in await refused(url, rules(server, hosts=("pictures.test",)), resolve=two)

    run(scenario)


def test_nothing_of_the_environment_changes_the_way(run: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario() -> None:
        async with peer(PICTURE) as server:
            assert await fetch(server.base_url, IMAGES, rules(server))

    run(scenario)


def test_the_certificate_has_to_be_the_names(run: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    tls = authority.server()
    resolve, _ = names(pictures_test=["127.0.0.1"])

    async def scenario() -> None:
        async with peer(PICTURE, tls=tls) as server:
            found = rules(server, hosts=("127.0.0.1", "pictures.test"))
            assert "not trusted" in await refused(server.base_url, found)
            trusting = ssl.create_default_context(cafile=str(authority.path))
            monkeypatch.setattr(fetching, "_tls", lambda: trusting)
            assert (await fetch(server.base_url, IMAGES, found)).data == PNG
            url = f"https://pictures.test:{port_of(server)}/"
            assert "not trusted" in await refused(url, found, resolve=resolve)
        plain = whole(b"", b"302 Found", b"Location: http://127.0.0.1:1/")
        async with peer(plain, tls=tls) as server:
            assert "from https" in await refused(server.base_url, rules(server, hosts=("127.0.0.1",)))

    run(scenario)
