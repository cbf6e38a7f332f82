"""The faulty provider and the proxy in front of it, in a process of their own.

    python -m tests.faults.peers        # prints {"provider": PORT, "proxy": PORT}, ends with its standard input

`GET /seen` at the provider tells how often each mark arrived, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from tests.faults.cases import script
from tests.faults.catalogue import answer
from tests.faults.proxy import Proxy
from tests.support.answers import Answer, echo, model_list, reply_json
from tests.support.provider import Recorded, ScriptedProvider


class FaultyProvider(ScriptedProvider):
    """Reads from each prompt what to do with it."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.seen: Counter[str] = Counter()

    def _programme(self, request: Recorded) -> Answer:
        # A long run must not keep every body.
        self.requests.clear()
        if request.path == "/seen":
            return reply_json(self.seen)
        if request.method == "GET":
            # Probes ask whether it is back.
            return model_list(self.models)
        body = request.json
        found = script(body["messages"][-1]["content"])
        if found is None:
            return echo(body)
        self.seen[found.mark] += 1
        return answer(found, bool(body.get("stream")), request.header("authorization") or "")


async def _serve() -> None:
    with FaultyProvider() as provider:
        proxy = await Proxy(provider.port).start()
        print(json.dumps({"provider": provider.port, "proxy": proxy.port}), flush=True)
        # Whoever started this holds the other end: when it dies, so does this.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await proxy.stop()


if __name__ == "__main__":
    asyncio.run(_serve())
