"""What a provider sends without end is neither collected nor waited for."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time

import pytest

from gateway.errors import UpstreamBroken, UpstreamError
from gateway.targets import Timeouts
from gateway.upstream import Upstream, UpstreamStream
from gateway.upstream.connection import MAX_ERROR_BYTES
from tests.support.calls import BODY, HEAD, PATH, Ask, Run, chunked, target, whole
from tests.support.peer import Connection, peer


@pytest.mark.parametrize(
    "bomb",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 1000) for n in range(8000)),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 8_000_000,
        b"HTTP/1.1 200 " + b"y" * 8_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"X:\r\n" * 2_000_000,
    ],
    ids=["many-headers", "one-header", "phrase", "empty-headers"],
)
def test_a_head_is_bounded(run: Run, ask: Ask, bomb: bytes) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(bomb, whole(b"next")) as found:
            begun = time.monotonic()
            limits = Timeouts(total=3, first_event=3)
            with pytest.raises(UpstreamBroken):
                await ask(client, target(found, timeouts=limits))
            assert time.monotonic() - begun < 2
            assert await ask(client, target(found)) == (200, b"next")

    run(scenario)


def test_early_hints_end_with_the_time(run: Run, ask: Ask) -> None:
    """Each is small; a provider that sends nothing else has until its time is over, and no memory with it."""

    async def endless(connection: Connection) -> None:
        while True:
            await connection.send(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 100)
            await asyncio.sleep(0.001)

    async def scenario(client: Upstream) -> None:
        async with peer(endless) as found:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            begun = time.monotonic()
            with pytest.raises(UpstreamError):
                await ask(client, target(found, timeouts=Timeouts(total=0.5, first_event=0.5)))
            assert time.monotonic() - begun < 1.5
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)

    run(scenario)


def test_trailers_and_extensions_are_bounded(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        for bomb in (
            chunked(b"x", end=b"0\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 1000) for n in range(8000)) + b"\r\n"),
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 8_000_000 + b"\r\nx\r\n0\r\n\r\n",
        ):
            async with peer(bomb) as found:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                with contextlib.suppress(UpstreamBroken):
                    assert (await ask(client, target(found, timeouts=Timeouts(total=3, stream_total=3))))[1] == b"x"
                assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024

    run(scenario)


def test_an_error_body_is_cut_not_collected(run: Run, ask: Ask) -> None:
    async def endless(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 500 Broken\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not connection.writer.is_closing():
                await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    async def scenario(client: Upstream) -> None:
        async with peer(endless) as found:
            status, body = await ask(client, target(found))
            assert status == 500
            assert len(body) < MAX_ERROR_BYTES + 1_000_000

    run(scenario)


def test_a_stream_that_is_not_read_stops_the_provider(run: Run) -> None:
    sent = [0]

    async def endless(connection: Connection) -> None:
        await connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent[0] < 200_000_000:
                await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent[0] += 65536

    async def scenario(client: Upstream) -> None:
        async with peer(endless) as found:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            stream = await client.open_stream(target(found), PATH, BODY)
            assert isinstance(stream, UpstreamStream)
            await asyncio.sleep(0.3)
            settled = sent[0]
            await asyncio.sleep(0.2)
            assert sent[0] == settled < 30_000_000
            # The rest waits in the kernel, not here: one read gives at most what the client had taken in.
            assert len(await stream.read()) <= 1_000_000
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
            total = 0
            while total < 40_000_000:
                total += len(await stream.read())
            stream.close()
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)

    run(scenario)
