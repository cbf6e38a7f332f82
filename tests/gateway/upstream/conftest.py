"""A client of providers on each event loop, asked plainly and for a stream.

Every client that stands behind `Upstream` has to pass the tests of this folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from gateway.targets import Target
from gateway.upstream import Reply, Upstream
from tests.support.calls import BODY, PATH, Scenario


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Plays a scenario with a client of its own; nothing may take longer than ten seconds."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    async def played(scenario: Scenario) -> None:
        client = Upstream()
        try:
            async with asyncio.timeout(10):
                await scenario(client)
        finally:
            await client.close()

    def play(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(played(scenario))

    return play


@pytest.fixture(params=["plain", "stream"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Awaitable[tuple[int, bytes]]]:
    """Status and body of one answer, asked for plainly or as a stream that is read to its end."""

    async def plain(client: Upstream, found: Target, body: bytes = BODY) -> tuple[int, bytes]:
        reply = await client.call(found, PATH, body)
        return reply.status, reply.body

    async def stream(client: Upstream, found: Target, body: bytes = BODY) -> tuple[int, bytes]:
        answer = await client.open_stream(found, PATH, body)
        if isinstance(answer, Reply):
            return answer.status, answer.body
        data = b""
        try:
            while piece := await answer.read():
                data += piece
        except BaseException:
            answer.close()
            raise
        answer.finish()
        await asyncio.sleep(0.01)
        return 200, data

    return plain if request.param == "plain" else stream
