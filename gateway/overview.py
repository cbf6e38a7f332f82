"""What the first page of the admin shows: figures, charts, alerts, the table of providers, in words ready to print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.timesince import timesince

from gateway.charts import Box, Plot, bars, lines, strip
from gateway.dashboard import HOUR, Sums, hour_of, hourly, total
from gateway.models import Provider, UsageEvent
from gateway.provider_state import MINUTES, State, minutes_of, provider_failed, provider_states

DAY = timedelta(days=1)
LAST_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Period:
    key: str
    name: str
    steps: int
    step: timedelta
    before: str


PERIODS = {
    "24h": Period("24h", "24 hours", 24, HOUR, "the day before"),
    "7d": Period("7d", "7 days", 7, DAY, "the week before"),
    "30d": Period("30d", "30 days", 30, DAY, "the 30 days before"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart: its big number, a remark, the drawing, and the same numbers as a table."""

    key: str
    name: str
    value: str
    remark: str
    plot: Plot
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ProviderLine:
    id: int | None
    name: str
    state: State
    strip: tuple[Box, ...]
    strip_text: str
    requests: str
    tokens: str
    errors: str
    first_word: str
    last_error: str


@dataclass(frozen=True, slots=True)
class Alert:
    subject: str
    text: str
    link: str
    target: str
    tone: str = ""
    provider_id: int | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    period: Period
    provider: str
    alerts: tuple[Alert, ...]
    figures: tuple[Figure, ...]
    providers: tuple[ProviderLine, ...]
    empty: bool


