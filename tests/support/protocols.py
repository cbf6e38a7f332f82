"""Scripted providers of other protocols than OpenAI's chat, and what tests of every adapter need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.adapters.translated import Records, TranslatedAdapter
from gateway.chat import ChatRequest
from gateway.events import Event
from gateway.targets import Endpoint, Target
from tests.support import answers
from tests.support.answers import Answer
from tests.support.provider import Programme, Recorded, ScriptedProvider
from tests.support.services import ROOT

FIXTURES = ROOT / "tests" / "fixtures"


def fixture(path: str) -> Any:
    """A recorded JSON body, or the bytes of anything else."""
    data = (FIXTURES / path).read_bytes()
    return json.loads(data) if path.endswith(".json") else data


def target(adapter: str, base_url: str = "http://127.0.0.1:1", **fields: Any) -> Target:
    values = {"public_id": "m", "upstream_model": "upstream-m", **fields}
    return Target(
        adapter=adapter,
        provider_id=1,
        provider="Acme",
        model_id=1,
        endpoint=Endpoint("Acme", base_url, allow_private=True),
        **values,
    )


def chat(text: str = "hi", *, stream: bool = False, **body: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": text}], **body}
    return ChatRequest("m", None, stream, False, body)


def read_stream(adapter: TranslatedAdapter, at: Target, data: bytes, packet: int = 0) -> list[Event]:
    """The events of a whole stream, given in packets of that many bytes."""
    records = Records(at, adapter.reader(at), adapter.splitter())
    found: list[Event] = []
    for start in range(0, len(data), packet or len(data)):
        found.extend(records.feed(data[start : start + (packet or len(data))]))
        if records.failure:
            raise records.failure
    if not records.done:
        found.extend(records.end())
    return found


class PathProvider(ScriptedProvider):
    """A provider whose base URL is its host. What a path answers can be said; other requests are programmed.

    `asked` says which requests are chats: those that `on` and `enqueue` answer.
    """

    def __init__(self, asked: Callable[[str], bool]) -> None:
        super().__init__()
        self._asked = asked
        self._paths: dict[str, Programme] = {}

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def chats(self) -> list[Recorded]:
        return [request for request in self.requests if self._asked(request.path.split("?")[0])]

    def says(self, path: str, programme: Programme) -> None:
        self._paths[path] = programme

    def _programme(self, request: Recorded) -> Answer:
        path = request.path.split("?")[0]
        found = self._paths.get(path)
        if found is not None:
            return found(request) if callable(found) else found
        return super()._programme(request) if self._asked(path) else answers.error(404, f"no path {path}")


def lines(*records: Mapping[str, Any] | answers.Step, **options: Any) -> Answer:
    """A stream of newline-delimited JSON."""
    frames: Iterable[Any] = (
        json.dumps(record).encode() + b"\n" if isinstance(record, Mapping) else record for record in records
    )
    return answers.sse(list(frames), content_type="application/x-ndjson", **options)


def ollama() -> PathProvider:
    return PathProvider(lambda path: path == "/api/chat")


def said(text: str = "", **message: Any) -> dict[str, Any]:
    """A line of Ollama's that goes on."""
    return {"model": "m", "message": {"role": "assistant", "content": text, **message}, "done": False}


def over(reason: str = "stop", **fields: Any) -> dict[str, Any]:
    """Ollama's last line."""
    ending = {"done": True, "done_reason": reason, "prompt_eval_count": 7, "eval_count": 3}
    return {**said(), **ending, **fields}
