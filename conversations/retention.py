"""Deletes for good what was in the bin for long enough, and temporary conversations."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from conversations.editing import purge_some
from conversations.models import Conversation

BATCH = 50
TEMPORARY_DAYS = 1


def purge_conversations() -> int:
    """How many went. In small transactions, so that nobody waits long for the database."""
    now = timezone.now()
    old = Q(temporary=True, updated_at__lte=now - timedelta(days=TEMPORARY_DAYS))
    if settings.CONVERSATIONS_BIN_DAYS:
        old |= Q(deleted_at__lte=now - timedelta(days=settings.CONVERSATIONS_BIN_DAYS))
    rows = Conversation.objects.filter(old).order_by("pk")
    purged = 0
    while found := purge_some(rows, BATCH):
        purged += found
    return purged
