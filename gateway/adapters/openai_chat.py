"""OpenAI's chat protocol (POST /chat/completions): most providers, relayed as the bytes they send.

Each event must decode to an object, else the stream ends with an error; what passes goes on unchanged.
The first chunks that only name a role are held until something is said, so that a provider which fails
right after them can still be replaced; the finishing chunk is held until usage or the end, because usage
may have to ride on it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson

from gateway.adapters import openai_events, openai_pictures
from gateway.adapters.base import Adapter
from gateway.adapters.calls import shaped, usage_body, used
from gateway.adapters.failures import from_object, from_reply
from gateway.adapters.openai_audio import OpenAIAudio
from gateway.adapters.openai_dialect import plain_body
from gateway.adapters.pictures import Drawing, drawn_in_chat, image_config, repeated
from gateway.adapters.sse import NEWLINE, EventSplitter, EventTooLarge, payload
from gateway.adapters.translated import Records, relayed
from gateway.calls import EMBEDDINGS, MODERATIONS, RERANK, CallRequest
from gateway.chat import ChatRequest, has_too_many_values
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Event, RawChunks, RawClosing, RawReply
from gateway.nested import rewritten
from gateway.pictures import PictureRequest
from gateway.targets import Target
from gateway.upstream import Reply, Upstream

PATH = "/chat/completions"
CALL_PATHS = {EMBEDDINGS: "/embeddings", MODERATIONS: "/moderations", RERANK: "/rerank"}
MAX_OPENING_EVENTS = 32
MAX_OPENING_BYTES = 64 * 1024


def wire_body(chat: ChatRequest, target: Target) -> bytes:
    """The caller's body with the provider's name for the model, and with usage asked for in streams."""
    body = {**(chat.body if chat.raw else plain_body(target, chat)), "model": target.upstream_model}
    if chat.stream:
        body["stream"] = True
        options = body.pop("stream_options", None)
        if target.asks_usage:
            body["stream_options"] = {**options, "include_usage": True} if options else {"include_usage": True}
    return orjson.dumps(body)


class OpenAIChatAdapter(OpenAIAudio):
    label = "OpenAI-compatible"
    local = False
    path = PATH
    completions: Adapter | None = None

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        reply = parse_reply(target, await upstream.call(target, self.path, wire_body(chat, target)))
        return (reply,) if chat.raw else openai_events.answer(target, reply.body)

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        stream = await upstream.open_stream(target, self.path, wire_body(chat, target))
        if isinstance(stream, Reply):
            raise from_reply(target, stream)
        if not chat.raw:
            records = Records(target, openai_events.ChunkEvents(target), EventSplitter())
            async for event in relayed(stream, records):
                yield event
            return
        reader = ChunkReader(target)
        try:
            while not reader.done:
                data = await stream.read()
                chunks = reader.feed(data) if data else reader.end()
                if reader.understood:
                    stream.heard()
                if chunks:
                    yield RawChunks(chunks)
                if reader.failure is not None:
                    raise reader.failure
        except BaseException:
            stream.close()
            raise
        stream.finish()
        yield reader.closing()

    async def draw(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        try:
            return await openai_pictures.draw(upstream, target, request)
        except openai_pictures.NoRoute as missing:
            # Some have models that draw, but no route for it (OpenRouter).
            more = image_config(request)

            async def once(_: int) -> Drawing:
                return await drawn_in_chat(self, upstream, target, request, more)

            try:
                return await repeated(request, once)
            except UpstreamRejected as error:
                raise missing if error.status in openai_pictures.NO_ROUTE else error from None

    def draw_stream(self, upstream: Upstream, target: Target, request: PictureRequest) -> AsyncGenerator[Event, None]:
        return openai_pictures.draw_stream(upstream, target, request)

    async def call(self, upstream: Upstream, target: Target, request: CallRequest) -> Sequence[Event]:
        path, sent = CALL_PATHS[request.operation], {**request.body, "model": target.upstream_model}
        reply = await upstream.call(target, path, orjson.dumps(sent))
        if reply.status in (400, 422) and "encoding_format" in sent and b"encoding_format" in reply.body:
            # Clients ask for base64 of themselves, and not every server knows it.
            del sent["encoding_format"]
            reply = await upstream.call(target, path, orjson.dumps(sent))
        body = parse_object(target, reply)
        usage = used(request, body)
        if request.operation != EMBEDDINGS:
            return RawReply(reply.body, body), usage
        changed = shaped(target, request, body)
        if usage.estimated:
            body["usage"], changed = usage_body(usage), True
        for name, value in (("object", "list"), ("model", target.upstream_model)):
            if not isinstance(body.get(name), str):
                body[name], changed = value, True
        return RawReply(rewritten(body) if changed else reply.body, body), usage


class OpenAICompletionsAdapter(OpenAIChatAdapter):
    """The legacy route, whose answers differ from chats only inside of their choices."""

    path = "/completions"


OpenAIChatAdapter.completions = OpenAICompletionsAdapter()


def parse_object(target: Target, reply: Reply) -> dict[str, Any]:
    """Raises UpstreamError unless the answer is an object, and not an error's."""
    if reply.status != 200:
        raise from_reply(target, reply)
    if has_too_many_values(reply.body):
        raise UpstreamBroken(f"{target.provider} sent an answer with too many values.")
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        raise UpstreamBroken(f"{target.provider} sent an answer that is not JSON.") from None
    if not isinstance(body, dict):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not an object.")
    if body.get("error"):
        raise from_object(target, body["error"])
    return body


