"""Gives an answer again to whoever asks exactly the same again, where the key or the model is switched on for that.

An answer belongs to the key that asked, and is found under a digest of its owner, of what the key may do, of who may
answer and of all that reaches them. Only whole answers are kept. Requests that nobody switched on never come here.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import orjson
from django.conf import settings

from gateway import relay
from gateway.answer_store import AnswerStore, MemoryAnswers, Owner, RedisAnswers
from gateway.authentication import Principal
from gateway.chat import KEEPING, READING, ChatRequest
from gateway.completions import CompletionRequest
from gateway.events import Event, Failed, RawChunks
from gateway.live import holds
from gateway.packing import is_whole, packed, unpacked
from gateway.snapshot import KeyPolicy, Snapshot, store
from gateway.targets import Target
from gateway.upstream import Upstream
from gateway.usage import Tally

Targets = tuple[Target, ...]
Headers = list[tuple[bytes, bytes]]
# One answer may take so much of the whole.
SHARE = 16
# What a request of another surface says beside its body.
HINTS = ("truncation", "reasoning_summary", "encrypted_reasoning")
HEADER = b"x-gateway-cache"


class Source(Protocol):
    """Where the events of an answer come from: `gateway.relay`, or one of those below."""

    async def complete(
        self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally
    ) -> Sequence[Event]: ...

    def stream(
        self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally
    ) -> AsyncGenerator[Event, None]: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be done with a request: where its events come from, how it is counted, what its answer says of it."""

    source: Source
    tally: Tally
    headers: Headers


class AnswerCache:
    """One per process."""

    def __init__(self) -> None:
        self.memory = MemoryAnswers()
        self._shared: dict[asyncio.AbstractEventLoop, RedisAnswers] = {}

    def store(self) -> AnswerStore:
        if not settings.REDIS_URL:
            return self.memory
        loop = asyncio.get_running_loop()
        if loop not in self._shared:
            self._shared[loop] = RedisAnswers(settings.REDIS_URL)
        return self._shared[loop]

    async def close(self) -> None:
        shared = self._shared.pop(asyncio.get_running_loop(), None)
        if shared is not None:
            await shared.close()

    async def find(
        self, principal: Principal, chat: ChatRequest, targets: Targets, tally: Tally, surface: str
    ) -> Found | None:
        """None where nobody switched it on. `surface` is the name of one that gives answers again."""
        # Callers without a user are different people who cannot be told apart.
        if principal.user_id is None:
            return None
        by_key = principal.key is not None and principal.key.caches
        if not by_key and not any(target.caches for target in targets):
            return None
        reads, keeps = READING not in chat.cache_refused, KEEPING not in chat.cache_refused
        if not reads and not keeps:
            return Found(relay, tally, [(HEADER, b"bypass")])
        name = named(principal, chat, targets, surface)
        if name is None:
            return None
        owner = Owner(principal.user_id, principal.key.id if principal.key else 0)
        data = await self.store().get(name) if reads else None
        kept = Kept.read(name, data) if data else None
        target = next((target for target in targets if kept and target.model_id == kept.model_id), None)
        if kept is not None and target is not None and (by_key or target.caches):
            headers = [(HEADER, b"hit"), (b"age", b"%d" % max(0, int(time.time() - kept.at)))]
            return Found(Replaying(kept.events), tally.replayed(target), headers)
        source = Keeping(self.store(), name, owner, by_key) if keeps else relay
        return Found(source, tally, [(HEADER, b"miss")])

    def check(self, snapshot: Snapshot) -> None:
        """Forgets the answers of keys that no longer hold and of users who were switched off; called every second."""
        now = time.time()
        self.memory.keep(lambda owner: _holds(owner, snapshot, now))


def _holds(owner: Owner, snapshot: Snapshot, now: float) -> bool:
    key = not owner.key_id or holds(snapshot.keys_by_id.get(owner.key_id), now)
    return key and owner.user_id in snapshot.active_users


