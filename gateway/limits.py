"""Limits per minute: what they are, where a caller stands, and the counters of one process.

A minute begins with the first request after the one before has ended, so whatever order parallel requests come in,
exactly as many pass in it as the limit says. Tokens are reserved when a request begins and settled when it has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

REQUESTS, TOKENS = "requests", "tokens"
MINUTE_MS = 60_000
OWNERS = {"key": "this API key", "user": "this user", "model": "this model"}


class CountersAway(Exception):
    """Shared counters do not answer."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` of `kind` in a minute for all requests that name the same owner (one of OWNERS and its id)."""

    owner: str
    owner_id: int
    kind: str
    amount: int

    @property
    def name(self) -> str:
        return f"{self.owner}:{self.owner_id}:{self.kind}"

    def share(self, processes: int) -> Limit:
        """What one of several processes may let pass when they cannot count together."""
        return self if processes < 2 else replace(self, amount=max(1, self.amount // processes))


@dataclass(frozen=True, slots=True)
class Claim:
    limit: Limit
    amount: int


@dataclass(frozen=True, slots=True)
class Minute:
    """What was used of it, the claim included when it passed. `end` is in milliseconds of its counters' clock."""

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


class MemoryCounters:
    """The counters of one process."""

    def __init__(self) -> None:
        self._minutes: dict[str, Minute] = {}
        self._lock = threading.Lock()

    def take(self, claims: Sequence[Claim]) -> Outcome:
        """Counts all claims or none."""
        now = _now()
        with self._lock:
            minutes = [self._current(claim.limit.name, now) for claim in claims]
            refused = _refused(claims, minutes)
            if refused is None:
                minutes = [Minute(m.end, m.used + c.amount) for m, c in zip(minutes, claims, strict=True)]
                self._minutes.update((c.limit.name, m) for c, m in zip(claims, minutes, strict=True))
        return Outcome(refused, now, tuple(minutes))

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
