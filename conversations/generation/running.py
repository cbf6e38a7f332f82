"""The answers that this process makes, and the logs of those that are over but still here."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import UUID

from django.conf import settings

from conversations.generation import rows
from conversations.generation.ask import Ask
from conversations.generation.event_log import EventLog, KeptLogs
from conversations.generation.keeper import keeper
from conversations.generation.redis_log import RedisLog, forget
from conversations.generation.rows import Begun
from conversations.generation.runner import Runner, Stopped
from conversations.generation.threads import off_the_loop
from gateway.authentication import Principal
from gateway.errors import ServerStopping

# Beyond the time that the server gives answers under way, for their last words and rows.
LAST_SECONDS = 5.0


class Running:
    """One per process. Its answers live on the loop that began them."""

    def __init__(self) -> None:
        self._runners: dict[UUID, Runner] = {}
        self._kept = KeptLogs()
        self._copies: set[asyncio.Task[None]] = set()
        self._shared: dict[asyncio.AbstractEventLoop, RedisLog] = {}

    def __len__(self) -> int:
        return len(self._runners)

    def busy(self) -> bool:
        """Whether a process that wants to end has something to wait for."""
        return bool(self._runners)

    def shared(self) -> RedisLog | None:
        """The logs of all workers, where there are several."""
        if not settings.REDIS_URL:
            return None
        loop = asyncio.get_running_loop()
        if loop not in self._shared:
            self._shared[loop] = RedisLog(settings.REDIS_URL)
        return self._shared[loop]

    def begin(self, begun: Begun, ask: Ask, principal: Principal, request_id: str, base: str) -> Runner:
        """From now on the server owns it; to be called on the server's loop."""
        runner = Runner(begun, ask, principal, request_id, base, keeper.worker)
        self._runners[begun.generation] = runner
        keeper.add(runner)
        runner.task.add_done_callback(lambda _: self._ended(runner))
        shared = self.shared()
        if shared is not None:
            copy = asyncio.get_running_loop().create_task(_copied(shared, runner))
            self._copies.add(copy)
            copy.add_done_callback(self._copies.discard)
        return runner

    def _ended(self, runner: Runner) -> None:
        keeper.remove(runner.generation)
        self._runners.pop(runner.generation, None)
        self._kept.add(runner.log)

    def runner(self, generation: UUID) -> Runner | None:
        return self._runners.get(generation)

    def log(self, generation: UUID) -> EventLog | None:
        runner = self._runners.get(generation)
        return runner.log if runner else self._kept.get(generation)

    def stop(self, generation: UUID) -> None:
        """Does nothing where another process makes it: that one hears of it through the database."""
        runner = self._runners.get(generation)
        if runner is not None:
            runner.cut(Stopped())

    async def close(self) -> None:
        """Ends what is still going, keeps what it said, and lets others have it."""
        runners = list(self._runners.values())
        for runner in runners:
            runner.cut(ServerStopping())
        tasks = [runner.task for runner in runners]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_SECONDS)
        if self._copies:
            await asyncio.wait(list(self._copies), timeout=2)
        for copy in list(self._copies):
            copy.cancel()
        shared = self._shared.pop(asyncio.get_running_loop(), None)
        if shared is not None:
            await shared.close()
        self._runners.clear()
        self._kept.clear()


async def _copied(shared: RedisLog, runner: Runner) -> None:
    await shared.copy(runner.log)
    # It was deleted while it was made: what was written afterwards goes as well.
    if runner.taken and not await off_the_loop(partial(rows.exists, runner.generation)):
        await asyncio.to_thread(forget, [runner.generation])


running = Running()