def named(principal: Principal, chat: ChatRequest, targets: Targets, surface: str) -> str | None:
    """The digest under which the answer lies; None for a request that cannot be written."""
    assert principal.user_id is not None
    wanted = chat.preferences
    asked = [
        principal.user_id,
        principal.is_staff,
        _policy(principal.key),
        surface,
        chat.model,
        chat.provider,
        chat.fallbacks,
        [wanted.order, sorted(wanted.only or ()), sorted(wanted.ignore), wanted.allow_fallbacks] if wanted else None,
        # Chance and load may change their order.
        sorted({(target.provider_id, target.model_id, target.upstream_model) for target in targets}),
        chat.stream,
        chat.emulate_tools,
        [chat.hint(name) for name in HINTS],
        *(sorted(body.items()) for body in _bodies(chat)),
    ]
    try:
        said = orjson.dumps(asked)
    except orjson.JSONEncodeError:
        return None
    return hmac.digest(settings.KEY_PEPPER.encode(), said, "sha256").hex()


def _policy(key: KeyPolicy | None) -> Any:
    """What a key may do: when that changes, it asks anew."""
    return [key.id, sorted(key.models), sorted(key.surfaces)] if key else None


def _bodies(chat: ChatRequest) -> Iterator[Any]:
    options = chat.body.get("stream_options") or {}
    # Usage is asked for in any case; whether the caller sees it is a matter of writing the answer out.
    yield {**chat.body, "stream_options": {**options, "include_usage": True}}
    yield {**chat.native.body, "anthropic-beta": sorted(chat.native.betas)} if chat.native else {}
    yield chat.legacy if isinstance(chat, CompletionRequest) else {}


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it lies there; `at` is Unix time."""

    at: float
    model_id: int
    events: list[Event]

    @classmethod
    def read(cls, name: str, data: bytes) -> Kept | None:
        """None for what an older version wrote, and for another request's answer, whoever brought it."""
        try:
            head, _, rest = data.partition(b"\n")
            at, model_id, of = orjson.loads(head)
            return cls(at, model_id, unpacked(rest)) if of == name else None
        except (ValueError, TypeError, KeyError):
            return None

    @staticmethod
    def written(name: str, model_id: int, events: Sequence[Event]) -> bytes | None:
        data = packed(events)
        return None if data is None else orjson.dumps([time.time(), model_id, name]) + b"\n" + data


class Replaying:
    """The events of an answer that was given before."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    async def complete(self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> Sequence[Event]:
        return self._events

    async def stream(
        self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally
    ) -> AsyncGenerator[Event, None]:
        for event in self._events:
            yield event


class Keeping:
    """Asks, and keeps what came if it is whole."""

    def __init__(self, answers: AnswerStore, name: str, owner: Owner, by_key: bool) -> None:
        self._answers = answers
        self._name = name
        self._owner = owner
        self._by_key = by_key

    async def complete(self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> Sequence[Event]:
        events = await relay.complete(upstream, chat, targets, tally)
        self._keep(events, tally)
        return events

    async def stream(
        self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally
    ) -> AsyncGenerator[Event, None]:
        kept: list[Event] = []
        left = _most()
        async with aclosing(relay.stream(upstream, chat, targets, tally)) as events:
            async for event in events:
                left -= _size(event)
                if left < 0 or isinstance(event, Failed):
                    kept.clear()
                    left = -1
                else:
                    kept.append(event)
                yield event
        if kept:
            self._keep(_joined(kept), tally)

    def _keep(self, events: Sequence[Event], tally: Tally) -> None:
        target = tally.target
        if target is None or not (self._by_key or target.caches) or not is_whole(events):
            return
        # What is too large is not written out first: that would hold everybody up.
        if sum(map(_size, events)) > _most():
            return
        data = Kept.written(self._name, target.model_id, events)
        if data is not None and len(data) <= _most():
            self._answers.put(self._name, self._owner, data)


def _most() -> int:
    return settings.ANSWER_CACHE_BYTES // SHARE


def _size(event: Event) -> int:
    """About what it takes."""
    return 40 + len(getattr(event, "data", "")) + len(getattr(event, "text", "") or "")


def _joined(events: list[Event]) -> list[Event]:
    """Pieces that passed as bytes become one: given again, they come at once."""
    found: list[Event] = []
    for _, run in groupby(events, key=lambda event: isinstance(event, RawChunks)):
        pieces = list(run)
        raw = [piece.data for piece in pieces if isinstance(piece, RawChunks)]
        found.extend([RawChunks(b"".join(raw))] if raw else pieces)
    return found


answers = AnswerCache()
store.listeners.append(answers.check)
