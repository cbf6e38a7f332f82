"""A GGUF file as a provider: the gateway runs llama.cpp itself, and nobody has to look after it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.clients import core
from tests.support import services
from tests.support.gateway import GatewayProcess

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(150)]

Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(gateway_process: Start, tiny_gguf: Path) -> Start:
    """A gateway with the provider `local`, whose engine runs in the Python that has llama.cpp."""
    services.require("engine")

    def begin(*arguments: str, model: Path = tiny_gguf, **environment: str) -> GatewayProcess:
        gateway = gateway_process(
            *arguments, wait=False, LOCAL_ENGINE_PYTHON=str(services.ENGINE_PYTHON), **environment
        )
        added = gateway.manage(
            "provider", "add", "--gguf", str(model), "--model", "tiny:chat", "--context-length", "512"
        )
        assert added.returncode == 0, added.stderr
        gateway.kill()
        return gateway.start()

    return begin


def place(gateway: GatewayProcess) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        return json.loads(next((gateway.folder / "engines").glob("*.json")).read_bytes())  # type: ignore[no-any-return]
    return {}


def until(true: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def ready(gateway: GatewayProcess, but: int = 0) -> dict[str, Any]:
    """Where the engine is, once it is ready in another process than `but`."""

    def look() -> dict[str, Any]:
        found = place(gateway)
        return found if found.get("state") == "ready" and found["pid"] != but and runs(found["pid"]) else {}

    return until(look, "the engine is ready")  # type: ignore[no-any-return]


def children() -> set[int]:
    """Engines that run on this machine, by their command line."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"engines/child.py" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found


def runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"child.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def ask(gateway: GatewayProcess) -> str:
    """The first answer that is not 503."""

    def answer() -> str:
        try:
            chat = gateway.client().chat.completions.create(model="tiny", messages=core.QUESTION, max_tokens=5)
        except openai.InternalServerError:
            return ""
        assert chat.usage
        assert chat.usage.completion_tokens
        return chat.choices[0].finish_reason

    return until(answer, "an answer")  # type: ignore[no-any-return]


def test_it_serves_and_is_kept_alive_until_the_gateway_ends(start: Start) -> None:
    gateway = start()
    early = gateway.http.post(
        "/v1/chat/completions", json={"model": "tiny", "messages": core.QUESTION}, headers=gateway.auth()
    )
    if early.status_code != 200:
        assert (early.status_code, early.json()["error"]["code"]) == (503, "model_loading")
        assert int(early.headers["retry-after"]) >= 1
    first = ready(gateway)
    assert ask(gateway) in ("length", "stop")
    core.streams(gateway.client(), "tiny")
    # Who comes second waits, and ends nobody's answer.
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: ask(gateway), range(3))) <= {"length", "stop"}
    legacy = gateway.client().completions.create(model="tiny", prompt="Hello", max_tokens=3)
    assert legacy.usage
    assert legacy.usage.completion_tokens
    tested = gateway.manage("provider", "test", "local")
    assert (tested.returncode, "models listed" in tested.stdout) == (0, True), tested.stderr

    # Its port is this machine's alone, and it knows nobody but us.
    assert httpx.get(f"http://127.0.0.1:{first['port']}/v1/models").status_code == 401
    with pytest.raises(OSError, match="refused"), socket.socket() as outside:
        outside.connect(("127.0.0.2", first["port"]))
    # Neither its key nor a secret of ours is where others can read it.
    shown = b"".join(Path(f"/proc/{first['pid']}/{name}").read_bytes() for name in ("cmdline", "environ"))
    assert first["key"].encode() not in shown
    assert b"PEPPER" not in shown
    assert next((gateway.folder / "engines").glob("*.json")).stat().st_mode & 0o77 == 0

    os.kill(first["pid"], signal.SIGKILL)
    second = ready(gateway, but=first["pid"])
    assert (second["port"], second["key"]) == (first["port"], first["key"])
    assert ask(gateway) in ("length", "stop")

    assert gateway.manage("provider", "disable", "local").returncode == 0
    until(lambda: not runs(second["pid"]), "it ends when nobody may use it")
    assert gateway.manage("provider", "enable", "local").returncode == 0
    third = ready(gateway, but=second["pid"])
    assert gateway.stop() == 0
    until(lambda: not runs(third["pid"]), "it ends with the gateway", 3)
    asked = gateway.manage("provider", "test", "local")
    assert (asked.returncode, "not running" in asked.stderr) == (1, True)


def test_another_file_and_another_use_mean_another_process(start: Start) -> None:
    gateway = start()
    first = ready(gateway)
    changed = gateway.manage("provider", "set", "local", "--model", "tiny:embeddings,!chat", "--context-length", "256")
    assert changed.returncode == 0, changed.stderr
    ready(gateway, but=first["pid"])

    def embedded() -> Any:
        with contextlib.suppress(openai.APIStatusError):
            return gateway.client().embeddings.create(model="tiny", input=["one", "two words"]).data
        return None

    vectors = until(embedded, "vectors", 15)
    assert len(vectors) == 2
    assert len(vectors[0].embedding) == len(vectors[1].embedding) > 8
    assert gateway.manage("provider", "remove", "local").returncode == 0
    until(lambda: not place(gateway), "its place is forgotten", 10)


def test_it_does_not_outlive_a_gateway_that_is_killed(start: Start) -> None:
    gateway = start()
    child = ready(gateway)["pid"]
    gateway.kill()
    until(lambda: not runs(child), "it ends", 5)


def test_several_workers_share_one(start: Start, redis_url: str) -> None:
    before = children()
    gateway = start("--workers", "2", REDIS_URL=redis_url, WORKERS="2")
    first = ready(gateway)
    for _ in range(6):
        assert ask(gateway) in ("length", "stop")
    assert len(children() - before) == 1
    # The worker that keeps it dies: another one takes over.
    keeper = int(Path(f"/proc/{first['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(keeper, signal.SIGKILL)
    second = ready(gateway, but=first["pid"])
    assert second["port"] == first["port"]
    assert ask(gateway) in ("length", "stop")
    assert children() - before == {second["pid"]}


def test_a_broken_file_is_tried_again_after_longer_and_longer_pauses(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    gateway = start(model=broken)
    until(lambda: place(gateway).get("state") == "failing", "it fails")
    until(lambda: place(gateway)["retry_at"] - time.time() > 1.2, "the pauses grow")
    # What llama.cpp said of it is for the operator.
    assert "ended with" in until(lambda: place(gateway)["problem"], "why it fails")
