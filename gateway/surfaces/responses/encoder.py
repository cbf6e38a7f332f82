"""Events as OpenAI's Responses: typed and numbered events for streams, one object for plain answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import orjson

from gateway.errors import GatewayError
from gateway.events import (
    Citation,
    Event,
    Failed,
    Finished,
    MediaOutput,
    RawChunks,
    RawClosing,
    RawReply,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    Sound,
    Started,
    TextDelta,
    ToolCallDelta,
    Transcript,
    Usage,
)
from gateway.surfaces.openai.encoder import estimated, priced
from gateway.surfaces.responses.output import Output, Told
from gateway.surfaces.responses.parser import ResponsesRequest

# Why an answer is not whole, by the reason of its end.
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def frame(kind: str, number: int, fields: dict[str, Any]) -> bytes:
    body = orjson.dumps({"type": kind, "sequence_number": number, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }


def response_error(error: GatewayError) -> dict[str, str]:
    """In the closed list of codes that a response's own error has."""
    if error.status == 429:
        return {"code": "rate_limit_exceeded", "message": error.message}
    return {"code": "invalid_prompt" if error.status < 500 else "server_error", "message": error.message}


def error_fields(error: GatewayError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "param": error.param}


def shown(body: dict[str, Any], encrypted: bool) -> dict[str, Any]:
    """The response as its caller asked for it: what only a provider can read is given on request alone."""
    if encrypted:
        return body
    return {**body, "output": [without_secret(item) for item in body["output"]]}


def without_secret(item: dict[str, Any]) -> dict[str, Any]:
    if "encrypted_content" not in item:
        return item
    return {key: value for key, value in item.items() if key != "encrypted_content"}


class Answer:
    """What is learnt of one answer. `kept` is whether it will be stored."""

    cost: Callable[[Usage], float | None] | None = None

    def __init__(self, chat: ResponsesRequest) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.kept = chat.asked.store
        self._chat = chat
        self._output = Output(chat.asked.token)
        self._provider = ""
        self._model = chat.model
        self._reason = "stop"
        # One moment, whoever asks for the response.
        self._over_at = 0

    def learn(self, event: Event) -> Sequence[Told]:
        """Raises the error of a Failed event."""
        if getattr(event, "index", 0):
            # A response is one answer.
            return ()
        match event:
            case TextDelta(text):
                self.chunks += 1
                return self._output.text(text) if text else ()
            case ReasoningDelta(text):
                self.chunks += 1
                return self._output.thought(text) if text else ()
            case ToolCallDelta():
                self.chunks += 1
                return self._output.call(event)
            case Started(provider, model):
                self._provider, self._model = provider, model
            case Usage():
                self.usage = event
            case Finished(reason):
                self._reason = reason
            case ReasoningSignature() | Citation() | MediaOutput() | Refusal():
                self.chunks += 1
                return self._rare(event)
            case Failed(error):
                raise error
            case RawChunks() | RawClosing() | RawReply() | Sound() | Transcript():
                raise TypeError("bytes of OpenAI's chat are not for other protocols")
            case _:
                assert_never(event)
        return ()

    def _rare(self, event: ReasoningSignature | Citation | MediaOutput | Refusal) -> Sequence[Told]:
        match event:
            case ReasoningSignature():
                return self._output.signature(event)
            case Citation():
                return self._output.citation(event)
            case MediaOutput():
                return self._output.media(event)
            case Refusal(text):
                return self._output.refusal(text)

    def over(self) -> Sequence[Told]:
        """Closes what is open and counts what nobody counted."""
        self.usage = self.usage or estimated(self._chat, self.chunks)
        self._over_at = int(time.time())
        return self._output.end(self.status)

    @property
    def status(self) -> str:
        return "incomplete" if self._reason in INCOMPLETE else "completed"

    def response(self, status: str, error: GatewayError | None = None) -> dict[str, Any]:
        asked = self._chat.asked
        self._output.settle()
        body: dict[str, Any] = {
            "id": asked.id,
            "object": "response",
            "created_at": asked.created_at,
            "status": status,
            **asked.echo,
            "error": response_error(error) if error else None,
            "incomplete_details": {"reason": INCOMPLETE[self._reason]} if status == "incomplete" else None,
            "model": self._model,
            "provider": self._provider,
            "output": self._output.items if status != "in_progress" else [],
            "store": self.kept,
        }
        if status in ("completed", "incomplete"):
            body["completed_at"] = self._over_at if status == "completed" else None
            body["output_text"] = _text(self._output.items)
        if self.usage is not None:
            body["usage"] = priced(usage_body(self.usage), self.usage, self.cost)
        return body


def _text(items: list[dict[str, Any]]) -> str:
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


class ResponseEncoder:
    """Encodes one stream. `numbered` is how many events have been made."""

    def __init__(self, chat: ResponsesRequest) -> None:
        self.answer = Answer(chat)
        self.numbered = 0
        self.failed: GatewayError | None = None
        self._ended_at: int | None = None
        self._encrypted = chat.asked.encrypted

    @property
    def usage(self) -> Usage | None:
        return self.answer.usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self.answer.usage = usage

    @property
    def chunks(self) -> int:
        return self.answer.chunks

    @chunks.setter
    def chunks(self, chunks: int) -> None:
        self.answer.chunks = chunks

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Failed):
            self.failed = event.error
            return self._frames([("response.failed", self._whole("failed", event.error))])
        told = self.answer.learn(event)
        if isinstance(event, Started):
            now = self._whole("in_progress")
            told = [("response.created", now), ("response.in_progress", now)]
        return self._frames(told) if told else b""

    def end(self) -> bytes:
        self._ended_at = self.numbered
        closing = self._frames(self.answer.over())
        status = self.answer.status
        return closing + self._frames([(f"response.{status}", self._whole(status))])

    def error(self, error: GatewayError) -> bytes:
        """In place of the end, when that could not be sent."""
        self.numbered = self.numbered if self._ended_at is None else self._ended_at
        return self._frames([("error", error_fields(error))])

    def _whole(self, status: str, error: GatewayError | None = None) -> dict[str, Any]:
        return {"response": shown(self.answer.response(status, error), self._encrypted)}

    def _frames(self, told: Sequence[Told]) -> bytes:
        frames = []
        for kind, fields in told:
            item = fields.get("item")
            if item is not None and not self._encrypted:
                fields["item"] = without_secret(item)
            frames.append(frame(kind, self.numbered, fields))
            self.numbered += 1
        return b"".join(frames)


class ResponseCollector:
    """Collects one plain answer."""

    def __init__(self, chat: ResponsesRequest) -> None:
        self.answer = Answer(chat)
        self._encrypted = chat.asked.encrypted

    @property
    def usage(self) -> Usage | None:
        return self.answer.usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self.answer.usage = usage

    def take(self, event: Event) -> None:
        """Raises the error of a Failed event: nothing was sent yet."""
        self.answer.learn(event)

    def body(self) -> bytes:
        self.answer.over()
        return orjson.dumps(shown(self.answer.response(self.answer.status), self._encrypted))
