"""The comments that break a stream's silence never come after the answer's end or amid a write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.surfaces.exchange import Exchange


@pytest.mark.parametrize("ending", ["reply", "write"])
def test_a_comment_whose_time_has_passed_is_not_sent(settings: Any, ending: str) -> None:
    settings.HEARTBEAT_SECONDS = 1
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        exchange = Exchange({"method": "POST", "headers": []}, receive, send)
        exchange.expect_stream([])
        exchange._last_sent -= 10
        exchange._check_silence()
        beating = exchange._beating
        assert beating is not None
        if ending == "reply":
            # Before the comment's task has its first turn.
            await exchange.reply(504, [], b"late")
        else:
            exchange._sending = True
        await beating
        exchange.stop_beating()

    asyncio.run(run())
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    assert bodies == ([b"late"] if ending == "reply" else [])
