"""Streams that are kept open: for the tests of their limits."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx

from tests.support import answers

ASK: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def endless(go: threading.Event) -> answers.Answer:
    return answers.sse([*answers.events_of([{"content": "a"}], finish=None, usage=None, done=False), answers.Hold(go)])


class Callers:
    """Streams that are kept open."""

    def __init__(self, url: str, timeout: float = 20) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout, limits=httpx.Limits(max_connections=100))
        self.open: list[tuple[httpx.Response, Any]] = []

    def ask(self, key: str, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        """The answer's head; a stream that began stays open."""
        headers = {"authorization": f"Bearer {key}"}
        request = self._client.build_request("POST", path, json={**ASK, **more}, headers=headers)
        answer = self._client.send(request, stream=True)
        if answer.status_code == 200:
            pieces = answer.iter_bytes()
            next(pieces)
            # An iterator that is dropped closes its connection.
            self.open.append((answer, pieces))
        else:
            answer.read()
        return answer

    def end(self) -> None:
        self.open.pop()[0].close()

    def passes_within(self, seconds: float, key: str, **more: Any) -> float:
        """How long it took until one passed."""
        started = time.monotonic()
        while self.ask(key, **more).status_code != 200:
            assert time.monotonic() - started < seconds, "no place became free"
            time.sleep(0.05)
        return time.monotonic() - started

    def close(self) -> None:
        while self.open:
            self.end()
        self._client.close()
