"""The clocks of a request, and a caller that leaves before its end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.errors import UpstreamTimeout
from gateway.targets import Timeouts
from gateway.upstream import Upstream, UpstreamStream
from tests.support.calls import BODY, HEAD, PATH, Ask, Run, target
from tests.support.peer import Connection, dripping, nobody_accepts, peer, say_nothing

# What aiohttp says of large bodies; a caller's body is bounded.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@pytest.mark.parametrize(
    "act",
    [say_nothing, dripping(HEAD + b"X: " + b"y" * 1000, 1, 0.01)],
    ids=["silence", "slow-head"],
)
def test_a_head_that_does_not_come_is_504(run: Run, ask: Ask, act: Any) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(act) as found:
            begun = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await ask(client, target(found, timeouts=Timeouts(total=0.3, first_event=0.3)))
            assert 0.2 < time.monotonic() - begun < 1
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)

    run(scenario)


@pytest.mark.parametrize(
    ("limits", "heard"),
    [
        ({"first_event": 0.3}, False),
        ({"first_event": 9, "gap": 0.3}, True),
        ({"first_event": 9, "gap": 9, "stream_total": 0.3}, True),
    ],
    ids=["first-event", "gap", "total"],
)
def test_a_stream_has_three_clocks(run: Run, limits: dict[str, float], heard: bool) -> None:
    async def begun_only(connection: Connection) -> None:
        await connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")

    async def scenario(client: Upstream) -> None:
        async with peer(begun_only) as found:
            begun = time.monotonic()
            stream = await client.open_stream(target(found, timeouts=Timeouts(**limits)), PATH, BODY)
            assert isinstance(stream, UpstreamStream)
            assert await stream.read() == b"x"
            if heard:
                stream.heard()
            with pytest.raises(UpstreamTimeout):
                await stream.read()
            stream.close()
            assert 0.2 < time.monotonic() - begun < 1
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)

    run(scenario)


def test_a_plain_answer_has_one_clock(run: Run) -> None:
    drip = dripping(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, 20, 0.05)

    async def scenario(client: Upstream) -> None:
        async with peer(drip) as found:
            begun = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await client.call(target(found, timeouts=Timeouts(total=0.4)), PATH, BODY)
            assert 0.3 < time.monotonic() - begun < 1
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)

    run(scenario)


def test_connecting_has_a_clock_of_its_own(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        with nobody_accepts() as url:
            begun = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await ask(client, target(url, timeouts=Timeouts(connect=0.3)))
            assert 0.2 < time.monotonic() - begun < 1

    run(scenario)


@pytest.mark.parametrize("when", ["head", "body", "writing"])
def test_a_cancelled_request_closes_its_connection_at_once(run: Run, ask: Ask, when: str) -> None:
    async def begun_only(connection: Connection) -> None:
        await connection.send(HEAD + b"Content-Length: 1000\r\n\r\nx")

    async def scenario(client: Upstream) -> None:
        act = begun_only if when == "body" else say_nothing
        async with peer(act) as found:
            body = b"x" * 64_000_000 if when == "writing" else BODY
            task = asyncio.ensure_future(ask(client, target(found), body))
            while not found.connections or not (found.connections[0].heads if when == "writing" else found.requests):  # noqa: ASYNC110 - the peer has no event
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02 if when == "body" else 0)
            task.cancel()
            left = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)
            # 100 ms is the promise; a busy machine gets some more.
            assert found.connections[0].lost_at - left < 0.3

    run(scenario)


def test_a_cancelled_connect_is_given_up(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        with nobody_accepts() as url:
            task = asyncio.ensure_future(ask(client, target(url)))
            await asyncio.sleep(0.05)
            task.cancel()
            begun = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - begun < 0.1

    run(scenario)
