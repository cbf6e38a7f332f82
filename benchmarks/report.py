"""From the lines of a sitting to medians, tables and verdicts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = dict[str, Any]


@dataclass
class Sitting:
    """What one run wrote: who was measured on what, and one line per phase and repetition."""

    about: Line = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def names(self) -> list[str]:
        return list(dict.fromkeys(line["target"] for line in self.lines))

    def of(self, target: str, phase: str) -> list[Line]:
        """Its repetitions, without those on a busy machine if two quiet ones remain; else the two least disturbed."""
        found = [
            line for line in self.lines if (line["target"], line["phase"]) == (target, phase) and "fail" not in line
        ]
        quiet = sum(not line.get("busy") for line in found)
        return sorted(found, key=lambda line: line.get("other", 0))[: max(2, quiet)]

    def median(self, target: str, phase: str, name: str) -> float | None:
        values = [line[name] for line in self.of(target, phase) if name in line]
        return statistics.median(values) if values else None

    def total(self, target: str, name: str) -> int:
        """Summed over every line, also those that medians leave out."""
        return sum(line.get(name, 0) for line in self.lines if line["target"] == target)


def read(path: Path) -> Sitting:
    sitting = Sitting()
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "about" in line:
            sitting.about = line["about"]
        else:
            sitting.lines.append(line)
    return sitting


def number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = list(heads)
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def pair(sitting: Sitting, target: str, phase: str, name: str) -> str:
    """`p50 / p99` in milliseconds; "none ended" where the overload was such that no request could be timed."""
    values = [sitting.median(target, phase, f"{name}_{which}") for which in ("p50", "p99")]
    if values[0] is None:
        return "-"
    return " / ".join(number(value, 2) for value in values) if values[0] else "none ended"


def plain_table(sitting: Sitting) -> list[str]:
    heads = [
        "plain requests",
        "CPU µs, 32 clients",
        "times cheaper than LiteLLM",
        "% of nginx",
        "requests/s, 1",
        "32",
        "128",
    ]
    heads += ["p50 / p99 ms, 1", "32"]

    def row(target: str) -> list[str]:
        cost, litellm, nginx = (
            sitting.median(who, "plain32", "us_per_request") for who in (target, "litellm", "nginx")
        )
        share = ratio(nginx, cost)
        served = [number(sitting.median(target, phase, "rps")) for phase in ("plain1", "plain32", "plain128")]
        times = [pair(sitting, target, phase, "lat") for phase in ("plain1", "plain32")]
        compared = [number(ratio(litellm, cost), 1), number(share and 100 * share, 1)]
        return [target, number(cost, 1), *compared, *served, *times]

    return table(heads, map(row, sitting.names()))


def stream_table(sitting: Sitting) -> list[str]:
    heads = ["streams of 50 chunks/s", "CPU µs/chunk, 100", "1,000", "chunks/s, 1,000", "first chunk p50 / p99 ms, 1"]
    heads += ["100", "1,000", "transit p50 / p99 ms, 100", "1,000"]

    def row(target: str) -> list[str]:
        costs = [number(sitting.median(target, phase, "us_per_chunk"), 1) for phase in ("stream100", "stream1000")]
        first = [pair(sitting, target, phase, "ttft") for phase in ("stream1", "stream100", "stream1000")]
        transit = [pair(sitting, target, phase, "chunk") for phase in ("stream100", "stream1000")]
        return [target, *costs, number(sitting.median(target, "stream1000", "chunks_s")), *first, *transit]

    return table(heads, map(row, sitting.names()))


def rest_table(sitting: Sitting) -> list[str]:
    heads = ["the rest", "unpaced streams/s", "MB before", "MB, 1,000 streams", "KB per stream", "errors"]
    heads += ["lost or reordered", "unfinished of 1,000"]

    def row(target: str) -> list[str]:
        memory = [number(sitting.median(target, "stream1000", name)) for name in ("mb_before", "mb")]
        flood = sitting.median(target, "flood", "rps")
        counts = [f"{sitting.total(target, name):,}" for name in ("err", "e_order")]
        unfinished = sitting.median(target, "stream1000", "unfinished")
        return [target, number(flood), *memory, number(kilobytes(sitting, target)), *counts, number(unfinished)]

    return table(heads, map(row, sitting.names()))


def kilobytes(sitting: Sitting, target: str) -> float | None:
    """Memory per open stream: what a thousand of them added."""
    before, most = (sitting.median(target, "stream1000", name) for name in ("mb_before", "mb"))
    if before is None or most is None or not sitting.median(target, "stream1000", "chunks_s"):
        return None
    return (most - before) * 1024 / 1000


@dataclass(frozen=True)
class Goal:
    """A number that must be reached, one that is aimed at, and which way is better."""

    name: str
    must: float
    aim: float | None
    more_is_better: bool
    digits: int = 0

    def verdict(self, value: float | None, *, disturbed: bool = False) -> str:
        if value is None:
            return "not measured"
        if disturbed:
            return "unsure: the machine was busy"
        if not self._reached(value, self.must):
            return "miss"
        return "PASS" if self.aim is None or not self._reached(value, self.aim) else "PASS, aim reached"

    def _reached(self, value: float, wanted: float) -> bool:
        return value >= wanted if self.more_is_better else value <= wanted

    def row(self, value: float | None, *, disturbed: bool) -> list[str]:
        sign = "≥" if self.more_is_better else "≤"
        must = f"{sign} {number(self.must, self.digits)}"
        aim = "-" if self.aim is None else f"{sign} {number(self.aim, self.digits)}"
        return [self.name, must, aim, number(value, max(1, self.digits)), self.verdict(value, disturbed=disturbed)]


GOALS = {
    "cost": Goal("CPU µs per plain request, 32 clients", 160, 85, more_is_better=False),
    "litellm": Goal("times cheaper than LiteLLM per plain request", 40, 80, more_is_better=True),
    "nginx": Goal("% of nginx's byte proxy per plain request", 8, 15, more_is_better=True),
    "chunks": Goal("chunks/s through one core, 1,000 streams", 25_000, 40_000, more_is_better=True),
    "translated": Goal("CPU µs that translation adds to a chunk, 100 streams", 20, 8, more_is_better=False),
    "lost": Goal("lost, doubled, reordered or foreign chunks and answers", 0, None, more_is_better=False),
    "errors": Goal("errors of any kind", 0, None, more_is_better=False),
    "first": Goal("ms added to the first chunk, p50 of 100 streams", 1.5, 0.6, more_is_better=False, digits=1),
    "kilobytes": Goal("KB of memory per open stream", 60, 30, more_is_better=False),
    "memory": Goal("MB of one worker with 1,000 streams", 200, 130, more_is_better=False),
    "growth": Goal("% that memory grew over 100,000 requests", 10, None, more_is_better=False),
    "leaks": Goal("open files, threads and tasks left by them", 0, None, more_is_better=False),
}


# Which phases a goal's value comes from; of counts every line counts, on a busy machine too.
OURS_1000 = ("ours", "stream1000")
SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "cost": (("ours", "plain32"),),
    "litellm": (("ours", "plain32"), ("litellm", "plain32")),
    "nginx": (("ours", "plain32"), ("nginx", "plain32")),
    "chunks": (OURS_1000,),
    "translated": (("ours", "stream100"), ("ours", "translated100")),
    "first": (("ours", "stream100"), ("direct", "stream100")),
    "kilobytes": (OURS_1000,),
    "memory": (OURS_1000,),
}


def disturbed(sitting: Sitting, goal: str) -> bool:
    """Whether a phase that the goal's value comes from never ran on a quiet machine."""
    return any(all(line.get("busy") for line in sitting.of(*source)) for source in SOURCES.get(goal, ()))


