"""What was used, as g4f's pages read it: one line for each request of a day, and sums by day, model and provider."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import nlargest
from operator import itemgetter
from typing import Any

import orjson
from django.contrib.auth import get_user_model
from django.db.models import Count, F, QuerySet, Sum
from django.db.models.expressions import Combinable
from django.db.models.functions import TruncDate
from django.utils import timezone

from gateway.models import UsageEvent
from gateway.surfaces.backend.errors import user_unknown

PAGE = 10_000
SHOWN = (
    "request_id", "created_at", "user__username", "provider_name", "model", "requested_model", "surface", "stream",
    "status", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost",
)  # fmt: skip
MAX_NAMES = 200


def events_of(username: str | None) -> QuerySet[UsageEvent]:
    """The rows of one user; of all for None. Raises BadRequest 404."""
    if username is None:
        return UsageEvent.objects.all()
    user = get_user_model().objects.filter(username=username).first()
    if user is None:
        raise user_unknown()
    return UsageEvent.objects.filter(user=user)


def lines(events: QuerySet[UsageEvent], begin: datetime, end: datetime, after: int) -> tuple[bytes, int | None]:
    """At most PAGE requests of a time as JSON lines, in the order of their rows, and the last one's id if there are
    more."""
    rows = list(
        events.filter(created_at__gte=begin, created_at__lt=end, id__gt=after)
        .order_by("id")
        .values("id", *SHOWN)[: PAGE + 1]
    )
    more, rows = len(rows) > PAGE, rows[:PAGE]
    body = b"".join(orjson.dumps(_line(row)) + b"\n" for row in rows)
    return body, rows[-1]["id"] if more else None


def _line(row: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = row["prompt_tokens"] or 0, row["completion_tokens"] or 0
    return {
        "user": row["user__username"] or "",
        "provider": row["provider_name"],
        "model": row["model"],
        "label": row["provider_name"],
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cached_tokens": row["cached_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        # Dollars; null while no price is known.
        "cost": None if row["cost"] is None else row["cost"] / 1e9,
        "requested_model": row["requested_model"],
        "surface": row["surface"],
        "stream": row["stream"],
        "status": row["status"],
        "request_id": row["request_id"],
        "created_at": row["created_at"].isoformat(),
    }


def stats(events: QuerySet[UsageEvent], days: int) -> dict[str, Any]:
    """Sums of the last `days` UTC days, today's the last; days without requests are there, with zeros."""
    today = timezone.now().date()
    first = today - timedelta(days=days - 1)
    begin = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    found = events.filter(created_at__gte=begin)
    by_day = {str(row["key"]): _sums(row) for row in _summed(found, TruncDate("created_at"))}
    dates = [str(first + timedelta(days=number)) for number in range(days)]
    return {
        "days": [{"date": date, **by_day.get(date, _sums({}))} for date in dates],
        "models": _named(found, F("model")),
        "providers": _named(found, F("provider_name")),
        "users": _named(found, F("user__username")),
        "totals": _sums(found.aggregate(**SUMS)),
    }


SUMS: dict[str, Any] = {
    "requests": Count("id"),
    "prompt": Sum("prompt_tokens"),
    "completion": Sum("completion_tokens"),
    "nano": Sum("cost"),
}


def _summed(found: QuerySet[UsageEvent], key: Combinable) -> list[Mapping[str, Any]]:
    return list(found.order_by().values(key=key).annotate(**SUMS))


def _named(found: QuerySet[UsageEvent], key: Combinable) -> dict[str, Any]:
    """The most asked first."""
    rows = nlargest(MAX_NAMES, _summed(found, key), itemgetter("requests"))
    return {str(row["key"] or ""): _sums(row) for row in rows}


def _sums(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt, completion = row.get("prompt") or 0, row.get("completion") or 0
    return {
        "requests": row.get("requests") or 0,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        # g4f shortens prompts and counts what it left out. Nothing is left out here.
        "saved_tokens": 0,
        "total_tokens": prompt + completion,
        "cost": (row.get("nano") or 0) / 1e9,
    }
