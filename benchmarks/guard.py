"""Fails when a request or a chunk costs clearly more CPU than it did. Part of the gate, about half a minute.

Microseconds move by a factor of two with whatever else a machine does, and from machine to machine; counting
instructions needs hardware that virtual machines rarely have. So the unit is an empty answer: the same server with an
application that does nothing, measured in turn with ours, under the same load, on the same core. Meanwhile the other
core is kept busy with what nobody waits for: cores that share their insides run slower when both work, and the clients
of an empty answer work much more than those of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import process, targets
from benchmarks.traffic import HERE, LOAD_CORE, Gateway, build, end_on_signals, send, simulator

# The ceilings, in empty answers: about twice what was measured when they were set, so that only a real loss fails.
# After work on the cost of a request, measure with `python benchmarks/guard.py --rounds 6` and lower them.
REQUEST_CEILING = 12.0
CHUNK_CEILING = 5.0

ROUNDS = 8
BURN = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while True:
    sum(range(10_000))
"""
EMPTY = "-c 32 -t 60 -w 0 -N 8000"
REQUESTS = "-c 32 -t 60 -w 0 -N 3000"
STREAMS = "-s -n 50 -d 20 -c 100 -t 60 -w 0.5 -N 100"


class Costs:
    """The least CPU time that each kind of work took so far: what disturbs a round only ever adds."""

    def __init__(self, tools: Path, empty: Gateway, ours: Gateway) -> None:
        self.tools = tools
        self.work = {
            "empty": (empty, EMPTY, "ok"),
            "request": (ours, REQUESTS, "ok"),
            "chunk": (ours, STREAMS, "chunks_total"),
        }
        self.least = dict.fromkeys(self.work, float("inf"))

    def round(self) -> None:
        """Raises RuntimeError when an answer is wrong or missing."""
        for name, (gateway, options, counted) in self.work.items():
            assert gateway.pid is not None
            before = process.cpu_seconds(gateway.pid)
            found = send(self.tools, gateway, options)
            used = (process.cpu_seconds(gateway.pid) - before) * 1e6
            if found["err"] or found["unfinished"] or not found["ok"]:
                raise RuntimeError(f"{gateway.name}: {found['err']} errors, {found['unfinished']} unfinished: {found}")
            self.least[name] = min(self.least[name], used / found[counted])

    def in_empty_answers(self, name: str) -> float:
        return self.least[name] / self.least["empty"]

    def __str__(self) -> str:
        parts = [f"an empty answer {self.least['empty']:.1f} µs"]
        parts += [
            f"a {name} {self.least[name]:.1f} µs = {self.in_empty_answers(name):.2f}" for name in ("request", "chunk")
        ]
        return ", ".join(parts)


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Keeps the clients' core at work whenever they pause."""
    with subprocess.Popen(["taskset", "-c", LOAD_CORE, sys.executable, "-c", BURN]) as burning:
        try:
            yield
        finally:
            burning.kill()


@contextlib.contextmanager
def empty_server(folder: Path) -> Iterator[Gateway]:
    with targets.script("empty", HERE / "empty.py", folder) as gateway:
        yield gateway


def judged(costs: Costs, ceilings: dict[str, float]) -> list[str]:
    """What is too dear, a sentence each."""
    return [
        f"a {name} costs {costs.in_empty_answers(name):.2f} empty answers, more than {ceiling}"
        for name, ceiling in ceilings.items()
        if costs.in_empty_answers(name) > ceiling
    ]


def watch(rounds: int, at_least: int, ceilings: dict[str, float]) -> list[str]:
    """Measures until all is below its ceiling, or the rounds are used up; returns what is not."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        tools = build(folder)
        provider = stack.enter_context(simulator(tools))
        ours = targets.Ours(folder, provider.url)
        costs = Costs(tools, stack.enter_context(empty_server(folder)), stack.enter_context(ours.running()))
        stack.enter_context(busy_core())
        for gateway, options, _ in costs.work.values():
            send(tools, gateway, f"{options} -N 100")
        for turn in range(rounds):
            costs.round()
            print(costs, flush=True)
            found = judged(costs, ceilings)
            if not found and turn + 1 >= at_least:
                break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--request", type=float, default=REQUEST_CEILING, help="ceiling of a request, in empty answers (%(default)s)")
    add("--chunk", type=float, default=CHUNK_CEILING, help="ceiling of a chunk, in empty answers (%(default)s)")
    add("--rounds", type=int, help=f"measure so many times; by default until all is well, {ROUNDS} times at most")
    options = parser.parse_args()
    end_on_signals()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    least = options.rounds or 2
    found = watch(options.rounds or ROUNDS, least, {"request": options.request, "chunk": options.chunk})
    for sentence in found:
        print(sentence, file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
