"""Finishes what processes that died have left: bytes half written, bytes that nobody refers to, temporary files."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from media.models import Blob
from media.store import erase

# A file in a form is parsed and stored within seconds; what is older belongs to nobody.
TEMPORARY_SECONDS = 30
# Writing to a disk takes seconds, over a network minutes.
WRITING_SECONDS = {"file": 30, "s3": 900}
BATCH = 500


def sweep() -> int:
    """How many temporary files and blobs went. Safe at any time, and in several processes at once."""
    return sweep_temporary() + sweep_blobs()


def sweep_temporary() -> int:
    limit, gone = time.time() - TEMPORARY_SECONDS, 0
    with suppress(FileNotFoundError):
        for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir():
            # Another process may be faster.
            with suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()
                    gone += 1
    return gone


def sweep_blobs() -> int:
    limit = timezone.now() - timedelta(seconds=WRITING_SECONDS[settings.MEDIA_STORAGE])
    left = Q(state=Blob.State.WRITTEN, changed_at__lt=limit) | Q(state=Blob.State.DEAD) | Q(owner=None)
    found = list(Blob.objects.filter(left).values_list("pk", flat=True)[:BATCH])
    if not found:
        return 0
    Blob.objects.filter(pk__in=found, owner=None).update(state=Blob.State.DEAD)
    erase(found)
    return len(found)
