"""Sound and films in buckets that wait for somebody to write down what is said.

Whoever does it claims them first, for a minute at a time, because a transcript costs money: two processes that read
one bucket shall not both pay. Times are the database's, so that clocks that differ take nobody's claim. Every function
here waits for the disk or the database: call it from a thread.
"""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from media import buckets, store
from media.models import Document

CLAIM_SECONDS = 60


def claim(document: Document) -> bool:
    """Whether it is the caller's to write down; not when another is at it, or when it does not wait any more."""
    free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
    return bool(buckets.waiting(document).filter(free).update(claimed_until=Now() + timedelta(seconds=CLAIM_SECONDS)))


def hold(document: Document) -> None:
    """For another minute."""
    buckets.waiting(document).update(claimed_until=Now() + timedelta(seconds=CLAIM_SECONDS))


def release(document: Document) -> None:
    """It still waits, and may be tried by others."""
    buckets.waiting(document).update(claimed_until=None)


def sound_of(document: Document) -> tuple[bytes, str]:
    """The whole recording, and its type. Raises FileMissing, StorageAway."""
    assert document.original is not None, "what waits has a file"
    with closing(store.opened(document.original)) as file:
        return file.read(), document.original.content_type
