"""Addresses whose answers are meant to fill a server's memory or its time, on a running one (security.md, C46, C47)."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.media.conftest import picture
from tests.support.answers import error
from tests.support.gateway import GatewayProcess
from tests.support.provider import ScriptedProvider

MEGABYTE = 1024 * 1024
# security.md: a picture of 10 MB at most, in 12 seconds, with 12 MB of memory.
BOUNDS = {"FETCH_MAX_BYTES": str(10 * MEGABYTE), "FETCH_SECONDS": "10"}
SECONDS, MEMORY = 12, 12 * MEGABYTE
PNG = picture()
PIECE = PNG + b"\x00" * (64 * 1024 - len(PNG))
# 1 GB of zeros as somebody sends it who knows how: 1 MB.
BOMB = gzip.compress(bytes(MEGABYTE), 9) * 1024


class Handler(BaseHTTPRequestHandler):
    """`/KIND`: one of the bad answers, until the other side has had enough."""

    def do_GET(self) -> None:
        with suppress(ConnectionError):
            getattr(self, f"_{self.path[1:]}")()

    def _begin(self, **headers: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "image/png")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _small(self) -> None:
        self._begin(content_length=str(len(PNG)))
        self.wfile.write(PNG)

    def _large(self) -> None:
        self._begin(content_length=str(11 * MEGABYTE))
        for _ in range(11 * MEGABYTE // len(PIECE)):
            self.wfile.write(PIECE)

    def _endless(self) -> None:
        self._begin()
        while True:
            self.wfile.write(PIECE)

    def _slow(self) -> None:
        self._begin(content_length=str(len(PNG)))
        for at in range(len(PNG)):
            self.wfile.write(PNG[at : at + 1])
            self.wfile.flush()
            time.sleep(1)

    def _packed(self) -> None:
        self._begin(content_encoding="gzip", content_length=str(len(BOMB)))
        self.wfile.write(BOMB)

    def log_message(self, *given: object) -> None:
        """Says nothing."""


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def memory(pid: int, name: str) -> int:
    """Bytes; VmRSS is what it has now, VmHWM the most it had since the mark was set."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_pictures_that_never_end_cost_little(
    gateway_process: Callable[..., GatewayProcess], site: ThreadingHTTPServer, provider: ScriptedProvider
) -> None:
    gateway = gateway_process(
        FETCH_PRIVATE_HOSTS="127.0.0.1", FETCH_PORTS=str(site.server_port), MALLOC_ARENA_MAX="2", **BOUNDS
    )
    assert gateway.process is not None
    pid = gateway.process.pid
    where = ("--adapter", "openai_chat", "--base-url", provider.base_url, "--auth-style", "none")
    added = gateway.manage("provider", "add", "P", *where, "--model", "m:image")
    assert added.returncode == 0, added.stderr
    provider.on("m", lambda _: error(400))
    time.sleep(3)

    def ask(kind: str) -> httpx.Response:
        body = {
            "model": "m",
            "prompt": "x",
            "images": [{"image_url": f"http://127.0.0.1:{site.server_port}/{kind}"}],
        }
        return gateway.http.post("/v1/images/edits", json=body, headers=gateway.auth(), timeout=30)

    for _ in range(3):
        # What is loaded with the first one is no cost of the others.
        assert "invalid_image_url" not in ask("small").text
    for kind, said in (
        ("large", "larger than"),
        ("endless", "larger than"),
        ("packed", "compressed"),
        ("slow", "within 10 seconds"),
    ):
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        before, begun = memory(pid, "VmRSS"), time.monotonic()
        answer = ask(kind)
        took, more = time.monotonic() - begun, memory(pid, "VmHWM") - before
        print(f"{kind}: {answer.status_code} in {took:.1f} s with {more / MEGABYTE:.1f} MB more")
        assert answer.status_code in (400, 408, 413), answer.text
        assert said in answer.json()["error"]["message"]
        assert (took < SECONDS, more < MEMORY) == (True, True), (kind, took, more)
