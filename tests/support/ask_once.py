"""Asks one provider once, in a process of its own, whose trust in certificates is its environment's (SSL_CERT_FILE)."""

from __future__ import annotations

import asyncio
import sys

from gateway.errors import UpstreamError
from gateway.upstream import Upstream
from tests.support.calls import BODY, PATH, target


async def main() -> None:
    client = Upstream()
    try:
        reply = await client.call(target(sys.argv[1]), PATH, BODY)
        print(reply.status, reply.body.decode())
    except UpstreamError as error:
        print(error.status, error.message)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
