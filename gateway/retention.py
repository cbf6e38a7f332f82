"""Deletes what is kept longer than its retention setting allows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from gateway import idempotency
from gateway.models import StoredResponse

BATCH = 500
# What else is deleted, by its name in the plural: apps above this one add theirs when they are ready.
purges: dict[str, Callable[[], int]] = {}


def purge_all() -> dict[str, int]:
    """How many of each went."""
    return {name: purge() for name, purge in purges.items()}


def purge_responses() -> int:
    """How many stored responses went. In small transactions, so that nobody waits long for the database."""
    limit = timezone.now() - timedelta(days=settings.RESPONSES_RETENTION_DAYS)
    old = StoredResponse.objects.filter(created_at__lte=limit)
    purged = 0
    while found := list(old.order_by("created_at").values_list("pk", flat=True)[:BATCH]):
        StoredResponse.objects.filter(pk__in=found).delete()
        purged += len(found)
    return purged


purges["stored responses"] = purge_responses
purges["idempotent answers"] = idempotency.purge