def short(value: float) -> str:
    """12, 8,412, 31.6M: figures that fit under a headline."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            number = value / (1e3 if letter == "k" else size)
            return f"{number:.1f}".removesuffix(".0") + letter if number < 100 else f"{number:,.0f}{letter}"
    return f"{value:,.1f}".removesuffix(".0")


def seconds(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "–"
    value = milliseconds / 1000
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _change(now: int, before: int, what: str) -> str:
    # Below twenty a percentage says more than is known.
    if before < 20:
        return ""
    change = round(100 * (now - before) / before)
    return f"{change:+d} % on {what}".replace("-", "−") if change else f"as on {what}"


def _starts(period: Period, now: datetime) -> list[datetime]:
    last = hour_of(now) if period.step == HOUR else hour_of(now).replace(hour=0)
    return [last - period.step * back for back in range(period.steps - 1, -1, -1)]


def _step_name(period: Period, start: datetime) -> str:
    return f"{start:%H:00}" if period.step == HOUR else f"{start.day} {start:%b}"


def _labels(period: Period, starts: Sequence[datetime]) -> tuple[str, str, str]:
    last = "now" if period.step == HOUR else "today"
    return _step_name(period, starts[0]), _step_name(period, starts[len(starts) // 2]), last


def _pick(by_provider: dict[str, Sums], provider: str) -> Sums:
    return by_provider.get(provider, Sums()) if provider else total(by_provider.values())


class Span:
    """The steps of a period with their sums, and the sums of what came before."""

    def __init__(self, period: Period, provider: str, now: datetime) -> None:
        self.period, self.provider = period, provider
        self.starts = _starts(period, now)
        self.hours = hourly(self.starts[0], now, now)
        self.steps = [self._sum(start, start + period.step) for start in self.starts]
        self.sums = total(self.steps)
        self.names = [_step_name(period, start) for start in self.starts]
        self.labels = _labels(period, self.starts)

    def _sum(self, start: datetime, end: datetime) -> Sums:
        return total(_pick(found, self.provider) for hour, found in self.hours.items() if start <= hour < end)

    def by_provider(self) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for hour in self.hours.values():
            for name, sums in hour.items():
                found[name] = found.get(name, Sums()) + sums
        return found

    def remark(self, now: datetime) -> str:
        """How the closed steps compare with the same steps of the period before."""
        length = self.period.step * self.period.steps
        start, end = self.starts[0] - length, self.starts[-1] - length
        earlier = hourly(start, end, now)
        before = total(_pick(found, self.provider) for found in earlier.values())
        return _change(total(self.steps[:-1]).requests, before.requests, self.period.before)


def _each(span: Span) -> str:
    return "hour" if span.period.step == HOUR else "day"


def _requests(span: Span, now: datetime) -> Figure:
    counts = [step.requests for step in span.steps]
    title = f"Requests per {_each(span)}, last {span.period.name}: {span.sums.requests:,}, at most {max(counts):,}"
    return Figure(
        "requests",
        "Requests",
        short(span.sums.requests),
        span.remark(now),
        bars(title, [[count] for count in counts], ["b1"], span.labels, short),
        ("Requests",),
        tuple((name, f"{count:,}") for name, count in zip(span.names, counts, strict=True)),
    )


def _tokens(span: Span) -> Figure:
    sums = span.sums
    title = f"Tokens per {_each(span)}: {short(sums.prompt_tokens)} in and {short(sums.completion_tokens)} out"
    stacks = [[step.prompt_tokens, step.completion_tokens] for step in span.steps]
    return Figure(
        "tokens",
        "Tokens",
        short(sums.tokens),
        f"{short(sums.prompt_tokens)} in, {short(sums.completion_tokens)} out" if sums.tokens else "",
        bars(title, stacks, ["b1", "b2"], span.labels, short, least_top=10),
        ("In", "Out"),
        tuple((name, f"{a:,}", f"{b:,}") for name, (a, b) in zip(span.names, stacks, strict=True)),
    )


def _worst(span: Span) -> str:
    """Whose errors they mostly are."""
    errors = {name: sums.errors for name, sums in span.by_provider().items() if name and sums.errors}
    if span.provider or not errors:
        return ""
    name = max(errors, key=lambda item: errors[item])
    return f", of them {errors[name]:,} {name}" if errors[name] * 2 >= span.sums.errors else ""


def _errors(span: Span) -> Figure:
    sums = span.sums
    counts = [step.errors for step in span.steps]
    title = f"Errors per {_each(span)}: {sums.errors:,} of {sums.requests:,} requests"
    return Figure(
        "errors",
        "Errors",
        percent(sums.errors, sums.requests),
        f"{sums.errors:,}{_worst(span)}" if sums.errors else "none" if sums.requests else "",
        bars(title, [[count] for count in counts], ["bb"], span.labels, short, least_top=10),
        ("Errors", "Share"),
        tuple(
            (name, f"{step.errors:,}", percent(step.errors, step.requests))
            for name, step in zip(span.names, span.steps, strict=True)
        ),
    )


def _first_word(span: Span) -> Figure:
    median = [step.first_word(0.5) for step in span.steps]
    slow = [step.first_word(0.95) for step in span.steps]
    both = f"{seconds(span.sums.first_word(0.5))} in the median, {seconds(span.sums.first_word(0.95))} for 95 of 100"
    known = span.sums.latency_count > 0
    return Figure(
        "first-word",
        "First word",
        seconds(span.sums.first_word(0.5)),
        "median; dashed: 95 of 100" if known else "",
        lines(
            f"Time to the first word: {both}" if known else "No answers yet", median, slow, span.labels, _axis_seconds
        ),
        ("Median", "95 of 100"),
        tuple((name, seconds(a), seconds(b)) for name, a, b in zip(span.names, median, slow, strict=True)),
    )


def _axis_seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:g} s" if milliseconds >= 100 else f"{milliseconds:g} ms"


def _last_errors(now: datetime) -> dict[str, str]:
    """The newest error of each provider among the latest ones."""
    rows = UsageEvent.objects.filter(provider_failed()).order_by("-id")
    found: dict[str, str] = {}
    for name, code, at in rows.values_list("provider_name", "http_status", "created_at")[:LAST_ERRORS]:
        age = "just now" if now - at < timedelta(minutes=2) else f"{timesince(at, now, depth=1)} ago"
        found.setdefault(name, f"{code or 'no answer'}, {age}")
    return found


def _strip_text(minutes: list[tuple[int, int]]) -> str:
    good, bad = sum(item[0] for item in minutes), sum(item[1] for item in minutes)
    if not good and not bad:
        return "Last 30 minutes: no requests"
    return f"Last 30 minutes: {good + bad:,} requests, " + (f"{bad:,} failed" if bad else "none failed")


def _provider_lines(
    span: Span, rows: list[Provider], states: dict[int, State], minutes: dict[str, list[tuple[int, int]]], now: datetime
) -> tuple[ProviderLine, ...]:
    sums, errors, nothing = span.by_provider(), _last_errors(now), [(0, 0)] * MINUTES
    named = {row.name: row for row in rows}
    gone = [name for name, found in sums.items() if name and name not in named and found.requests]
    lines_ = []
    for name in [*named, *sorted(gone)]:
        row, found, last = named.get(name), sums.get(name, Sums()), minutes.get(name, nothing)
        lines_.append(
            ProviderLine(
                id=row.pk if row else None,
                name=name,
                state=states[row.pk] if row else State("off", "Removed"),
                strip=strip(last),
                strip_text=_strip_text(last),
                requests=f"{found.requests:,}",
                tokens=short(found.tokens),
                errors=percent(found.errors, found.requests),
                first_word=seconds(found.first_word(0.5)),
                last_error=errors.get(name, "–"),
            )
        )
    return tuple(lines_)


def _alerts(rows: list[Provider], states: dict[int, State]) -> tuple[Alert, ...]:
    """One sentence and one link for each thing that needs somebody."""
    alerts = []
    for row in rows:
        state = states[row.pk]
        if state.is_alert:
            what = "is not answering." if state.word == "Not answering" else "has a credential that cannot be read."
            alerts.append(Alert(f"{row.title} {what}", state.detail, "Open provider", "change", "bad", row.pk))
        elif state.word == "No credential":
            text = "Requests to it fail until you add one."
            alerts.append(Alert(f"{row.title} has no credential.", text, "Open provider", "change", "", row.pk))
    if not any(row.enabled and row.adapter != "demo" for row in rows):
        demo = any(row.enabled and row.adapter == "demo" for row in rows)
        text = "Only the demo answers, with made-up text." if demo else "Every request is refused."
        alerts.insert(0, Alert("No provider is connected yet.", text, "Add a provider", "add"))
    return tuple(alerts)


def overview(key: str = "24h", provider: str = "", now: datetime | None = None) -> Overview:
    """Everything for one period, of one provider or of all."""
    now = now or timezone.now()
    span = Span(PERIODS.get(key, PERIODS["24h"]), provider, now)
    rows = list(Provider.objects.prefetch_related("credentials"))
    minutes = minutes_of(now)
    states = provider_states(rows, now, minutes)
    build: tuple[Callable[[Span], Figure], ...] = (_tokens, _errors, _first_word)
    return Overview(
        period=span.period,
        provider=provider,
        alerts=_alerts(rows, states),
        figures=(_requests(span, now), *(make(span) for make in build)),
        providers=_provider_lines(span, rows, states, minutes, now),
        empty=not span.sums.requests,
    )
