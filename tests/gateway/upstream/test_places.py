"""A provider may hold so many connections and no more; who waits is served in turn, and nothing leaks."""

from __future__ import annotations

import asyncio

import pytest
from pytest_django import Settings

from gateway.errors import UpstreamBroken, UpstreamTimeout
from gateway.targets import Timeouts
from gateway.upstream import Upstream
from tests.support.calls import BODY, PATH, Ask, Run, target, whole
from tests.support.peer import Connection, hang_up, peer

pytestmark = pytest.mark.usefixtures("one_place")


@pytest.fixture
def one_place(settings: Settings) -> None:
    settings.MAX_CONNECTIONS_PER_PROVIDER = 1


def held(client: Upstream) -> int:
    return sum(client._pool(asyncio.get_running_loop())._places._held.values())


async def slow(connection: Connection) -> None:
    await asyncio.sleep(0.1)
    await connection.send(whole(b"slow"))


def test_those_beyond_wait_for_the_connection_of_the_one_before(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(slow, slow, slow) as found:
            answers = await asyncio.gather(*(ask(client, target(found)) for _ in range(3)))
            assert answers == [(200, b"slow")] * 3
            assert (len(found.connections), held(client)) == (1, 1)

    run(scenario)


def test_a_wait_ends_with_the_connect_timeout_and_leaves_nothing(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(slow, slow) as found:
            first = asyncio.create_task(ask(client, target(found)))
            await asyncio.sleep(0.02)
            with pytest.raises(UpstreamTimeout, match="too much to do"):
                await ask(client, target(found, timeouts=Timeouts(connect=0.03)))
            assert await first == (200, b"slow")
            assert await ask(client, target(found)) == (200, b"slow")
            assert held(client) == 1

    run(scenario)


def test_a_caller_who_leaves_frees_its_place_for_the_next(run: Run) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(slow, whole(b"next")) as found:
            first = asyncio.create_task(client.call(target(found), PATH, BODY))
            waiting = [asyncio.create_task(client.call(target(found), PATH, BODY)) for _ in range(2)]
            await asyncio.sleep(0.02)
            waiting[0].cancel()
            first.cancel()
            assert (await waiting[1]).body == b"next"
            assert held(client) == 1

    run(scenario)


def test_failures_hold_no_place(run: Run, ask: Ask) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(hang_up, hang_up, whole(b"well")) as found:
            for _ in range(2):
                with pytest.raises(UpstreamBroken):
                    await ask(client, target(found))
            assert await ask(client, target(found)) == (200, b"well")
        for _ in range(2):
            with pytest.raises((UpstreamBroken, UpstreamTimeout)):
                await ask(client, target(found, timeouts=Timeouts(connect=0.2)))
        await asyncio.sleep(0.02)
        assert held(client) == 0

    run(scenario)
