"""The command with a scripted provider: started, asked, and looked at from outside."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway import GatewayProcess
from tests.support.provider import ScriptedProvider

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
PLANTED = "sk-upstream-planted-1"
Start = Callable[..., GatewayProcess]


def begun(start: Start, provider: ScriptedProvider, *models: str, **environment: str) -> GatewayProcess:
    """The command with a scripted provider, ready to answer for its models."""
    process = start(wait=False, **environment)
    # While it starts: both take a while.
    added = process.manage(
        "provider", "add", "Scripted", "--adapter", "openai_chat", "--base-url", provider.base_url,
        *(part for model in ("scripted", *models) for part in ("--model", model)), "--api-key-stdin", text=PLANTED,
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if ask(process).status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.05)
        time.sleep(0.05)
    raise AssertionError(process.output)


def ask(process: GatewayProcess, **more: Any) -> httpx.Response:
    return process.http.post("/v1/chat/completions", json={**CHAT, **more}, headers=process.auth())


def memory(process: GatewayProcess, field: str = "VmRSS") -> float:
    """Of the running command, in MB."""
    assert process.process
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1000


def files(process: GatewayProcess) -> int:
    assert process.process
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


def rows(process: GatewayProcess) -> dict[str, str]:
    with sqlite3.connect(process.folder / "db.sqlite3") as connection:
        return dict(connection.execute("SELECT request_id, status FROM gateway_usageevent").fetchall())


def until(true: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
    return true()
