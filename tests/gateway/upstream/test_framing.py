"""An answer is read exactly, or it is our error: every legal framing of HTTP, and every broken one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.errors import UpstreamBroken
from gateway.upstream import Upstream
from tests.support.calls import HEAD, Ask, Run, chunked, target, whole
from tests.support.peer import dripping, peer, then_hang_up


@pytest.mark.parametrize(
    "answer",
    [
        whole(b'{"a": 1}'),
        whole(b'{"a": 1}', b"200"),
        whole(b'{"a": 1}', b"200 "),
        whole(b'{"a": 1}', b"200 Very \xe9 well"),
        whole(b'{"a": 1}', b"200 OK", b"X-Empty:", b"x-many: 1", b"X-Many: 2", b"X-Latin: \xe9\xff"),
        whole(b'{"a": 1}', b"200 OK", b"CONTENT-TYPE:application/json", b"X-Tab:\ta\t"),
        whole(b'{"a": 1}', b"200 OK", b"Content-Encoding: identity"),
        chunked(b'{"a": 1}'),
        chunked(b"{", b'"a"', b": ", b"1", b"}"),
        HEAD + b'Transfer-Encoding: Chunked\r\n\r\n8;ext=1;name="v;a"\r\n{"a": 1}\r\n0;last\r\n\r\n',
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n00000008\r\n{"a": 1}\r\n000\r\n\r\n',
        chunked(b'{"a": 1}', end=b"0\r\nX-Trailer: 1\r\nX-Sum: abc\r\n\r\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + whole(b'{"a": 1}'),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 3 + whole(b'{"a": 1}'),
        b"HTTP/1.1 102 Processing\r\n\r\n" + chunked(b'{"a": 1}'),
        whole(b""),
    ],
    ids=[
        "length", "no-phrase", "empty-phrase", "odd-phrase", "odd-headers", "tight-headers", "identity", "chunked",
        "many-chunks", "extensions", "zeros", "trailer", "100-first", "103-first", "102-first", "empty",
    ],
)  # fmt: skip
def test_every_legal_framing_is_read_and_the_connection_serves_again(run: Run, ask: Ask, answer: bytes) -> None:
    expected = b"" if answer.endswith(b"Content-Length: 0\r\n\r\n") else b'{"a": 1}'

    async def scenario(client: Upstream) -> None:
        async with peer(answer, dripping(answer), answer) as found:
            for _ in range(3):
                assert await ask(client, target(found)) == (200, expected)
            assert len(found.connections) == 1

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b'\r\n{"a": 1}',
        b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}',
        HEAD + b'Connection: close\r\n\r\n{"a": 1}',
    ],
    ids=["no-length", "http-1.0", "close"],
)
def test_an_answer_may_end_with_its_connection(run: Run, ask: Ask, answer: bytes) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(then_hang_up(answer)) as found:
            for _ in range(2):
                assert await ask(client, target(found)) == (200, b'{"a": 1}')
            assert len(found.connections) == 2

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"ok", b"200 OK", b"Connection: close"),
        whole(b"ok", b"200 OK", b"Connection: keep-alive, Close"),
        whole(b"ok").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["close", "close-in-a-list", "http-1.0"],
)
def test_a_connection_that_will_close_is_not_used_again(run: Run, ask: Ask, answer: bytes) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(answer) as found:
            for _ in range(2):
                assert await ask(client, target(found)) == (200, b"ok")
            assert len(found.connections) == 2

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 304),
        (whole(b"", b"302 Found", b"Location: http://127.0.0.1:1/"), 302),
        (whole(b"moved", b"307 Temporary Redirect", b"Location: /v1/elsewhere"), 307),
        (whole(b"odd", b"999 Odd"), 999),
    ],
    ids=["204", "204-length", "304-length", "302", "307", "999"],
)
def test_statuses_without_an_answer_are_replies(run: Run, ask: Ask, answer: bytes, status: int) -> None:
    """Nothing is followed, and no body is waited for where there can be none."""

    async def scenario(client: Upstream) -> None:
        async with peer(answer) as found:
            assert (await ask(client, target(found)))[0] == status
            assert found.requests == 1

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/9.9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 -200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"\x16\x03\x01\x00\xa5\x01\x00",
        b"\x00" * 1000,
        HEAD + b"Content-Length: -1\r\n\r\nok",
        HEAD + b"Content-Length: +2\r\n\r\nok",
        HEAD + b"Content-Length: 0x2\r\n\r\nok",
        HEAD + b"Content-Length: 2 2\r\n\r\nok",
        HEAD + b"Content-Length: 2, 3\r\n\r\nok",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\nok",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        HEAD + b"Content-Length: 10\r\n\r\nok",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nok",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Bro\x00ken: 1\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b": no name\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"no colon\r\nContent-Length: 2\r\n\r\nok",
        HEAD[:-10],
        whole(b"\x1f\x8b\x08\x00", b"200 OK", b"Content-Encoding: gzip"),
        whole(b"x", b"200 OK", b"content-encoding: identity, br"),
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=[
        "ssh", "version", "letters", "two-digits", "sign", "tls", "zeros", "negative", "plus", "hex", "two-numbers",
        "list", "two-lengths", "huge-length", "both-framings", "shorter", "chunk-negative", "chunk-hex",
        "chunk-letters", "chunk-longer", "chunk-overflow", "chunk-cut", "no-last-chunk", "last-chunk-cut", "no-chunk",
        "nul-in-name", "nul-in-value", "no-name", "no-colon", "head-cut", "gzip", "br", "100-alone",
    ],
)  # fmt: skip
def test_what_breaks_the_protocol_is_our_502(run: Run, ask: Ask, answer: bytes) -> None:
    async def scenario(client: Upstream) -> None:
        async with peer(then_hang_up(answer), whole(b"next")) as found:
            with pytest.raises(UpstreamBroken) as caught:
                await ask(client, target(found))
            assert "sk-upstream" not in caught.value.message
            await asyncio.sleep(0.01)
            assert await ask(client, target(found)) == (200, b"next")
            assert len(found.connections) == 2

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n  b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1  200  OK\r\nContent-Length: 2\r\n\r\nok",
        b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        chunked(b"ok", end=b"0\r\nContent-Length: 3\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=[
        "folded", "folded-length", "space-before-colon", "same-length-twice", "bare-lf", "blank-lines", "spaces",
        "lower-case", "chunk-space", "chunk-bare-lf", "chunked-twice", "length-in-trailer",
        "chunked-then-identity",
    ],
)  # fmt: skip
def test_sloppy_framing_is_read_exactly_or_refused(run: Run, ask: Ask, answer: bytes) -> None:
    """A client may forgive these; it may not read anything else out of them, now or with the next answer."""

    async def scenario(client: Upstream) -> None:
        async with peer(then_hang_up(answer), whole(b"next")) as found:
            with contextlib.suppress(UpstreamBroken):
                body = (await ask(client, target(found)))[1]
                # Read to the end of the connection, frames and all, is what it says where no length counts.
                assert body in {b"ok", answer.partition(b"\r\n\r\n")[2]}
            await asyncio.sleep(0.01)
            assert await ask(client, target(found)) == (200, b"next")

    run(scenario)


def test_a_transfer_coding_is_not_passed_off_as_the_answer(run: Run, ask: Ask) -> None:
    squeezed = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\n\x1f\x8b\x08\x00\r\n0\r\n\r\n"

    async def scenario(client: Upstream) -> None:
        async with peer(then_hang_up(squeezed)) as found:
            with pytest.raises(UpstreamBroken):
                await ask(client, target(found))

    run(scenario)
