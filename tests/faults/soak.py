"""Drives thousands of requests through a gateway whose provider, network, database and workers fail, and judges.

python -m tests.faults.soak --database both --requests 10000 [--seed N] [--faults 0.2] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.faults.cases import Case, cases
from tests.faults.client import Caller, Outcome
from tests.faults.disturbances import Disturbances
from tests.faults.surroundings import Gateway, Peers, Redis
from tests.faults.talk_soak import TalkOptions, talk_soak, talk_table
from tests.faults.verdict import Outages, Verdict, Vitals, judge, judge_journal, judge_vitals
from tests.support.gateway import scratch_postgres
from tests.support.services import POSTGRES_URL

# Journals of the dead are replayed every ten seconds.
SETTLE_SECONDS = 25.0
SLOW_PROBE = 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """`share` of the requests meets a fault; every `period` seconds something around the gateway breaks (0: never)."""

    requests: int = 10_000
    seed: int = 0
    share: float = 0.2
    only: tuple[str, ...] = ()
    lanes: int = 24
    period: float = 15.0


@dataclass
class Report:
    """`disturbed` counts what was done to the surroundings."""

    name: str
    verdict: Verdict
    seconds: float
    before: dict[int, Vitals]
    after: dict[int, Vitals]
    disturbed: Mapping[str, int]
    latencies: list[float] = field(repr=False)

    @property
    def problems(self) -> list[str]:
        return self.verdict.problems


class Run:
    """One run against one gateway."""

    def __init__(self, gateway: Gateway, peers: Peers, options: Options, redis: Redis | None = None) -> None:
        self.gateway = gateway
        self.peers = peers
        self.options = options
        self.outcomes: list[Outcome] = []
        self.problems: list[str] = []
        self.disturbances = Disturbances(gateway, redis, options.seed, options.period)
        self.disturbed = self.disturbances.counts
        self._up = self.disturbances.up

    async def go(self, say: Callable[[str], None]) -> Report:
        options = self.options
        await self._drive(cases(options.seed + 1, options.lanes * 4, 0.0))
        self.outcomes_warm = list(self.outcomes)
        before = await self._quiet()
        started = time.monotonic()
        beside = [
            self.disturbances.run(),
            self._probe("/livez", {200}),
            self._probe("/v1/models", {200, 503}),
            self._tell(say),
        ]
        tasks = [asyncio.create_task(each) for each in beside]
        try:
            await self._drive(self._todo())
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        # A cancelled disturbance leaves nothing broken: each ends what it began.
        self.problems += [f"{type(e).__name__}: {e}" for e in ended if isinstance(e, Exception)]
        seconds = time.monotonic() - started
        verdict = await self._settled()
        after = await self._quiet(before)
        verdict.problems += self.problems
        verdict.problems += judge_vitals(before, after)
        verdict.problems += judge_journal(self.gateway.journal(), len(after))
        verdict.problems += [f"the log has: {line}" for line in self.gateway.traces()]
        whole = [
            o.ended - o.began
            for o in self.outcomes
            if o.end == "complete" and o.case.fault == "none" and not o.case.slow
        ]
        return Report(self.gateway.folder.name, verdict, seconds, before, after, self.disturbed, whole)

    def _todo(self) -> Iterator[Case]:
        """The requests asked for, and more until everything around the gateway has broken once."""
        options = self.options
        for case in cases(options.seed, options.requests * 50, options.share, options.only):
            if case.number >= options.requests and (self.disturbances.rounds or not options.period):
                return
            yield case

    async def _drive(self, waiting: Iterator[Case]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.lanes):
                group.create_task(self._lane(waiting))

    async def _lane(self, waiting: Iterator[Case]) -> None:
        caller = Caller(self.gateway.process.port)
        try:
            for case in waiting:
                key = self.gateway.people[case.user].key
                while True:
                    await self._up.wait()
                    outcome = await caller.ask(case, key)
                    if outcome.end != "unsent":
                        break
                    if self._up.is_set() and not self._excused(outcome.began, outcome.ended):
                        self.problems.append(f"request {case.number}: the gateway took no connection")
                        break
                    await asyncio.sleep(0.05)
                self.outcomes.append(outcome)
        finally:
            caller.close()

    def _excused(self, began: float, ended: float) -> bool:
        return Outages(self.disturbances.outages).excuse(began, ended)

    async def _tell(self, say: Callable[[str], None]) -> None:
        total = self.options.requests
        while True:
            await asyncio.sleep(5)
            done = len(self.outcomes) - len(self.outcomes_warm)
            say(f"  {done:>6} of {total}, disturbances: {sum(self.disturbed.values())}, problems: {len(self.problems)}")

    async def _probe(self, path: str, allowed: set[int]) -> None:
        """Asks again and again; a fault must neither stop nor slow down what does not depend on it."""
        headers = {"authorization": f"Bearer {self.gateway.people[0].key}"}
        url = f"{self.gateway.process.url}{path}"
        async with httpx.AsyncClient(timeout=SLOW_PROBE) as client:
            while True:
                await asyncio.sleep(0.3)
                await self._up.wait()
                began = time.monotonic()
                try:
                    response = await client.get(url, headers=headers)
                    said, good = str(response.status_code), response.status_code in allowed
                except httpx.TransportError as error:
                    said, good = f"{type(error).__name__} {error}", False
                ended = time.monotonic()
                self.disturbed["GET " + path] += 1
                if not good and not self._excused(began, ended):
                    self.problems.append(f"GET {path}: {said} after {ended - began:.1f} s")

    async def _settled(self) -> Verdict:
        """Judges again and again until nothing is missing: rows come in batches, those of the dead later."""
        deadline = time.monotonic() + SETTLE_SECONDS
        seen = await asyncio.to_thread(self.peers.seen)
        while True:
            rows = await asyncio.to_thread(self.gateway.rows)
            verdict = judge(self.outcomes, rows, seen, self.gateway.people, Outages(self.disturbances.outages))
            if not verdict.problems or time.monotonic() > deadline:
                return verdict
            await asyncio.sleep(1)

    async def _quiet(self, wanted: dict[int, Vitals] | None = None) -> dict[int, Vitals]:
        """What the workers hold when nobody asks: idle connections to providers are let go after some seconds."""
        deadline = time.monotonic() + 15
        while True:
            await asyncio.sleep(1)
            found = await asyncio.to_thread(self.gateway.vitals)
            sockets = sum(vitals.sockets for vitals in found.values())
            good = not sockets if wanted is None else not judge_vitals(wanted, found)
            if (good and len(found) == self.gateway.workers) or time.monotonic() > deadline:
                return found


async def soak(name: str, options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """`name`: sqlite (one worker), or postgres (two workers, with Redis)."""
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="g4fsite-faults-")))
        folder = base / name
        folder.mkdir()
        peers = stack.enter_context(Peers())
        redis, database = None, ""
        if name == "postgres":
            database = stack.enter_context(scratch_postgres(POSTGRES_URL))
            redis = Redis(folder)
            redis.start()
            stack.callback(redis.stop)
        gateway = Gateway(folder, peers, workers=2 if redis else 1, database=database, redis=redis.url if redis else "")
        try:
            await gateway.start()
            report = await Run(gateway, peers, options, redis).go(say)
        finally:
            code = await gateway.stop()
            gateway.keep_log()
        if code != 0:
            report.problems.append(f"the gateway ended with {code} on SIGTERM")
        return report


def table(report: Report) -> str:
    """What was seen, for people."""
    verdict = report.verdict
    lines = [f"{report.name}: {report.seconds:.0f} s, {len(report.problems)} violations"]
    lines += [f"  {count:>7}  {name}" for name, count in sorted(verdict.counts.items())]
    lines += [f"  {count:>7}  disturbance: {name}" for name, count in sorted(report.disturbed.items())]
    if len(report.latencies) > 1:
        cuts = statistics.quantiles(report.latencies, n=100)
        lines.append(f"  healthy requests: p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms")
    for title, found in (("at first", report.before), ("at the end", report.after)):
        for pid, vitals in found.items():
            lines.append(
                f"  worker {pid} {title}: {vitals.tasks} tasks, {vitals.sockets} sockets, {vitals.files} files, "
                f"{vitals.threads} threads, {vitals.megabytes:.0f} MB"
            )
    lines += [f"  VIOLATION {problem}" for problem in report.problems[:40]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=main.__doc__ or __doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="for each database (10000)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="repeats a run (by chance)")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--faults", type=float, default=0.2, metavar="SHARE", help="part that meets a fault (0.2)")
    parser.add_argument("--only", default="", metavar="NAMES", help="only these faults, separated by commas")
    parser.add_argument("--period", type=float, default=15.0, help="seconds between disturbances, 0 for none (15)")
    parser.add_argument("--lanes", type=int, default=24, help="requests at once (24)")
    parser.add_argument("--part", choices=("chats", "conversations", "both"), default="both")
    parser.add_argument("--disturb", default="", metavar="NAMES", help="only these disturbances of conversations")
    parser.add_argument("--minutes", type=float, default=1e9, help="no further conversation after so long")
    given = parser.parse_args(arguments)
    parts = ("chats", "conversations") if given.part == "both" else (given.part,)
    failed = False
    for name in ("sqlite", "postgres") if given.database == "both" else (given.database,):
        for part in parts:
            print(f"{part} on {name}: {given.requests} requests, seed {given.seed}", flush=True)
            said, problems = _one(part, name, given)
            print(said, flush=True)
            failed = failed or bool(problems)
    return int(failed)


def _one(part: str, name: str, given: argparse.Namespace) -> tuple[str, list[str]]:
    """The table of one run and its violations."""
    only, disturb = (tuple(filter(None, names.split(","))) for names in (given.only, given.disturb))
    common = (given.requests, given.seed, given.faults, only, given.lanes, given.period)

    def say(line: str) -> None:
        print(line, flush=True)

    if part == "chats":
        report = asyncio.run(soak(name, Options(*common), say))
        return table(report), report.problems
    talked = asyncio.run(talk_soak(name, TalkOptions(*common, disturb=disturb, minutes=given.minutes), say))
    return talk_table(talked), talked.problems


if __name__ == "__main__":
    sys.exit(main())
