"""Sessions in the database: a deleted user's go with the user, those that are over go by the hour."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import post_delete
from django.utils import timezone

BATCH = 500


def watch() -> None:
    """From now on; to be called when the apps are ready."""
    post_delete.connect(_user_went, sender=get_user_model(), dispatch_uid="g4fsite.sessions")


def _user_went(instance: Any, using: str, **_: Any) -> None:
    transaction.on_commit(partial(forget, str(instance.pk)), using=using)


def forget(user_id: str) -> int:
    """How many sessions of this user went. Whose a session is stands in its signed text, so all are read."""
    rows = Session.objects.filter(expire_date__gt=timezone.now())
    theirs = [row.pk for row in rows.iterator(BATCH) if row.get_decoded().get(SESSION_KEY) == user_id]
    for at in range(0, len(theirs), BATCH):
        Session.objects.filter(pk__in=theirs[at : at + BATCH]).delete()
    return len(theirs)


def purge_sessions() -> int:
    """How many went that were over."""
    return Session.objects.filter(expire_date__lte=timezone.now()).delete()[0]