def reached(sitting: Sitting, target: str = "ours") -> dict[str, float | None]:
    """Our value for each goal; None where the sitting has none."""
    cost = sitting.median(target, "plain32", "us_per_request")
    nginx = ratio(sitting.median("nginx", "plain32", "us_per_request"), cost)
    first, direct = (sitting.median(who, "stream100", "ttft_p50") for who in (target, "direct"))
    watched = [
        line for line in sitting.lines if line["target"] == target and line["phase"] == "memory" and "samples" in line
    ]
    present = target in sitting.names()
    passed, translated = (sitting.median(target, phase, "us_per_chunk") for phase in ("stream100", "translated100"))
    return {
        "cost": cost,
        "litellm": ratio(sitting.median("litellm", "plain32", "us_per_request"), cost),
        "nginx": nginx and 100 * nginx,
        "chunks": sitting.median(target, "stream1000", "chunks_s"),
        "translated": translated - passed if translated and passed else None,
        "lost": sitting.total(target, "e_order") if present else None,
        "errors": sitting.total(target, "err") if present else None,
        "first": first - direct if first and direct is not None else None,
        "kilobytes": kilobytes(sitting, target),
        "memory": sitting.median(target, "stream1000", "mb"),
        "growth": max((growth(line["samples"]) for line in watched), default=None),
        "leaks": max((leaks(line["samples"]) for line in watched), default=None),
    }


