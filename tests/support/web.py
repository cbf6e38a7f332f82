"""A small web on a port of this machine: pages, and a search engine that answers as SearXNG's API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Web:
    """`pages`: bodies of HTML by path. `results`: what the engine finds; `answer`: its bytes instead, with a status."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.pages: dict[str, str] = {}
        self.results: list[dict[str, Any]] = []
        self.answer: tuple[int, bytes] | None = None
        self.queries: list[str] = []
        self.read: list[str] = []


@contextmanager
def small_web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            if place.path == "/search":
                self._search(parse_qs(place.query))
                return
            web.read.append(place.path)
            page = web.pages.get(place.path)
            self._send(200 if page is not None else 404, (page or "").encode(), "text/html; charset=utf-8")

        def _search(self, query: dict[str, list[str]]) -> None:
            assert query["format"] == ["json"]
            web.queries += query["q"]
            if web.answer is not None:
                self._send(*web.answer, "text/html")
            else:
                self._send(
                    200, json.dumps({"query": query["q"][0], "results": web.results}).encode(), "application/json"
                )

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
