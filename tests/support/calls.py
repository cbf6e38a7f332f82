"""What the tests of the client of providers ask for and get: targets, answers in bytes, and types of fixtures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.targets import Endpoint, Target
from gateway.upstream import Upstream
from tests.support.peer import Peer

PATH = "/chat/completions"
BODY = b'{"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
Scenario = Callable[[Upstream], Awaitable[None]]
Run = Callable[[Scenario], None]
Ask = Callable[..., Awaitable[tuple[int, bytes]]]


def whole(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", head: bytes = HEAD) -> bytes:
    frames = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + frames + end


def target(found: Peer | str, **endpoint: Any) -> Target:
    base_url = found if isinstance(found, str) else found.base_url
    made = Endpoint("Acme", base_url, **{"allow_private": True, **endpoint})
    return Target("openai_chat", 1, "Acme", 1, "m", "scripted", made, credential="sk-upstream-credential")
