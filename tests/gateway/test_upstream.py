"""Every fault of the network towards a provider is one of our errors."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from typing import Any

import pytest
import uvloop

from gateway import upstream as module
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from gateway.targets import Endpoint, Target, Timeouts
from gateway.upstream import Reply, Upstream, UpstreamStream, connection, pool
from tests.support import answers
from tests.support.provider import ScriptedProvider

PATH = "/chat/completions"
BODY = b'{"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}'


def target(base_url: str, **endpoint: Any) -> Target:
    made = Endpoint("Acme", base_url, allow_private=True, **endpoint)
    return Target("openai_chat", 1, "Acme", 1, "m", "scripted", made, credential="sk-upstream-credential")


def call(found: Target) -> Reply:
    async def run() -> Reply:
        client = Upstream()
        try:
            return await client.call(found, PATH, BODY)
        finally:
            await client.close()

    return asyncio.run(run())


def read(found: Target) -> bytes | Reply:
    """A whole stream, or the reply that came in its place."""

    async def run() -> bytes | Reply:
        client = Upstream()
        try:
            stream = await client.open_stream(found, PATH, BODY)
            if isinstance(stream, Reply):
                return stream
            data = b""
            try:
                while piece := await stream.read():
                    data += piece
            except BaseException:
                stream.close()
                raise
            stream.finish()
            await asyncio.sleep(0)
            return data
        finally:
            await client.close()

    return asyncio.run(run())


def failure(found: Target, kind: type[UpstreamError] = UpstreamBroken) -> str:
    messages = set()
    for ask in (call, read):
        with pytest.raises(kind) as caught:
            ask(found)
        messages.add(caught.value.message)
    assert all("sk-upstream" not in message for message in messages)
    return " / ".join(sorted(messages))


def test_a_plain_and_a_streamed_answer(provider: ScriptedProvider) -> None:
    reply = call(target(provider.base_url))
    assert reply.status == 200
    provider.enqueue(answers.stream("hello"))
    data = read(target(provider.base_url))
    assert isinstance(data, bytes)
    assert data.endswith(b"data: [DONE]\n\n")


def test_an_error_status_is_a_reply(provider: ScriptedProvider) -> None:
    provider.enqueue(answers.error(503), answers.error(503))
    assert call(target(provider.base_url)).status == 503
    found = read(target(provider.base_url))
    assert isinstance(found, Reply)
    assert found.status == 503


def test_nobody_listens() -> None:
    assert "cannot be reached" in failure(target("http://127.0.0.1:9/v1"))


def test_a_name_that_does_not_exist() -> None:
    assert "cannot be reached" in failure(target("http://nowhere.invalid/v1"))


def test_resets_and_closes(provider: ScriptedProvider) -> None:
    provider.on("scripted", answers.reset_before_headers())
    failure(target(provider.base_url))
    provider.on("scripted", answers.close_before_headers())
    assert "without an answer" in failure(target(provider.base_url))
    provider.on("scripted", answers.cut_short(b'{"choices', 500))
    failure(target(provider.base_url))


def test_garbage_instead_of_http(provider: ScriptedProvider) -> None:
    provider.on("scripted", answers.Answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
    failure(target(provider.base_url))


def test_a_compressed_answer_is_refused_unread(provider: ScriptedProvider) -> None:
    provider.on("scripted", answers.gzipped(answers.completion()))
    assert "compressed" in failure(target(provider.base_url))


def test_silence_has_its_limits(provider: ScriptedProvider) -> None:
    provider.on("scripted", answers.silent())
    limits = Timeouts(connect=1, total=0.3, first_event=0.3)
    failure(target(provider.base_url, timeouts=limits), UpstreamTimeout)
    assert provider.wait_for(2).left.wait(2)


def test_an_error_body_that_never_ends_is_not_waited_for(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ERROR_BODY_SECONDS", 0.2)
    whole = answers.error(500)
    provider.on("scripted", answers.Answer(whole.head, (answers.Stall(),)))
    found = read(target(provider.base_url))
    assert isinstance(found, Reply)
    assert (found.status, found.body) == (500, b"")


def test_answers_are_bounded(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_REPLY_BYTES", 1000)
    provider.enqueue(answers.raw(b"x" * 1001))
    with pytest.raises(UpstreamBroken, match="more than"):
        call(target(provider.base_url))
    monkeypatch.setattr(connection, "MAX_ERROR_BYTES", 1000)
    provider.enqueue(answers.raw(b"x" * 5000, status=500))
    assert call(target(provider.base_url)).status == 500


def test_a_connection_is_used_again_after_a_stream(provider: ScriptedProvider) -> None:
    async def run() -> None:
        client = Upstream()
        for _ in range(3):
            provider.enqueue(answers.stream("a", "b"))
            stream = await client.open_stream(target(provider.base_url), PATH, BODY)
            assert isinstance(stream, UpstreamStream)
            while b"[DONE]" not in await stream.read():
                pass
            stream.finish()
            await asyncio.sleep(0.1)
        assert client._pool(asyncio.get_running_loop()).idle() == 1
        await client.close()

    asyncio.run(run())


def test_a_stream_that_goes_on_after_its_end_is_dropped(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.1)

    async def run() -> None:
        client = Upstream()
        provider.enqueue(answers.sse([*answers.events_of([{"content": "a"}]), answers.Stall()]))
        stream = await client.open_stream(target(provider.base_url), PATH, BODY)
        assert isinstance(stream, UpstreamStream)
        while b"[DONE]" not in await stream.read():
            pass
        stream.finish()
        await asyncio.sleep(0.3)
        await client.close()

    asyncio.run(run())
    assert provider.wait_for(1).left.wait(2)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_private_addresses_are_refused_at_use(provider: ScriptedProvider, host: str) -> None:
    url = provider.base_url.replace("127.0.0.1", host)
    made = target(url)
    guarded = dataclasses.replace(made, endpoint=dataclasses.replace(made.endpoint, allow_private=False))
    assert "private address" in failure(guarded)
    assert not provider.chats


def test_a_name_with_one_private_address_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*addresses: str) -> Any:
        loop = asyncio.get_running_loop()

        async def answer(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

        monkeypatch.setattr(loop, "getaddrinfo", answer)
        return await pool.Pool(loop)._addresses("x", 443, guarded=True)

    assert len(asyncio.run(run("8.8.8.8", "1.1.1.1"))) == 2
    with pytest.raises(pool.PrivateAddress):
        asyncio.run(run("8.8.8.8", "10.0.0.1"))


def test_a_caller_that_reads_slowly_is_not_the_providers_silence(provider: ScriptedProvider) -> None:
    piece = {"content": "x" * 100_000}
    provider.enqueue(answers.sse(answers.events_of([piece] * 100)))
    limits = Timeouts(gap=0.3)

    async def run() -> bytes:
        client = Upstream()
        stream = await client.open_stream(target(provider.base_url, timeouts=limits), PATH, BODY)
        assert isinstance(stream, UpstreamStream)
        data = await stream.read()
        stream.heard()
        await asyncio.sleep(1)
        while b"[DONE]" not in data[-100:]:
            found = await stream.read()
            assert found, "the answer ended early"
            data += found
        stream.finish()
        await client.close()
        return data

    assert asyncio.run(run()).count(b"xx") >= 100


def test_an_answer_that_begins_when_its_time_is_over(provider: ScriptedProvider) -> None:
    """A busy loop runs the timer late; uvloop's own timers have no time to ask for when they are due at once."""
    provider.enqueue(answers.stream("hello"))

    async def run() -> None:
        client = Upstream()
        made = target(provider.base_url)
        stream = await client.open_stream(made, PATH, BODY)
        assert isinstance(stream, UpstreamStream)
        late = UpstreamStream(stream._pool, stream._origin, stream._connection, made, stream._loop.time() - 1000)
        late.heard()
        assert await late.read()
        late.finish()
        stream.close()
        await client.close()

    uvloop.run(run())
