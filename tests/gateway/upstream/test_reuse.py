"""A connection serves again only when nothing is left on it: no caller gets another's answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import UpstreamBroken
from gateway.upstream import Upstream, UpstreamStream
from tests.support.calls import BODY, HEAD, PATH, POISON, Ask, Run, chunked, target, whole
from tests.support.peer import Connection, hang_up, peer


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"mine") + POISON,
        whole(b"mine") + b"x",
        whole(b"mine") + b"\r\n" + POISON,
        chunked(b"mine") + POISON,
        chunked(b"mine", end=b"0\r\nX-Trailer: 1\r\n\r\n") + POISON,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison" + POISON,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\npoison",
        whole(b"mine", b"500 Broken") + POISON,
    ],
    ids=["length", "one-byte", "blank-line", "chunked", "trailer", "204", "empty", "error"],
)
@pytest.mark.parametrize("how", ["same-packet", "later", "with-its-end"])
def test_bytes_after_an_answer_are_never_the_next_one(run: Run, ask: Ask, answer: bytes, how: str) -> None:
    async def split(connection: Connection) -> None:
        end = answer.index(b"mine") + 4 if b"mine" in answer else answer.index(b"\r\n\r\n") + 4
        if b"chunked" in answer:
            end = answer.index(POISON)
        if how == "with-its-end":
            end -= 3
        await connection.send(answer[:end])
        await asyncio.sleep(0.03)
        await connection.send(answer[end:])

    async def scenario(client: Upstream) -> None:
        async with peer(answer if how == "same-packet" else split, whole(b"next")) as found:
            with contextlib.suppress(UpstreamBroken):
                assert b"poison" not in (await ask(client, target(found)))[1]
            if how != "same-packet":
                await asyncio.sleep(0.06)
            assert await ask(client, target(found)) == (200, b"next")
            assert len(found.connections) == 2
            await asyncio.wait_for(found.connections[0].lost.wait(), 1)

    run(scenario)


def test_an_answer_before_the_request_leaves_none_for_the_next(run: Run, ask: Ask) -> None:
    """Nothing tells an answer that came too early from an early one; but the second one is nobody's."""

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"mine"), greeting=POISON) as found:
            for _ in range(3):
                with contextlib.suppress(UpstreamBroken):
                    assert (await ask(client, target(found)))[1] in {b"mine", b"poison"}
                await asyncio.sleep(0.03)
            assert all(len(connection.bodies) <= 1 for connection in found.connections)


def test_a_switch_of_protocols_is_no_answer(run: Run, ask: Ask) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n\x00\x00\x12"

    async def scenario(client: Upstream) -> None:
        async with peer(switched, whole(b"next")) as found:
            with contextlib.suppress(UpstreamBroken):
                assert (await ask(client, target(found)))[0] == 101
            assert await ask(client, target(found)) == (200, b"next")
            assert len(found.connections) == 2

    run(scenario)


def test_a_connection_that_died_while_idle_is_replaced(run: Run, ask: Ask) -> None:
    """FIN, RST and stray bytes between two requests: the next one goes out on a fresh connection."""

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok")) as found:

            async def fin(connection: Connection) -> None:
                await hang_up(connection)

            async def reset(connection: Connection) -> None:
                connection.writer.transport.abort()

            async def stray(connection: Connection) -> None:
                await connection.send(POISON)

            for count, spoil in enumerate((fin, reset, stray), 1):
                assert await ask(client, target(found)) == (200, b"ok")
                await spoil(found.connections[-1])
                await asyncio.sleep(0.05)
                assert await ask(client, target(found)) == (200, b"ok")
                assert len(found.connections) == count + 1

    run(scenario)


def test_a_request_is_not_sent_twice(run: Run, ask: Ask) -> None:
    """A reused connection that closes unanswered: the provider may have read it, and would be paid twice."""

    async def read_and_close(connection: Connection) -> None:
        await hang_up(connection)

    async def scenario(client: Upstream) -> None:
        async with peer(whole(b"ok"), read_and_close, whole(b"ok")) as found:
            assert await ask(client, target(found)) == (200, b"ok")
            with pytest.raises(UpstreamBroken):
                await ask(client, target(found))
            assert found.requests == 2

    run(scenario)


def test_a_cut_answer_leaves_no_connection_behind(run: Run) -> None:
    """Closed in the middle of its body, a stream's connection is gone; the next answer comes on another one."""

    async def half(connection: Connection) -> None:
        await connection.send(HEAD + b"Content-Length: 10\r\n\r\nhalf")

    async def scenario(client: Upstream) -> None:
        async with peer(half, whole(b"next")) as found:
            stream = await client.open_stream(target(found), PATH, BODY)
            assert isinstance(stream, UpstreamStream)
            assert await stream.read() == b"half"
            stream.close()
            await asyncio.wait_for(found.connections[0].lost.wait(), 0.5)
            assert (await client.call(target(found), PATH, BODY)).body == b"next"
            assert len(found.connections) == 2

    run(scenario)


def test_the_rest_of_a_finished_stream_is_not_the_next_answer(run: Run) -> None:
    """After `[DONE]` the rest is read aside: a clean end is kept, anything more is dropped."""

    def rest(data: bytes) -> Callable[[Connection], Awaitable[None]]:
        async def act(connection: Connection) -> None:
            await connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\n[DONE]\r\n")
            await asyncio.sleep(0.03)
            await connection.send(data)

        return act

    async def scenario(client: Upstream) -> None:
        clean, spoilt = rest(b"0\r\n\r\n"), rest(b"0\r\n\r\n" + POISON)
        async with peer(clean, spoilt, whole(b"next")) as found:
            for connections in (1, 1, 2):
                answer = await client.open_stream(target(found), PATH, BODY)
                assert isinstance(answer, UpstreamStream)
                assert await answer.read() in {b"[DONE]", b"next"}
                answer.finish()
                await asyncio.sleep(0.08)
                assert len(found.connections) == connections

    run(scenario)


def test_many_at_once_get_their_own_answers(run: Run, ask: Ask) -> None:
    async def echo(connection: Connection) -> None:
        mark = connection.bodies[-1]
        await asyncio.sleep(len(mark) % 7 * 0.002)
        await connection.send(chunked(mark[:3], mark[3:]) if len(mark) % 2 else whole(mark))

    async def scenario(client: Upstream) -> None:
        async with peer(echo) as found:

            async def one(number: int) -> None:
                mark = b"mark-%d-" % number + b"x" * (number % 11)
                task = asyncio.ensure_future(ask(client, target(found), mark))
                if number % 5 == 0:
                    await asyncio.sleep(number % 13 * 0.001)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        assert (await task)[1] == mark
                    return
                assert await task == (200, mark)

            for start in range(0, 400, 40):
                await asyncio.gather(*(one(number) for number in range(start, start + 40)))

    run(scenario)
