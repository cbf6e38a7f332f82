"""The websocket door. No route is open yet; a connection is refused cleanly (4404, "no such route")."""

from __future__ import annotations

from typing import Any


async def websocket_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4404})
