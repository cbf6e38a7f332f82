"""Whether providers answer, as their last requests and credentials tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

from gateway.engines import places
from gateway.models import Provider, UsageEvent
from gateway.models.usage import not_ok
from gateway.secrets import SecretUnreadable

MINUTES = 30
RECENT = 20
# Attempts of this many of the newest requests are looked at, to see who was passed over.
NEWEST = 500
# Answers that are about the request, not about the provider.
CALLERS_FAULT = {400, 404, 413, 415, 422}


@dataclass(frozen=True, slots=True)
class State:
    """`lamp` is the class of the dot, `word` what it says; `detail` one sentence more for an alert."""

    lamp: str
    word: str
    detail: str = ""

    @property
    def is_alert(self) -> bool:
        return self.lamp == "bad"


OFF = State("off", "Switched off")
UNUSED = State("off", "Not used yet")
NO_CREDENTIAL = State("warn", "No credential")
ANSWERING = State("ok", "Answering")


def provider_failed() -> Q:
    """Rows whose error is the provider's."""
    return not_ok(UsageEvent.Status.ERROR) & ~Q(http_status__in=CALLERS_FAULT)


def failed_attempts(attempts: Any, final: str) -> list[str]:
    """Names of providers that were tried and passed over before `final`; rows of any shape are survived."""
    if not isinstance(attempts, list):
        return []
    names = [item.get("provider") for item in attempts[:-1] if isinstance(item, dict)]
    return [name for name in names if isinstance(name, str) and name != final]


def _newest(since: datetime) -> QuerySet[UsageEvent, Any]:
    rows = UsageEvent.objects.filter(created_at__gte=since).order_by("-created_at")
    return rows.values_list("created_at", "provider_name", "attempts")[:NEWEST]


def minutes_of(now: datetime) -> dict[str, list[tuple[int, int]]]:
    """For each provider name (good, bad) counts of the last 30 minutes, oldest first."""
    start = now - timedelta(minutes=MINUTES)
    cases = [When(created_at__lt=start + timedelta(minutes=at + 1), then=Value(at)) for at in range(MINUTES)]
    rows = (
        UsageEvent.objects.filter(created_at__gte=start, created_at__lt=now)
        .order_by()
        .annotate(minute=Case(*cases, default=Value(MINUTES - 1), output_field=IntegerField()))
        .values("provider_name", "minute")
        .annotate(all=Count("pk"), bad=Count("pk", filter=provider_failed()))
    )
    found: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        minutes = found.setdefault(row["provider_name"], [(0, 0)] * MINUTES)
        minutes[row["minute"]] = (row["all"] - row["bad"], row["bad"])
    for created_at, final, attempts in _newest(start):
        at = min(max(int((created_at - start).total_seconds() // 60), 0), MINUTES - 1)
        for name in failed_attempts(attempts, final):
            minutes = found.setdefault(name, [(0, 0)] * MINUTES)
            minutes[at] = (minutes[at][0], minutes[at][1] + 1)
    return found


def readable_credentials(provider: Provider) -> tuple[int, int]:
    """How many enabled credentials can be decrypted, and how many cannot."""
    readable = unreadable = 0
    for credential in provider.credentials.all():
        if credential.enabled:
            try:
                readable += bool(credential.sent())
            except SecretUnreadable:
                unreadable += 1
    return readable, unreadable


def credential_state(provider: Provider) -> State | None:
    """What is wrong with its credentials, if anything is."""
    readable, unreadable = readable_credentials(provider)
    if unreadable and not readable:
        detail = "Its credentials were encrypted with a key that this server does not have."
        return State("bad", "Credential unreadable", detail)
    if not readable and provider.auth_style != Provider.Auth.NONE and provider.adapter not in ("demo", "local"):
        return NO_CREDENTIAL
    return None


def engine_state(provider: Provider) -> State | None:
    """What a model that this server runs itself is still waiting for."""
    place = places.read(provider.pk) if provider.gguf else None
    if place is not None and place.state == places.FAILING:
        return State("bad", "Not starting", f"llama.cpp could not start. {place.problem}".strip())
    if place is not None and place.state == places.LOADING:
        return State("warn", "Loading its model")
    return None


def _recent(provider: Provider, since: datetime) -> list[tuple[bool, int]]:
    rows = (
        UsageEvent.objects.filter(provider=provider).order_by("-id").values_list("status", "http_status", "created_at")
    )
    return [
        (status == UsageEvent.Status.ERROR and code not in CALLERS_FAULT, code)
        for status, code, created_at in rows[:RECENT]
        if created_at >= since and status != UsageEvent.Status.INTERRUPTED
    ]


def _answers(provider: Provider, minutes: list[tuple[int, int]], now: datetime) -> State:
    recent = _recent(provider, now - timedelta(hours=24))
    good, bad = sum(item[0] for item in minutes), sum(item[1] for item in minutes)
    # Passed over again and again: other providers answer in its place, so it has no rows of its own.
    if bad >= 3 and not good:
        return State("bad", "Not answering", f"All of its {bad} requests in the last 30 minutes failed.")
    if not recent:
        return UNUSED
    failed = sum(item[0] for item in recent)
    if recent[0][0] and failed * 2 >= len(recent):
        many = f"{failed} of its last {len(recent)} requests failed"
        return State("bad", "Not answering", f"{many}, the last one with {recent[0][1] or 'no answer'}.")
    if failed * 5 >= len(recent) or (bad and bad >= good):
        return State("warn", "Failing at times")
    return ANSWERING


def provider_states(
    providers: Iterable[Provider],
    now: datetime | None = None,
    minutes: dict[str, list[tuple[int, int]]] | None = None,
) -> dict[int, State]:
    """The state of each provider by its id."""
    now = now or timezone.now()
    minutes = minutes_of(now) if minutes is None else minutes
    states = {}
    for provider in providers:
        if not provider.enabled:
            states[provider.pk] = OFF
        else:
            wrong = credential_state(provider) or engine_state(provider)
            states[provider.pk] = wrong or _answers(provider, minutes.get(provider.name, [(0, 0)] * MINUTES), now)
    return states
