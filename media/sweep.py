"""Finishes what processes that died have left: bytes half written, bytes that nobody refers to, temporary files
and folders."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from media.convert.run import WORKPLACE
from media.models import Blob
from media.store import erase

log = logging.getLogger(__name__)

SWEEP_SECONDS = 20
# A file in a form is parsed and stored within seconds; what is older belongs to nobody.
TEMPORARY_SECONDS = 30
# An archive's conversion takes a minute, and may wait as long for its turn before.
WORKPLACE_SECONDS = 900
# Between two looks at all thumbnails: an hour.
ROUNDS = 180
# Writing to a disk takes seconds, over a network minutes.
WRITING_SECONDS = {"file": 30, "s3": 900}
BATCH = 500


def sweep() -> int:
    """How many temporary files, folders and blobs went. Safe at any time, and in several processes at once."""
    return sweep_temporary() + sweep_blobs()


def sweep_temporary() -> int:
    now, gone = time.time(), 0
    with suppress(FileNotFoundError):
        for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir():
            # Another process may be faster.
            with suppress(FileNotFoundError):
                gone += _swept(path, now - path.lstat().st_mtime)
    return gone


def _swept(path: Path, age: float) -> bool:
    if path.is_file() and age > TEMPORARY_SECONDS:
        path.unlink()
        return True
    if path.name.startswith(WORKPLACE) and path.is_dir() and age > WORKPLACE_SECONDS:
        shutil.rmtree(path, ignore_errors=True)
        return True
    return False


def sweep_blobs() -> int:
    limit = timezone.now() - timedelta(seconds=WRITING_SECONDS[settings.MEDIA_STORAGE])
    left = Q(state=Blob.State.WRITTEN, changed_at__lt=limit) | Q(owner=None)
    found = Blob.objects.filter(left | Q(state=Blob.State.DEAD)).order_by("changed_at")
    blobs = list(found.values_list("pk", flat=True)[:BATCH])
    if not blobs:
        return 0
    # Asked again in the same step: what was left behind when it was looked for may have been kept since.
    Blob.objects.filter(left, pk__in=blobs).exclude(state=Blob.State.DEAD).update(state=Blob.State.DEAD)
    return erase(blobs)


def sweep_thumbnails() -> int:
    """Those of no picture. There should be none."""
    limit = timezone.now() - timedelta(seconds=WRITING_SECONDS[settings.MEDIA_STORAGE])
    pictures = Blob.objects.filter(thumbnail=OuterRef("pk"))
    left = Blob.objects.filter(~Exists(pictures), is_thumbnail=True, state=Blob.State.KEPT, changed_at__lt=limit)
    return left.update(state=Blob.State.DEAD)


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
        rounds = count()
        while not stop.wait(SWEEP_SECONDS):
            try:
                if next(rounds) % ROUNDS == 0:
                    sweep_thumbnails()
                sweep()
            except Exception as error:  # noqa: BLE001 - the database or the storage is away, and may be back next time
                log.warning("files could not be swept: %s", type(error).__name__)
            finally:
                connection.close()


sweeper = Sweeper()