def parse_reply(target: Target, reply: Reply) -> RawReply:
    """Raises UpstreamError unless the answer is a completion."""
    body = parse_object(target, reply)
    if not _are_objects(body.get("choices")):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a completion.")
    return RawReply(reply.body, body)


def _are_objects(choices: Any) -> bool:
    if type(choices) is not list:
        return False
    for choice in choices:  # noqa: SIM110 - a generator costs three times as much, for every chunk
        if type(choice) is not dict:
            return False
    return True


class ChunkReader:
    """Checks the events of one stream and keeps back its beginning and its end."""

    def __init__(self, target: Target) -> None:
        self.done = False
        # What went wrong after chunks that may still go out.
        self.failure: UpstreamError | None = None
        self.understood = False
        self._target = target
        self._splitter = EventSplitter()
        self._opening: list[bytes] = []
        self._opening_bytes = 0
        self._speaking = False
        self._finish: dict[str, Any] | None = None
        self._finish_bytes = b""
        self._usage: dict[str, Any] | None = None
        self._usage_bytes = b""

    def feed(self, data: bytes) -> bytes:
        """The events that may go out now, each with its blank line. Raises UpstreamError."""
        try:
            events = self._splitter.feed(data)
        except EventTooLarge:
            raise UpstreamBroken(f"{self._target.provider} sent an event that is too large.") from None
        return self._passed(events)

    def end(self) -> bytes:
        """The connection ended: complete only if a finishing chunk had come."""
        passed = self._passed(self._splitter.end())
        if not self.done and self._finish is None:
            raise UpstreamBroken(f"{self._target.provider} broke off its answer.")
        self.done = True
        return passed

    def closing(self) -> RawClosing:
        return RawClosing(self._finish, self._finish_bytes, self._usage, self._usage_bytes)

    def _passed(self, events: list[bytes]) -> bytes:
        out: list[bytes] = []
        try:
            for event in events:
                if self.done:
                    break
                if not (self._speaking and self._finish is None and _is_delta(event)):
                    self._take(event, out)
                else:
                    out.append(event)
        except UpstreamError as error:
            if not out:
                raise
            self.failure = error
        return b"\n\n".join([*out, b""]) if out else b""

    def _take(self, event: bytes, out: list[bytes]) -> None:
        name, data = payload(event)
        if not data or name not in ("", "message", "error"):
            return
        if data.startswith(b"[DONE]"):
            self.done = True
            # A stream that said nothing but its role is still an answer.
            self._release(out)
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise UpstreamBroken(f"{self._target.provider} sent an event that is not JSON.") from None
        if not isinstance(chunk, dict):
            raise UpstreamBroken(f"{self._target.provider} sent an event that is not an object.")
        if name == "error" or chunk.get("error"):
            raise from_object(self._target, chunk.get("error") or chunk)
        self.understood = True
        # Named events and several data lines are legal SSE, but clients expect one `data:` line.
        plain = event if event.startswith(b"data: ") and NEWLINE not in event else b"data: " + rewritten(chunk)
        self._sort(chunk, plain, out)

    def _sort(self, chunk: dict[str, Any], event: bytes, out: list[bytes]) -> None:
        choices = chunk.get("choices")
        if not choices:
            if isinstance(chunk.get("usage"), dict):
                self._usage, self._usage_bytes = chunk, event
            elif self._speaking:
                out.append(event)
            else:
                self._hold(event, out)
            return
        if not _are_objects(choices):
            raise UpstreamBroken(f"{self._target.provider} sent a chunk without readable choices.")
        if self._finish is not None and isinstance(chunk.get("usage"), dict) and not any(map(_goes_on, choices)):
            # OpenRouter's last chunk repeats the role beside its usage.
            self._usage = {**chunk, "choices": []}
            self._usage_bytes = b"data: " + rewritten(self._usage)
            return
        if self._finish is not None:
            # With several choices each has its own end; only the last one is held.
            self._release(out)
            out.append(self._finish_bytes)
            self._finish, self._finish_bytes = None, b""
        if any(choice.get("finish_reason") for choice in choices):
            self._release(out)
            self._finish, self._finish_bytes = chunk, event
        elif self._speaking or any(map(_goes_on, choices)):
            self._release(out)
            out.append(event)
        else:
            self._hold(event, out)

    def _hold(self, event: bytes, out: list[bytes]) -> None:
        """Keeps the beginning back, but not without end."""
        self._opening.append(event)
        self._opening_bytes += len(event)
        if self._opening_bytes > MAX_OPENING_BYTES or len(self._opening) > MAX_OPENING_EVENTS:
            self._release(out)

    def _release(self, out: list[bytes]) -> None:
        if not self._speaking:
            self._speaking = True
            out.extend(self._opening)
            self._opening = []


def _is_delta(event: bytes) -> bool:
    """Whether this is what nearly all events are: one line of JSON with one choice that goes on."""
    if not event.startswith(b"data: {") or NEWLINE in event:
        return False
    try:
        chunk = orjson.loads(event[6:])
    except orjson.JSONDecodeError:
        return False
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return False
    return not choices[0].get("finish_reason") and not chunk.get("error")


def _goes_on(choice: dict[str, Any]) -> bool:
    return bool(_says_something(choice.get("delta")) or choice.get("text") or choice.get("finish_reason"))


def _says_something(delta: Any) -> bool:
    return isinstance(delta, dict) and any(value for key, value in delta.items() if key != "role")
