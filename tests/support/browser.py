"""A browser's side of `/backend-api/v2/conversation`: asks, reads events, leaves, and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

PATH = "/backend-api/v2/conversation"


@dataclass
class Seen:
    """Events in the order in which they came, with their numbers. `numbers` and `events` go together."""

    numbers: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    reconnect: bool = False

    @property
    def text(self) -> str:
        return "".join(event["content"] for event in self.events if event["type"] == "content")

    @property
    def types(self) -> list[str]:
        """Without repetition of neighbours."""
        found: list[str] = []
        for event in self.events:
            if not found or found[-1] != event["type"]:
                found.append(event["type"])
        return found

    def one(self, kind: str) -> dict[str, Any]:
        [found] = [event for event in self.events if event["type"] == kind]
        return found

    @property
    def ids(self) -> dict[str, str]:
        return dict(self.one("generation")["generation"])

    @property
    def state(self) -> str:
        return str(self.events[-1]["state"]) if self.events and self.events[-1]["type"] == "end" else ""

    def take(self, response: httpx.Response, most: int | None = None) -> bool:
        """Reads until the end, or until so many events have come in all; True at the end."""
        self.headers = response.headers
        for number, event in events(response.iter_lines()):
            if event is None:
                self.reconnect = True
                continue
            if number is not None:
                self.numbers.append(number)
            self.events.append(event)
            if most is not None and len(self.events) >= most:
                return False
        return True


def events(lines: Iterator[str]) -> Iterator[tuple[int | None, dict[str, Any] | None]]:
    """Number and event; (number, None) for one that says to come back."""
    name, number, data = "", None, ""
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            data = line[6:]
        elif not line and data:
            event = json.loads(data)
            if name == "reconnect":
                yield number, None
            else:
                assert event["type"] == name
                yield number, event
            name, number, data = "", None, ""


class Browser:
    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30)

    def body(self, *words: str, **more: Any) -> dict[str, Any]:
        """A question; of several texts every second one is the answer that was given."""
        roles = ("user", "assistant")
        messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(words)]
        return {"model": "scripted", "messages": messages, **more}

    def ask(self, *words: str, most: int | None = None, **more: Any) -> Seen:
        """With `most` it leaves after so many events."""
        return self.send(self.body(*words, **more), most=most)

    def send(self, body: Any, most: int | None = None, **options: Any) -> Seen:
        seen = Seen()
        options = options or {"json": body}
        with self.http.stream("POST", PATH, **options) as response:
            if response.status_code != 200:
                response.read()
                raise Refused(response)
            seen.take(response, most)
        return seen

    def rejoin(self, conversation: str, seen: Seen, most: int | None = None, **query: Any) -> bool:
        """Goes on after the last event that was seen; True when there is no more to come."""
        headers = {"last-event-id": str(seen.numbers[-1])} if seen.numbers and "after" not in query else {}
        with self.http.stream("GET", f"{PATH}/{conversation}/stream", params=query, headers=headers) as response:
            if response.status_code == 204:
                return True
            if response.status_code != 200:
                response.read()
                raise Refused(response)
            return seen.take(response, most)

    def stop(self, conversation: str, **query: Any) -> httpx.Response:
        return self.http.post(f"{PATH}/{conversation}/stop", params=query)

    def close(self) -> None:
        self.http.close()


class Refused(AssertionError):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text}")
        self.response = response
