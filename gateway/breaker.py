"""Which targets have been failing lately. It orders them and never refuses: the last resort is still tried.

Kept per credential and model, in memory, per worker. A refused credential opens at once, a rate limit
pauses until the time the provider named, other failures open after a few in a row; when the time is over
one request is let through to see whether things are well again, unless `probes.py` has found out before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import UpstreamError, UpstreamLimited, UpstreamRefused
from gateway.targets import Target

FAILURES_TO_OPEN = 3
OPEN_SECONDS = 30.0
REFUSED_SECONDS = 60.0
LIMITED_SECONDS = 10.0
LONGEST_SECONDS = 600.0
PROBE_SECONDS = 30.0


@dataclass(slots=True)
class _State:
    failures: int = 0
    openings: int = 0
    open_until: float = 0.0
    probing_until: float = 0.0
    target: Target | None = None
    # A limit ends when its time is over, whatever a probe may find.
    limited: bool = False
    vouched: bool = False


class Breaker:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[tuple[int, int], _State] = {}

    def order(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Those that are well first; each group keeps its order."""
        if not self._states:
            return targets
        return tuple(sorted(targets, key=self.is_open))

    def is_open(self, target: Target) -> bool:
        state = self._states.get(_key(target))
        if state is None:
            return False
        now = self._clock()
        return now < state.open_until or now < state.probing_until

    def pause(self, target: Target) -> float:
        """Seconds until it is tried in its turn again; 0 when it is well."""
        state = self._states.get(_key(target))
        return 0.0 if state is None else max(0.0, max(state.open_until, state.probing_until) - self._clock())

    def trying(self, target: Target) -> None:
        """Marks the probe of a target whose time is over, so that only one request carries the risk."""
        if not self._states:
            return
        state = self._states.get(_key(target))
        if state is not None and state.open_until and self._clock() >= state.open_until:
            state.probing_until = self._clock() + PROBE_SECONDS

    def succeeded(self, target: Target) -> None:
        if self._states:
            self._states.pop(_key(target), None)

    def failed(self, target: Target, error: UpstreamError) -> None:
        if not error.opens:
            return
        state = self._states.setdefault(_key(target), _State())
        state.failures += 1
        state.probing_until = 0.0
        state.target, state.limited = target, isinstance(error, UpstreamLimited)
        pause = self._pause(state, error)
        if pause:
            state.openings += 1
            state.open_until = self._clock() + pause

    def _pause(self, state: _State, error: UpstreamError) -> float:
        if isinstance(error, UpstreamLimited):
            return min(error.retry_after if error.retry_after is not None else LIMITED_SECONDS, LONGEST_SECONDS)
        if isinstance(error, UpstreamRefused):
            return min(REFUSED_SECONDS * 2.0**state.openings, LONGEST_SECONDS)
        if state.failures >= FAILURES_TO_OPEN or state.openings:
            return min(OPEN_SECONDS * 2.0**state.openings, LONGEST_SECONDS)
        return 0.0

    def suspects(self) -> list[Target]:
        """Targets that are open and of which it is worth asking how they are. From any thread."""
        now = self._clock()
        states = list(self._states.values())
        return [
            state.target
            for state in states
            if state.target is not None and now < state.open_until and not state.limited and not state.vouched
        ]

    def vouched(self, target: Target) -> None:
        """Closes a target that a probe found well. Once: if it fails callers all the same, time alone closes it."""
        state = self._states.get(_key(target))
        if state is not None:
            state.vouched, state.open_until = True, self._clock()

    def still_away(self, target: Target, seconds: float) -> None:
        """Keeps a target open that nobody could reach, so that no caller is sent there to try."""
        state = self._states.get(_key(target))
        if state is not None:
            state.open_until = max(state.open_until, self._clock() + seconds)

    def state(self, credential_id: int, model_id: int) -> str:
        """`closed` or `open`, for people."""
        state = self._states.get((credential_id, model_id))
        return "open" if state is not None and self._clock() < state.open_until else "closed"

    def clear(self) -> None:
        self._states.clear()


def _key(target: Target) -> tuple[int, int]:
    # Without a credential the provider itself stands for it.
    return (target.credential_id or -target.provider_id, target.model_id)


breaker = Breaker()
