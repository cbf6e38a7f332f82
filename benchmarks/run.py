"""Measures ours beside nginx and LiteLLM in one sitting: what a request and a chunk cost. See README.md.

python benchmarks/run.py                                        what `make bench` does
python benchmarks/run.py --targets direct,nginx,ours --reps 1   a short look
python benchmarks/run.py --phases memory                        does anything grow?
python benchmarks/run.py show [FILE] [--write docs/performance.md]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Run as a file, Python looks beside it; imports start at the root of the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import memory, process, report, targets
from benchmarks.traffic import (
    LOAD_CORE,
    OURS_ALONE,
    PHASES,
    WARM_UP,
    Gateway,
    build,
    end_on_signals,
    listens,
    measure,
    quiet,
    send,
    simulator,
)

DEFAULT_PHASES = "plain1,plain32,plain128,stream1,stream100,stream1000,flood,translated100,memory"


class Bench:
    """One sitting: the targets in turn, repetition after repetition, every line appended to a file."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.tools = build(targets.cache() / "tools")
        self.ours: targets.Ours | None = None
        self.sent = 0

    def note(self, line: dict[str, Any]) -> None:
        with self.options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            self.provider = stack.enter_context(simulator(self.tools))
            database = ""
            if self.options.database and "ours" in self.options.targets:
                database = stack.enter_context(targets.scratch_database(self.options.database))
            if "ours" in self.options.targets:
                self.ours = targets.Ours(self.folder, self.provider.url, database)
            self.note({"about": self._about()})
            for repetition in range(self.options.reps):
                for name in self.options.targets:
                    self._target(name, repetition)
            if self.ours and "memory" in self.options.phases:
                self._memory(self.ours)
            if self.ours:
                self.note({"about": self._about() | {"usage rows": self._reconciled(self.ours)}})

    def _about(self) -> dict[str, str]:
        database = "PostgreSQL" if self.options.database else "SQLite"
        about = {"when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "on": process.machine()}
        about |= {name: found for name in self.options.targets if (found := targets.version(name))}
        if "ours" in self.options.targets:
            about["switched on in ours"] = targets.OURS_ON.format(database=database)
        return about | {"repetitions": str(self.options.reps)}

    def _reconciled(self, ours: targets.Ours) -> str:
        return f"{ours.usage_rows():,} for {self.sent:,} requests that the clients sent"

    @contextlib.contextmanager
    def _started(self, name: str) -> Iterator[Gateway]:
        if name == "direct":
            yield self.provider
        elif name == "ours":
            assert self.ours is not None
            with self.ours.running() as gateway:
                yield gateway
        else:
            with {"nginx": targets.nginx, "litellm": targets.litellm}[name](self.folder, self.provider.url) as gateway:
                yield gateway

    def _target(self, name: str, repetition: int) -> None:
        phases = [
            phase for phase in self.options.phases if phase in PHASES and (name == "ours" or phase not in OURS_ALONE)
        ]
        if not phases:
            return
        try:
            with self._started(name) as gateway:
                for options in WARM_UP:
                    self._count(name, send(self.tools, gateway, options))
                for phase in phases:
                    self._phase(gateway, phase, repetition)
        except RuntimeError as error:
            self._failed(name, "start", repetition, error)

    def _phase(self, gateway: Gateway, phase: str, repetition: int) -> None:
        """Once, and again while others keep the machine busy."""
        for _ in range(self.options.retries + 1):
            quiet(self.options.wait)
            try:
                found = measure(self.tools, gateway, PHASES[phase], self.provider)
            except RuntimeError as error:
                self._failed(gateway.name, phase, repetition, error)
                return
            if not listens(self.provider):
                raise SystemExit(
                    "The simulated provider has ended: something else stopped it. Nothing after that counts."
                )
            line = {"target": gateway.name, "phase": phase, "repetition": repetition, **found}
            self._count(gateway.name, found)
            self.note(line)
            print(report.text_line(line), flush=True)
            if not found["busy"]:
                return

    def _count(self, name: str, found: dict[str, Any]) -> None:
        self.sent += found["started"] if name == "ours" else 0

    def _failed(self, name: str, phase: str, repetition: int, error: Exception) -> None:
        line = {"target": name, "phase": phase, "repetition": repetition, "fail": str(error)}
        self.note(line)
        print(report.text_line(line), file=sys.stderr, flush=True)

    def _memory(self, ours: targets.Ours) -> None:
        line = memory.watch(self.tools, ours)
        self.sent += memory.FIRST + line["samples"][-1]["requests"]
        self.note(line)
        print(report.text_line(line), flush=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("action", nargs="?", choices=["run", "show"], default="run")
    made.add_argument("file", nargs="?", type=Path, help="show: the results to show (those of the last run)")
    add = made.add_argument
    add("--targets", default=",".join(targets.NAMES), help="of %(default)s; what is not installed is left out")
    add("--phases", default=DEFAULT_PHASES, help=f"of {', '.join(PHASES)}, memory (default: %(default)s)")
    add("--reps", type=int, default=3, help="repetitions, of which the median counts (%(default)s)")
    add("--retries", type=int, default=1, help="how often a phase on a busy machine is repeated (%(default)s)")
    add(
        "--wait",
        type=float,
        default=4,
        help="how many seconds to wait for a quiet machine before a phase (%(default)s)",
    )
    add("--database", default="", metavar="URL", help="run ours on this PostgreSQL server, in a database of its own")
    add("--out", type=Path, help="where the results go, one JSON object per line")
    add("--write", type=Path, metavar="DOCUMENT", help="put the tables between the markers of this document")
    add("--markdown", action="store_true", help="show: tables alone, which is what it prints anyway")
    return made


def chosen(options: argparse.Namespace) -> None:
    """Turns the lists into lists; ends the program on a name that is not known."""
    for name, known in {"targets": targets.NAMES, "phases": (*PHASES, "memory")}.items():
        asked = getattr(options, name).split(",")
        if unknown := set(asked) - set(known):
            raise SystemExit(f"--{name}: {', '.join(sorted(unknown))} is not one of {', '.join(known)}")
        setattr(options, name, [each for each in known if each in asked])
    for name in list(options.targets):
        if reason := targets.missing(name):
            print(reason, file=sys.stderr)
            options.targets.remove(name)


def main() -> None:
    options = parser().parse_args()
    end_on_signals()
    last = targets.cache() / "results.jsonl"
    if options.action == "run":
        chosen(options)
        options.out = options.out or last
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.unlink(missing_ok=True)
        # Samples are taken from the clients' core, so that they cost the gateway nothing.
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            Bench(options, Path(folder)).run()
        print(f"took {time.monotonic() - began:.0f} s; results in {options.out}\n")
    sitting = report.read(options.file or options.out or last)
    print(report.markdown(sitting))
    if options.write:
        report.write_into(options.write, sitting)


if __name__ == "__main__":
    main()
