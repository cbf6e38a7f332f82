"""What a scripted provider may answer: steps on the wire, and builders for the usual and the faulty ones."""

from __future__ import annotations

import gzip
import http
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing more until the test sets the event."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing more, ever; the connection stays open."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is torn down with RST."""


@dataclass(frozen=True, slots=True)
class Close:
    """The connection ends with FIN, whatever was promised."""


Step = Send | Pause | Hold | Stall | Reset | Close


@dataclass(frozen=True, slots=True)
class Answer:
    """`head` is sent as it is, then the body's steps; with `chunked` each `Send` becomes one HTTP chunk.

    A body may be a generator: it is pulled only as fast as the client reads.
    """

    head: bytes
    body: Iterable[Step] = ()
    chunked: bool = False
    keep_alive: bool = True


def chunk_frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def raw(
    body: bytes, *, status: int = 200, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Answer:
    """A whole answer with exactly this body."""
    sent = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
    return Answer(_head(status, sent.items()), (Send(body),))


def reply_json(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return raw(json.dumps(body).encode(), status=status, headers=headers)


def html(status: int, page: str = "<html><body><h1>Bad gateway</h1></body></html>") -> Answer:
    return raw(page.encode(), status=status, content_type="text/html")


def redirect(location: str, status: int = 302) -> Answer:
    return raw(b"", status=status, headers={"location": location})


def gzipped(answer_body: Any) -> Answer:
    """A coded answer that nobody asked for."""
    return raw(gzip.compress(json.dumps(answer_body).encode()), headers={"content-encoding": "gzip"})


def error(
    status: int, message: str = "scripted failure", *, headers: Mapping[str, str] | None = None, **more: Any
) -> Answer:
    body = {"message": message, "type": "scripted_error", "param": None, "code": None, **more}
    return reply_json({"error": body}, status=status, headers=headers)


def cut_short(body: bytes, promised: int) -> Answer:
    """A plain answer whose connection ends before the promised length has come."""
    whole = raw(body, headers={"content-length": str(promised)})
    return Answer(whole.head, (Send(body), Close()), keep_alive=False)


def reset_before_headers() -> Answer:
    return Answer(b"", (Reset(),))


def close_before_headers() -> Answer:
    return Answer(b"", (Close(),))


def silent() -> Answer:
    """Takes the request and never says a word."""
    return Answer(b"", (Stall(),))


def completion(text: str | None = "Hello there", *, model: str = "scripted", **fields: Any) -> dict[str, Any]:
    """The body of a plain answer; `message`, `finish_reason` and `usage` may be given, others are added."""
    message = fields.pop("message", {"role": "assistant", "content": text, "refusal": None})
    choice = {"index": 0, "message": message, "finish_reason": fields.pop("finish_reason", "stop"), "logprobs": None}
    body = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [choice],
        "usage": fields.pop("usage", USAGE),
    }
    return {**body, **fields}


def reply(text: str | None = "Hello there", **fields: Any) -> Answer:
    headers = fields.pop("headers", None)
    return reply_json(completion(text, **fields), headers=headers)


def chunk(delta: Mapping[str, Any] | None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One `chat.completion.chunk`; without a delta it has no choices (the chunk that carries usage)."""
    choices = [] if delta is None else [{"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}]
    body = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1700000000, "model": "scripted"}
    return {**body, "choices": choices, **fields}


def tool_deltas(name: str, arguments: Sequence[str], call_id: str = "call_1", index: int = 0) -> list[dict[str, Any]]:
    """The deltas of one streamed tool call, its arguments in pieces."""
    first = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [{"index": index, "function": {"arguments": piece}} for piece in arguments]
    return [{"tool_calls": [item]} for item in (first, *pieces)]


def events_of(
    deltas: Iterable[Mapping[str, Any]],
    *,
    finish: str | None = "stop",
    usage: str | None = "own",
    done: bool = True,
    model: str = "scripted",
) -> list[dict[str, Any] | str]:
    """A usual stream. `usage`: in its "own" chunk, on the "finish" chunk, or None."""
    events: list[dict[str, Any] | str] = [chunk({"role": "assistant", "content": ""}, model=model)]
    events += [chunk(delta, model=model) for delta in deltas]
    if finish:
        events.append(chunk({}, finish, model=model, **({"usage": USAGE} if usage == "finish" else {})))
    if usage == "own":
        events.append(chunk(None, model=model, usage=USAGE))
    return [*events, DONE] if done else events


def frame(event: Mapping[str, Any] | str | bytes, newline: bytes = b"\n") -> bytes:
    """One SSE event; bytes pass as they are."""
    if isinstance(event, bytes):
        return event
    text = event if isinstance(event, str) else json.dumps(event)
    return b"data: " + text.encode() + newline * 2


def sse(
    events: Iterable[Mapping[str, Any] | str | bytes | Step],
    *,
    newline: bytes = b"\n",
    packet: int | None = None,
    gap: float = 0.0,
    content_type: str = "text/event-stream",
    headers: Mapping[str, str] | None = None,
    chunked: bool = True,
) -> Answer:
    """A stream of these events and steps. `packet` cuts the bytes anew into writes of that many bytes."""
    sent = {"content-type": content_type, **(headers or {})}
    sent |= {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
    return Answer(_head(200, sent.items()), _Frames(events, newline, packet, gap), chunked, keep_alive=chunked)


@dataclass(frozen=True, slots=True)
class _Frames:
    """Can be played again and again, unless the events are a generator."""

    events: Iterable[Mapping[str, Any] | str | bytes | Step]
    newline: bytes
    packet: int | None
    gap: float

    def __iter__(self) -> Iterator[Step]:
        for event in self.events:
            if isinstance(event, Send | Pause | Hold | Stall | Reset | Close):
                yield event
                continue
            yield from self._cut(frame(event, self.newline))
            if self.gap:
                yield Pause(self.gap)

    def _cut(self, data: bytes) -> Iterator[Step]:
        size = self.packet or len(data)
        for start in range(0, len(data), size):
            yield Send(data[start : start + size])
            if self.packet:
                # Long enough for the peer's loop to read it alone.
                yield Pause(0.001)


def stream(
    *texts: str, usage: str | None = "own", finish: str | None = "stop", done: bool = True, **sse_options: Any
) -> Answer:
    """A usual streamed answer of these pieces of text."""
    return sse(events_of([{"content": text} for text in texts], usage=usage, finish=finish, done=done), **sse_options)


def model_list(models: Iterable[str]) -> Answer:
    data = [{"id": model, "object": "model", "created": 1700000000, "owned_by": "scripted"} for model in models]
    return reply_json({"object": "list", "data": data})


def _last_text(body: Mapping[str, Any]) -> str:
    content = body["messages"][-1].get("content") if body.get("messages") else ""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def echo(body: Mapping[str, Any]) -> Answer:
    """What a provider without a programme does: repeats the last message, word by word when streaming."""
    text, model = _last_text(body), body.get("model", "scripted")
    if not body.get("stream"):
        return reply(text, model=model)
    asked = (body.get("stream_options") or {}).get("include_usage")
    words = text.split(" ")
    pieces = [word + (" " if last < len(words) else "") for last, word in enumerate(words, 1)]
    return sse(events_of([{"content": piece} for piece in pieces], usage="own" if asked else None, model=model))
