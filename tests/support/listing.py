"""A server of model lists on a real socket: each path answers what the test says, and requests are kept.

with ListingServer() as server:
    server.says("/v1/models", {"object": "list", "data": [{"id": "m"}]})
    ...
    assert server.seen[0].headers["Authorization"] == "Bearer k"
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Said:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that left early is part of some tests."""


class ListingServer:
    def __init__(self, host: str = "127.0.0.1") -> None:
        self.seen: list[Seen] = []
        self._said: dict[str, Said | Callable[[BaseHTTPRequestHandler], None]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                outer.seen.append(Seen(self.command, self.path, self.headers, self.rfile.read(length)))
                found = outer._said.get(
                    self.path.partition("?")[0], Said(404, b'{"error": {"message": "no such path"}}')
                )
                if callable(found):
                    found(self)
                    return
                self.send_response(found.status)
                for name, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(found.body)

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def log_message(self, *_: Any) -> None:
                """Nothing: the test looks at `seen`."""

        self._server = _Quiet((host, 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def says(self, path: str, body: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._said[path] = Said(status, data, headers or {})

    def does(self, path: str, act: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self._said[path] = act

    def lists(self, *entries: str | dict[str, Any]) -> None:
        """OpenAI's list under /v1/models."""
        data = [{"id": entry, "object": "model"} if isinstance(entry, str) else entry for entry in entries]
        self.says("/v1/models", {"object": "list", "data": data})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
