"""The least that an answer can cost: the same server with an application that does nothing. The guard's unit."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

REPLY = b'{"choices":[{"message":{"content":"#OK-sim:%d: %s"}}],"usage":{"total_tokens":52}}'
FILLING = b"a" * 500
HEADERS = [(b"content-type", b"application/json")]


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Reads the body and repeats the number that the load generator looks for."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    at = body.find(b" i=") + 3
    reply = REPLY % (int(body[at : at + 10]), FILLING)
    headers = [*HEADERS, (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


if __name__ == "__main__":
    uvicorn.run(
        application,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
