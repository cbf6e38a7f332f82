"""Limits per minute and of open streams: what they are, where a caller stands, and the counters of one process.

A minute begins with the first request after the one before has ended, so whatever order parallel requests come in,
exactly as many pass in it as the limit says. Tokens are reserved when a request begins and settled when it has ended.
A stream holds a place from its beginning to its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

REQUESTS, TOKENS, STREAMS = "requests", "tokens", "streams"
MINUTE_MS = 60_000
# When who found no place may ask again.
PLACE_MS = 1_000
OWNERS = {"key": "this API key", "user": "this user", "model": "this model"}


class CountersAway(Exception):
    """Shared counters do not answer."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` of `kind` in a minute, or streams at once, for all requests that name the same owner (one of
    OWNERS and its id)."""

    owner: str
    owner_id: int
    kind: str
    amount: int

    @property
    def name(self) -> str:
        return f"{self.owner}:{self.owner_id}:{self.kind}"

    @property
    def is_place(self) -> bool:
        """Whether it is held until the stream ends, instead of for a minute."""
        return self.kind == STREAMS

    def share(self, processes: int) -> Limit:
        """What one of several processes may let pass when they cannot count together."""
        return self if processes < 2 else replace(self, amount=max(1, self.amount // processes))


@dataclass(frozen=True, slots=True)
class Claim:
    limit: Limit
    amount: int


@dataclass(frozen=True, slots=True)
class Minute:
    """What was used of it, the claim included when it passed. `end` is in milliseconds of its counters' clock.
    For places it says how many are held, and ends when it is worth to ask again."""

    end: int
    used: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A minute for each claim. `refused` is the claim that did not fit; then none was counted."""

    refused: int | None
    now: int
    minutes: tuple[Minute, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands with a limit, `reset` seconds before its minute ends."""

    limit: Limit
    used: int
    reset: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit.amount - self.used)


class Counters(Protocol):
    def settle(self, name: str, difference: int, end: int) -> None:
        """Corrects what was claimed in the minute that ends at `end`. What was used beyond the claim is booked even
        when that minute is over; what was claimed in vain is gone with it."""

    def hold(self, names: Sequence[str], holder: str) -> None:
        """Notes that a stream runs that has places under these names."""

    def leave(self, names: Sequence[str], holder: str) -> None:
        """Frees them. Those it does not hold are left alone."""


class MemoryCounters:
    """The counters of one process."""

    def __init__(self) -> None:
        self._minutes: dict[str, Minute] = {}
        self._holders: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def take(self, claims: Sequence[Claim], holder: str = "") -> Outcome:
        """Counts all claims or none. `holder` has the places that are among them."""
        now = _now()
        with self._lock:
            minutes = [self._found(claim.limit, now) for claim in claims]
            refused = _refused(claims, minutes)
            if refused is None:
                minutes = [Minute(m.end, m.used + c.amount) for m, c in zip(minutes, claims, strict=True)]
                self._minutes.update(
                    (c.limit.name, m) for c, m in zip(claims, minutes, strict=True) if not c.limit.is_place
                )
                self._add([claim.limit.name for claim in claims if claim.limit.is_place], holder)
        return Outcome(refused, now, tuple(minutes))

    def hold(self, names: Sequence[str], holder: str) -> None:
        with self._lock:
            self._add(names, holder)

    def leave(self, names: Sequence[str], holder: str) -> None:
        with self._lock:
            for name in names:
                holders = self._holders.get(name, set())
                holders.discard(holder)
                if not holders:
                    self._holders.pop(name, None)

    def _add(self, names: Sequence[str], holder: str) -> None:
        for name in names:
            self._holders.setdefault(name, set()).add(holder)

    def _found(self, limit: Limit, now: int) -> Minute:
        if limit.is_place:
            return Minute(now + PLACE_MS, len(self._holders.get(limit.name, ())))
        return self._current(limit.name, now)

    def settle(self, name: str, difference: int, end: int) -> None:
        with self._lock:
            minute = self._current(name, _now())
            if minute.end == end or difference > 0:
                self._minutes[name] = Minute(minute.end, max(0, minute.used + difference))

    def _current(self, name: str, now: int) -> Minute:
        minute = self._minutes.get(name)
        return minute if minute is not None and now < minute.end else Minute(now + MINUTE_MS, 0)


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


def _refused(claims: Sequence[Claim], minutes: Sequence[Minute]) -> int | None:
    """The claim that has to wait longest. One that finds nothing used passes: a share may be smaller than it."""
    over = [
        (minute.end, index)
        for index, (claim, minute) in enumerate(zip(claims, minutes, strict=True))
        if minute.used and minute.used + claim.amount > claim.limit.amount
    ]
    return max(over)[1] if over else None
