"""The answers under way in this process: what each key has open, and which must end because it lost its right."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings

from gateway.authentication import Principal
from gateway.errors import GatewayError, NotAuthenticated, TooManyStreams
from gateway.snapshot import KeyPolicy, Snapshot, store


@dataclass(eq=False, slots=True)
class Live:
    """`stop` is called on the loop of the answer with what to tell the caller; later calls do nothing."""

    principal: Principal
    loop: asyncio.AbstractEventLoop
    stop: Callable[[GatewayError], None]
    stream: bool


class LiveAnswers:
    def __init__(self) -> None:
        self._open: set[Live] = set()
        self._streams: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, live: Live) -> None:
        """Raises TooManyStreams. Keys of staff, and those with a number of their own, which the limiter counts, are
        not limited here."""
        key = live.principal.key
        if live.stream and key is not None:
            limit = settings.MAX_STREAMS_PER_KEY if key.max_streams is None and not key.is_staff else 0
            if limit and self._streams[key.id] >= limit:
                raise TooManyStreams(f"This API key has {limit} streams open, which is its limit.", retry_after=1)
            self._streams[key.id] += 1
        self._open.add(live)

    def leave(self, live: Live) -> None:
        self._open.discard(live)
        key = live.principal.key
        if live.stream and key is not None:
            self._streams[key.id] -= 1
            if self._streams[key.id] <= 0:
                del self._streams[key.id]

    def check(self, snapshot: Snapshot) -> None:
        """Ends the answers of keys that no longer hold and of users who were switched off; called every second."""
        if not self._open:
            return
        now = time.time()
        for live in list(self._open):
            key, user_id = live.principal.key, live.principal.user_id
            lost_key = key is not None and not holds(snapshot.keys_by_id.get(key.id), now)
            lost_user = user_id is not None and user_id not in snapshot.active_users
            if lost_key or lost_user:
                revoked = NotAuthenticated("The right to this answer was revoked.")
                live.loop.call_soon_threadsafe(live.stop, revoked)

    def end_all(self, reason: Callable[[], GatewayError]) -> None:
        """Each answer gets an error of its own: it will name the request, and when to come back."""
        for live in list(self._open):
            live.loop.call_soon_threadsafe(live.stop, reason())


@contextmanager
def ends_with_right(principal: Principal) -> Iterator[None]:
    """For what is asked in a user's name and answers no request: raises NotAuthenticated once they lose their right,
    ServerStopping when the server stops."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    reasons: list[GatewayError] = []
    over = False

    def stop(reason: GatewayError) -> None:
        if not over and not reasons:
            reasons.append(reason)
            task.cancel()

    live = Live(principal, loop, stop, stream=False)
    answers.enter(live)
    try:
        yield
    except asyncio.CancelledError:
        # The server's own cancelling is for real.
        if reasons and task.uncancel() == 0:
            raise reasons[0] from None
        raise
    finally:
        over = True
        answers.leave(live)


def holds(policy: KeyPolicy | None, now: float) -> bool:
    return policy is not None and not policy.revoked and (policy.expires_at is None or now < policy.expires_at)


answers = LiveAnswers()
store.listeners.append(answers.check)
