"""Geometry of the overview's charts: numbers in, attributes of SVG elements out. Colour comes from classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.dashboard import nice_ceiling

WIDTH, PLOT, TOP, BASE = 280, 246, 8, 92
Label = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Box:
    """A bar or a part of one; `tone` is its class."""

    x: str
    y: str
    width: str
    height: str
    tone: str


@dataclass(frozen=True, slots=True)
class Line:
    points: str
    tone: str


@dataclass(frozen=True, slots=True)
class Tick:
    y: str
    text_y: str
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What the template draws. `title` is the sentence that says what can be seen."""

    title: str
    ticks: tuple[Tick, ...]
    labels: tuple[str, str, str]
    boxes: tuple[Box, ...] = ()
    lines: tuple[Line, ...] = ()
    area: str = ""


def _n(value: float) -> str:
    return f"{value:.1f}"


def _height(value: float, top: float) -> float:
    return (BASE - TOP) * min(value / top, 1.0)


def _ticks(top: float, label: Label) -> tuple[Tick, ...]:
    heights = [(TOP + 0.5, top), ((TOP + BASE) / 2 + 0.5, top / 2)]
    return tuple(Tick(_n(y), _n(y + 3.5), label(value)) for y, value in heights)


def bars(
    title: str,
    stacks: Sequence[Sequence[float]],
    tones: Sequence[str],
    labels: tuple[str, str, str],
    label: Label,
    least_top: float = 2,
) -> Plot:
    """One column for each step of time, its parts stacked in the order of `tones`."""
    top = nice_ceiling(max([least_top, *(sum(stack) for stack in stacks)]))
    step = PLOT / max(len(stacks), 1)
    boxes = []
    for index, stack in enumerate(stacks):
        floor = float(BASE)
        for value, tone in zip(stack, tones, strict=True):
            # Something that happened is never invisible.
            height = max(_height(value, top), 1.0) if value else 0.0
            if height:
                gap = 0.8 if floor < BASE and height > 2 else 0.0
                boxes.append(Box(_n(index * step + 1), _n(floor - height), _n(step - 2), _n(height - gap), tone))
                floor -= height
    return Plot(title, _ticks(top, label), labels, boxes=tuple(boxes))


def _segments(values: Sequence[float | None], top: float) -> list[list[tuple[float, float]]]:
    """Runs of known values as points; a step without a value breaks the line."""
    step = PLOT / max(len(values), 1)
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(((index + 0.5) * step, BASE - _height(value, top)))
    return [run for run in runs if run]


def _path(runs: list[list[tuple[float, float]]]) -> str:
    # A lone value is drawn as a short dash, a line of no length would not be seen.
    pairs = [run if len(run) > 1 else [(run[0][0] - 2, run[0][1]), (run[0][0] + 2, run[0][1])] for run in runs]
    return "".join("M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in run) for run in pairs)


def _under(runs: list[list[tuple[float, float]]]) -> str:
    parts = []
    for run in runs:
        line = "L".join(f"{_n(x)} {_n(y)}" for x, y in run)
        parts.append(f"M{_n(run[0][0])} {BASE}L{line}L{_n(run[-1][0])} {BASE}Z")
    return "".join(parts)


def lines(
    title: str,
    main: Sequence[float | None],
    second: Sequence[float | None],
    labels: tuple[str, str, str],
    label: Label,
) -> Plot:
    """A filled line and a dashed one over the same steps of time."""
    known = [value for value in (*main, *second) if value is not None]
    top = nice_ceiling(max(known, default=1))
    mains = _segments(main, top)
    drawn = (Line(_path(_segments(second, top)), "l2"), Line(_path(mains), "l1"))
    return Plot(title, _ticks(top, label), labels, lines=drawn, area=_under(mains))


def strip(minutes: Sequence[tuple[int, int]]) -> tuple[Box, ...]:
    """One box a minute from (good, bad) counts: all well, some failed, all failed, nothing asked."""
    boxes = []
    for index, (good, bad) in enumerate(minutes):
        tone = "bg" if not good and not bad else "ok" if not bad else "bw" if good >= bad else "bb"
        boxes.append(Box(str(index * 5), "0", "3.5", "12", tone))
    return tuple(boxes)
