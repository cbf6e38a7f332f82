"""Drives thousands of conversations while everything around the gateway fails, and judges: soak.py's other part."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from tests.faults.disturbances import LOCK_SECONDS, Disturbances
from tests.faults.surroundings import SETTINGS, Gateway, Peers, Redis, mounted
from tests.faults.talk_verdict import WRONG, Message, TalkVerdict, judge_talks
from tests.faults.talks import Page, Talk, Told, talks
from tests.support.gateway import scratch_postgres
from tests.support.services import POSTGRES_URL

# Answers are cut off when the server stops, so that what they said can be compared.
TALKING = {**SETTINGS, "STOP_GRACE_SECONDS": "1"}
DISK_MEGABYTES = 512
SETTLE_SECONDS = 30.0
MESSAGES = "SELECT id, conversation_id, owner_id, role, state, text FROM conversations_message"


@dataclass(frozen=True, slots=True)
class TalkOptions:
    """As `soak.Options`; `seconds` is how long a lock, a full disk or an absence lasts."""

    requests: int = 10_000
    seed: int = 0
    share: float = 0.2
    only: tuple[str, ...] = ()
    lanes: int = 32
    period: float = 12.0
    seconds: float = LOCK_SECONDS
    # Alone these disturbances, and not those.
    disturb: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    # No further question after so long.
    minutes: float = 1e9


@dataclass
class TalkReport:
    name: str
    seconds: float
    verdict: TalkVerdict
    disturbed: Counter[str]
    notes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return self.verdict.problems


class TalkRun:
    def __init__(
        self, gateway: Gateway, peers: Peers, options: TalkOptions, redis: Redis | None, *, small_disk: bool
    ) -> None:
        self.gateway = gateway
        self.peers = peers
        self.options = options
        self.told: list[Told] = []
        extra = {"stop", "fill"} - set(options.spared) - ({"fill"} if not small_disk else set())
        self.disturbances = Disturbances(
            gateway, redis, options.seed, options.period, extra, options.seconds, options.disturb
        )
        keys = [person.key for person in gateway.people]
        self.page = Page(gateway.process.port, keys, self.disturbances.up.wait)

    async def go(self, say: Callable[[str], None]) -> TalkReport:
        began = time.monotonic()
        beside = [asyncio.create_task(self.disturbances.run()), asyncio.create_task(self._tell(say))]
        try:
            await self._drive(self._todo())
        finally:
            for task in beside:
                task.cancel()
            ended = await asyncio.gather(*beside, return_exceptions=True)
        seconds = time.monotonic() - began
        verdict = await self._settled()
        verdict.problems += [f"{type(e).__name__}: {e}" for e in ended if isinstance(e, Exception)]
        verdict.problems += self.disturbances.problems
        verdict.problems += [f"the log has: {line}" for line in self.gateway.traces()]
        return TalkReport(self.gateway.folder.name, seconds, verdict, self.disturbances.counts)

    def _todo(self) -> Iterator[Talk]:
        """Those asked for, and more until everything has broken once."""
        options, late = self.options, time.monotonic() + self.options.minutes * 60
        for talk in talks(options.seed, options.requests * 50, options.share, options.only):
            enough = talk.case.number >= options.requests and (self.disturbances.rounds or not options.period)
            if enough or time.monotonic() > late:
                return
            yield talk

    async def _drive(self, waiting: Iterator[Talk]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.lanes):
                group.create_task(self._lane(waiting))

    async def _lane(self, waiting: Iterator[Talk]) -> None:
        for talk in waiting:
            told = await self.page.talk(talk)
            self.told.append(told)
            if told.state == "interrupted":
                self.told.append(await self.page.go_on(told))

    async def _tell(self, say: Callable[[str], None]) -> None:
        while True:
            await asyncio.sleep(5)
            states = dict(Counter(each.state for each in self.told))
            say(f"  {len(self.told):>6} of {self.options.requests}, {states}, {dict(self.disturbances.counts)}")

    async def _settled(self) -> TalkVerdict:
        """Again and again until nothing is missing: usage comes in batches, that of the dead later."""
        deadline = time.monotonic() + SETTLE_SECONDS
        seen = await asyncio.to_thread(self.peers.seen)
        while True:
            rows = await asyncio.to_thread(self.gateway.rows)
            messages = await asyncio.to_thread(kept, self.gateway)
            verdict = judge_talks(self.told, messages, rows, seen, self.gateway.people, self.disturbances.spans)
            if not verdict.problems or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(1)


def kept(gateway: Gateway) -> list[Message]:
    """The messages in the database."""
    if gateway.database:
        with psycopg.connect(gateway.database) as connection:
            found: list[Any] = connection.execute(MESSAGES.encode()).fetchall()
    else:
        with contextlib.closing(sqlite3.connect(gateway.process.folder / "db.sqlite3", timeout=30)) as connection:
            found = connection.execute(MESSAGES).fetchall()
    return [Message(_uuid(row[0]), _uuid(row[1]), *row[2:]) for row in found]


def _uuid(value: Any) -> UUID:
    """SQLite's are 32 letters."""
    return value if isinstance(value, UUID) else UUID(value)


async def talk_soak(name: str, options: TalkOptions, say: Callable[[str], None] = lambda _: None) -> TalkReport:
    """`name`: sqlite (one process), or postgres (two workers, with Redis). Its data lies on a small disk of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="g4fsite-faults-"))) / name
        folder.mkdir()
        small_disk = stack.enter_context(mounted(folder, DISK_MEGABYTES))
        peers = stack.enter_context(Peers())
        redis, database = None, ""
        if name == "postgres":
            database = stack.enter_context(scratch_postgres(POSTGRES_URL))
            redis = Redis(folder)
            redis.start()
            stack.callback(redis.stop)
        gateway = Gateway(
            folder, peers, workers=2 if redis else 1, database=database, redis=redis.url if redis else "",
            settings=TALKING,
        )  # fmt: skip
        try:
            await gateway.start()
            report = await TalkRun(gateway, peers, options, redis, small_disk=small_disk).go(say)
        finally:
            code = await gateway.stop()
            gateway.keep_log()
        if code != 0:
            report.problems.append(f"the gateway ended with {code} on SIGTERM")
        if not small_disk:
            report.notes.append("the disk was never full: this user may not mount a small one")
        return report


def talk_table(report: TalkReport) -> str:
    """What was seen, for people."""
    counts = report.verdict.counts
    lines = [f"conversations on {report.name}: {report.seconds:.0f} s, {len(report.problems)} violations"]
    lines += [f"  {counts[name]:>7}  {name}" for name in WRONG]
    lines += [f"  {count:>7}  {name}" for name, count in sorted(counts.items()) if name not in WRONG]
    lines += [f"  {count:>7}  disturbance: {name}" for name, count in sorted(report.disturbed.items())]
    lines.append(f"  {report.verdict.lost_seconds:>7.2f}  seconds of text at most were lost by a kill")
    lines += [f"  {note}" for note in report.notes]
    lines += [f"  VIOLATION {problem}" for problem in report.problems[:40]]
    return "\n".join(lines)
