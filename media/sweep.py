"""Finishes what processes that died have left: bytes half written, bytes that nobody refers to, temporary files."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from media.models import Blob
from media.store import erase

log = logging.getLogger(__name__)

SWEEP_SECONDS = 20
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


class Sweeper:
    """A thread of each process that sweeps every now and then."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        if self._thread and self._thread.is_alive():
            return
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="media-sweep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for a sweep that is under way: whatever it leaves the next one finds."""
        self._stop.set()
        self._thread = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(SWEEP_SECONDS):
            try:
                sweep()
            except Exception as error:  # noqa: BLE001 - the database or the storage is away, and may be back next time
                log.warning("files could not be swept: %s", type(error).__name__)
            finally:
                connection.close()


sweeper = Sweeper()
