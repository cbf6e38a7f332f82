"""What adapters of other protocols share: one request out, and its answer or its stream back as events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import orjson

from gateway.adapters.failures import from_reply
from gateway.adapters.sse import MAX_EVENT_BYTES, EventSplitter, EventTooLarge, payload
from gateway.chat import ChatRequest, has_too_many_values
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Event
from gateway.targets import Target
from gateway.upstream import Reply, Upstream, UpstreamStream

# What reading an answer of another shape than promised ends in.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Splitter(Protocol):
    """Cuts a byte stream into the records of its framing."""

    def feed(self, data: bytes) -> list[bytes]:
        """Raises EventTooLarge."""

    def end(self) -> list[bytes]:
        """What was left without its end."""


class AnswerReader(ABC):
    """Turns the records of one stream into events. `done` once the provider has said that it is over."""

    done = False

    def __init__(self, target: Target) -> None:
        self.target = target

    @abstractmethod
    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        """One record: its SSE event name (empty when it has none) and its object. Raises UpstreamError."""

    def end(self) -> Sequence[Event]:
        """The connection ended before `done`. Raises UpstreamBroken unless the answer was whole."""
        raise UpstreamBroken(f"{self.target.provider} broke off its answer.")


class TranslatedAdapter(ABC):
    """A protocol that is not OpenAI's chat. Subclasses say what is sent where, and how answers are read."""

    label: str
    local = False
    splitter: ClassVar[type[Splitter]] = EventSplitter
    # Its protocol knows no addresses of pictures: `prepared` fetches them, whatever the provider's row says.
    takes_bytes: ClassVar[bool] = False

    @abstractmethod
    def path(self, target: Target, chat: ChatRequest) -> str:
        """Below the base URL, without a query of its own that changes from request to request."""

    @abstractmethod
    def body(self, target: Target, chat: ChatRequest) -> Mapping[str, Any]:
        """The request in the provider's words. Raises UnsupportedParameter for what it has no word for."""

    @abstractmethod
    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        """The events of a whole answer, never empty. Raises UpstreamError unless it is one."""

    @abstractmethod
    def reader(self, target: Target) -> AnswerReader:
        """A new one for each stream."""

    def failure(self, target: Target, reply: Reply) -> UpstreamError:
        """The error for an answer whose status is not 200."""
        return from_reply(target, reply)

    async def prepared(self, upstream: Upstream, target: Target, chat: ChatRequest) -> ChatRequest:
        """Before anything is sent: what `body` needs and must be waited for, such as pictures behind URLs."""
        return chat

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        chat = await self.prepared(upstream, target, chat)
        reply = await upstream.call(target, self.path(target, chat), written(target, self.body(target, chat)))
        if reply.status != 200:
            raise self.failure(target, reply)
        return self.answer(target, decoded(target, reply.body))

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        chat = await self.prepared(upstream, target, chat)
        stream = await upstream.open_stream(target, self.path(target, chat), written(target, self.body(target, chat)))
        if isinstance(stream, Reply):
            raise self.failure(target, stream)
        async for event in relayed(stream, Records(target, self.reader(target), self.splitter())):
            yield event


async def relayed(stream: UpstreamStream, records: Records) -> AsyncGenerator[Event, None]:
    """The events of an open stream, which is given back or dropped at its end. Raises UpstreamError."""
    try:
        while not records.done:
            data = await stream.read()
            events = records.feed(data) if data else records.end()
            if records.understood:
                stream.heard()
            for event in events:
                yield event
            if records.failure is not None:
                raise records.failure
    except BaseException:
        stream.close()
        raise
    stream.finish()


class Records:
    """Feeds a reader from the wire. What came whole before a failure still counts."""

    def __init__(self, target: Target, reader: AnswerReader, splitter: Splitter) -> None:
        self.failure: UpstreamError | None = None
        self.understood = False
        self._target = target
        self._reader = reader
        self._splitter = splitter
        self._ended = False

    @property
    def done(self) -> bool:
        return self._reader.done or self._ended

    def feed(self, data: bytes) -> list[Event]:
        """Raises UpstreamError when nothing came before the fault."""
        try:
            records = self._splitter.feed(data)
        except EventTooLarge:
            raise UpstreamBroken(f"{self._target.provider} sent an event that is too large.") from None
        return self._taken(records)

    def end(self) -> list[Event]:
        found = self._taken(self._splitter.end())
        if not self.done and self.failure is None:
            found.extend(self._reader.end())
        self._ended = True
        return found

    def _taken(self, records: list[bytes]) -> list[Event]:
        found: list[Event] = []
        try:
            for record in records:
                if self.done:
                    break
                self._take(record, found)
        except UpstreamError as error:
            if not found:
                raise
            self.failure = error
        return found

    def _take(self, record: bytes, found: list[Event]) -> None:
        name, data = payload(record)
        if not data:
            return
        if data.startswith(b"[DONE]"):
            found.extend(() if self._reader.done else self._reader.end())
            self._ended = True
            return
        if has_too_many_values(data):
            raise UpstreamBroken(f"{self._target.provider} sent an event with too many values.")
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise UpstreamBroken(f"{self._target.provider} sent an event that is not JSON.") from None
        if not isinstance(body, dict):
            raise UpstreamBroken(f"{self._target.provider} sent an event that is not an object.")
        try:
            found.extend(self._reader.take(name, body))
        except UNREADABLE:
            raise UpstreamBroken(f"{self._target.provider} sent an event that cannot be read.") from None
        self.understood = True


class LineSplitter:
    """Newline-delimited JSON, each line given as the data of an event."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        if b"\n" not in data:
            self._rest += data
            self._bounded()
            return []
        *lines, rest = (bytes(self._rest) + data).split(b"\n")
        self._rest = bytearray(rest)
        self._bounded()
        return [b"data: " + line for line in lines if line.strip()]

    def end(self) -> list[bytes]:
        rest, self._rest = bytes(self._rest).strip(), bytearray()
        return [b"data: " + rest] if rest else []

    def _bounded(self) -> None:
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLarge


def written(target: Target, body: Mapping[str, Any]) -> bytes:
    """The body of a request. Raises UpstreamRejected: more nesting can be read than written, and larger numbers."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise UpstreamRejected(f"{target.provider} cannot be sent values so deep or so large.") from None


def decoded(target: Target, raw: bytes) -> dict[str, Any]:
    """The object of a whole answer. Raises UpstreamBroken."""
    if has_too_many_values(raw):
        raise UpstreamBroken(f"{target.provider} sent an answer with too many values.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise UpstreamBroken(f"{target.provider} sent an answer that is not JSON.") from None
    if not isinstance(body, dict):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not an object.")
    return body