def growth(samples: list[Line]) -> float:
    """Per cent between the first sample and the last."""
    return float((samples[-1]["mb"] / samples[0]["mb"] - 1) * 100)


def leaks(samples: list[Line]) -> int:
    """What the later samples have at least of open files, threads or tasks beyond the most of the earlier half.

    Single samples differ by one or two: the journal's next file may be there already, and SQLite closes a file late.
    What is left by requests is in all later samples.
    """
    half = len(samples) // 2
    earlier, later = samples[:half], samples[half:]
    return max(
        min(int(s[name]) for s in later) - max(int(s[name]) for s in earlier) for name in ("files", "threads", "tasks")
    )


def goals_table(sitting: Sitting) -> list[str]:
    values = reached(sitting)
    heads = ["ours against its targets", "must", "aim", "measured", "verdict"]
    rows = (goal.row(values[name], disturbed=disturbed(sitting, name)) for name, goal in GOALS.items())
    return table(heads, rows)


def memory_table(sitting: Sitting) -> list[str]:
    samples: list[Line] = next((line["samples"] for line in reversed(sitting.lines) if "samples" in line), [])
    heads = ["plain requests", "MB", "open files", "threads", "asyncio tasks"]
    rows = [
        [f"{each['requests']:,}", *(str(each[name]) for name in ("mb", "files", "threads", "tasks"))]
        for each in samples
    ]
    return table(heads, rows) if rows else []


def about_lines(sitting: Sitting) -> list[str]:
    """The circumstances, one list item each."""
    lines = [f"- {name}: {value}" for name, value in sitting.about.items()]
    timed = [line for line in sitting.lines if "other" in line]
    if timed:
        disturbed = sum(bool(line["busy"]) for line in timed)
        other = statistics.median(line["other"] for line in timed)
        lines.append(
            f"- the machine: {other:.2f} cores used by others (median); {disturbed} of {len(timed)} phases disturbed"
        )
    lines += [f"- failed: {line['target']} {line['phase']}: {line['fail']}" for line in sitting.lines if "fail" in line]
    return lines


def markdown(sitting: Sitting) -> str:
    parts = [
        about_lines(sitting),
        plain_table(sitting),
        stream_table(sitting),
        rest_table(sitting),
        memory_table(sitting),
    ]
    if "ours" in sitting.names():
        parts.append(goals_table(sitting))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def text_line(line: Line) -> str:
    """One phase for somebody who watches."""
    head = f"{line['target']:8} {line['phase']:11}"
    if "fail" in line:
        return f"{head} failed: {line['fail'][:160]}"
    if "samples" in line:
        changes = f"memory {growth(line['samples']):+.1f} %, files, threads or tasks {leaks(line['samples']):+d}"
        return f"{head} {changes}, {line['err']} errors"
    shown = f"{head} {line['rps']:9.0f} /s  p50 {line['lat_p50']:8.2f}  p99 {line['lat_p99']:8.2f} ms"
    if line["stream"]:
        shown = f"{head} {line['chunks_s']:9.0f} chunks/s  first {line['ttft_p50']:8.2f} / {line['ttft_p99']:8.2f} ms"
    unit = "us_per_chunk" if line["stream"] else "us_per_request"
    cost = f"  {line[unit]:8.1f} µs" if unit in line else ""
    trouble = f"  ERRORS {line['err']} {line.get('sample', '')[:120]}" if line["err"] else ""
    late = f"  {line['unfinished']} unfinished" if line["unfinished"] else ""
    return f"{shown}{cost}  others {line['other']:.2f}{' BUSY' if line['busy'] else ''}{late}{trouble}"


def write_into(document: Path, sitting: Sitting) -> None:
    """Replaces what stands between the two markers of the document."""
    begin, end = "<!-- measured -->\n", "<!-- /measured -->\n"
    head, rest = document.read_text(encoding="utf-8").split(begin, 1)
    tail = rest.split(end, 1)[1]
    document.write_text(f"{head}{begin}\n{markdown(sitting)}\n{end}{tail}", encoding="utf-8")
