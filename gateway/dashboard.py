"""The numbers of the overview: hourly sums by provider, kept once an hour is closed, and percentiles from them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, Count, IntegerField, Q, Sum, Value, When
from django.utils import timezone

from gateway.models import UsageEvent, UsageHour

HOUR = timedelta(hours=1)
# Rows of an hour arrive in batches for a while after its end.
SETTLED_AFTER = timedelta(minutes=10)
FAILED = (UsageEvent.Status.ERROR, UsageEvent.Status.INTERRUPTED)

# Upper bounds of the first-token histogram in milliseconds; one more bucket holds what is above the last.
BOUNDS: tuple[int, ...] = (
    *(50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000),
    *(2500, 3000, 3500, 4000, 5000, 6000, 8000, 10000, 15000, 20000, 30000, 60000, 120000),
)
NO_BUCKETS = (0,) * (len(BOUNDS) + 1)


@dataclass(frozen=True, slots=True)
class Sums:
    """What a span of time added up to."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    latency_ms: int = 0
    latency_count: int = 0
    buckets: tuple[int, ...] = NO_BUCKETS

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.requests + other.requests,
            self.errors + other.errors,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
            self.latency_ms + other.latency_ms,
            self.latency_count + other.latency_count,
            tuple(map(int.__add__, self.buckets, other.buckets)),
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def first_word(self, share: float) -> float | None:
        """Milliseconds within which `share` of the answers began, read off the histogram; None without any."""
        if not self.latency_count:
            return None
        wanted, seen = share * self.latency_count, 0
        for index, count in enumerate(self.buckets):
            if count and seen + count >= wanted:
                low = BOUNDS[index - 1] if index else 0
                high = BOUNDS[index] if index < len(BOUNDS) else BOUNDS[-1]
                return low + (high - low) * (wanted - seen) / count
            seen += count
        return float(BOUNDS[-1])


def total(parts: Iterable[Sums]) -> Sums:
    result = Sums()
    for part in parts:
        result += part
    return result


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _bucket() -> Case:
    """The index of a row's histogram bucket; -1 where nothing was said."""
    cases = [When(first_token_ms__lte=bound, then=Value(index)) for index, bound in enumerate(BOUNDS)]
    return Case(
        When(first_token_ms__isnull=True, then=Value(-1)),
        *cases,
        default=Value(len(BOUNDS)),
        output_field=IntegerField(),
    )


def _grouped(start: datetime, end: datetime) -> Any:
    return (
        UsageEvent.objects.filter(created_at__gte=start, created_at__lt=end)
        .order_by()
        .annotate(bucket=_bucket())
        .values("provider_name", "bucket")
        .annotate(
            requests=Count("pk"),
            errors=Count("pk", filter=Q(status__in=FAILED)),
            prompt=Sum("prompt_tokens"),
            completion=Sum("completion_tokens"),
            costs=Sum("cost"),
            waited=Sum("first_token_ms"),
        )
    )


def _sums_of(row: dict[str, Any]) -> Sums:
    buckets, count, index = list(NO_BUCKETS), int(row["requests"]), int(row["bucket"])
    if index >= 0:
        buckets[index] = count
    return Sums(
        requests=count,
        errors=int(row["errors"]),
        prompt_tokens=int(row["prompt"] or 0),
        completion_tokens=int(row["completion"] or 0),
        cost=int(row["costs"] or 0),
        latency_ms=int(row["waited"] or 0),
        latency_count=count if index >= 0 else 0,
        buckets=tuple(buckets),
    )


def sums_between(start: datetime, end: datetime) -> dict[str, Sums]:
    """One grouped query over the rows themselves: sums by provider name."""
    found: dict[str, Sums] = {}
    for row in _grouped(start, end):
        name = row["provider_name"]
        found[name] = found.get(name, Sums()) + _sums_of(row)
    return found


def _row(hour: datetime, name: str, sums: Sums) -> UsageHour:
    return UsageHour(
        hour=hour,
        provider_name=name,
        requests=sums.requests,
        errors=sums.errors,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        cost=sums.cost,
        latency_ms=sums.latency_ms,
        latency_count=sums.latency_count,
        latency_buckets=list(sums.buckets),
    )


def _sums_from(row: UsageHour) -> Sums:
    buckets = tuple(int(count) for count in row.latency_buckets)
    return Sums(
        row.requests,
        row.errors,
        row.prompt_tokens,
        row.completion_tokens,
        row.cost,
        row.latency_ms,
        row.latency_count,
        # Rows made with other bounds still count; only their percentiles are lost.
        buckets if len(buckets) == len(NO_BUCKETS) else NO_BUCKETS,
    )


def rebuild_hour(hour: datetime) -> dict[str, Sums]:
    """Drops what is kept of an hour and makes it anew. The row without a name says that the hour was done."""
    hour = hour_of(hour)
    with transaction.atomic():
        UsageHour.objects.filter(hour=hour).delete()
        found = sums_between(hour, hour + HOUR)
        rows = {"": Sums(), **found}
        UsageHour.objects.bulk_create([_row(hour, *item) for item in rows.items()], ignore_conflicts=True)
    return found


def drop_hours(hours: Iterable[datetime]) -> None:
    """Forgets the sums of hours that late rows belong to; the next reader makes them anew."""
    UsageHour.objects.filter(hour__in={hour_of(hour) for hour in hours}).delete()


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += HOUR


def hourly(start: datetime, end: datetime, now: datetime | None = None) -> dict[datetime, dict[str, Sums]]:
    """Sums by provider for each hour from `start` on that begins before `end`; missing closed hours are made."""
    now = now or timezone.now()
    wanted = list(_hours(hour_of(start), end))
    found: dict[datetime, dict[str, Sums]] = {hour: {} for hour in wanted}
    done = set()
    # Only a clock that was ahead and was set right leaves sums of an hour that still goes on.
    early = UsageHour.objects.filter(hour__gt=now - HOUR - SETTLED_AFTER)
    if early.exists():
        early.delete()
    for row in UsageHour.objects.filter(hour__gte=wanted[0], hour__lt=end):
        found[row.hour][row.provider_name] = _sums_from(row)
        if not row.provider_name:
            done.add(row.hour)
    first = UsageEvent.objects.order_by("created_at").values_list("created_at", flat=True).first()
    if first is None:
        return found
    for hour in wanted:
        if hour in done or hour < hour_of(first):
            continue
        closed = hour + HOUR + SETTLED_AFTER <= now
        found[hour] = rebuild_hour(hour) if closed else sums_between(hour, hour + HOUR)
    return found


def nice_ceiling(value: float) -> float:
    """A round number that is not below `value` and whose half reads well too."""
    if value <= 0:
        return 1
    power = 1.0
    while value > power * 10:
        power *= 10
    while value <= power:
        power /= 10
    # Between one and ten finer steps would have halves that no count can have.
    steps = (1, 2, 4, 6, 8, 10) if power == 1 else (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)
    return steps[bisect_left(steps, round(value / power, 9))] * power
