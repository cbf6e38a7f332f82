"""A thread of each process beside its running answers: saves what they say, keeps their leases, hears of stops, and
marks what dead processes left."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

from conversations.generation import rows
from conversations.generation.alive import Mark, dead
from conversations.generation.rows import Progress

log = logging.getLogger(__name__)

# Text is saved, and stops are heard of, as often; both promise a second.
SAVE_SECONDS = 0.4
RENEW_SECONDS = 5.0
REAP_SECONDS = 10.0
# Between two looks for processes of this machine that died.
DEATH_SECONDS = 2.0


class Kept(Protocol):
    """A running answer, as its keeper sees it: from another thread than its own."""

    generation: UUID

    def progress(self) -> Progress: ...

    def lost(self) -> None:
        """Somebody wants it stopped, or another process has closed it."""


class Keeper:
    def __init__(self) -> None:
        self.worker = ""
        self._kept: dict[UUID, Kept] = {}
        self._saved: dict[UUID, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._mark: Mark | None = None
        self._renewed = self._reaped = self._looked = 0.0
        self._failing = False

    def start(self) -> None:
        """Does nothing when it runs."""
        if self._thread is not None:
            return
        # Never the same twice: a process that comes back has lost what it made.
        self.worker = f"{_host()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._mark = Mark(settings.WORKERS_DIR, self.worker)
        self._mark.hold()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="conversations-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None
        if self._mark is not None:
            self._mark.release()
            self._mark = None

    def add(self, kept: Kept) -> None:
        self._kept[kept.generation] = kept

    def remove(self, generation: UUID) -> None:
        self._kept.pop(generation, None)
        self._saved.pop(generation, None)

    def _run(self) -> None:
        self._reaped = self._looked = -REAP_SECONDS
        while True:
            if self._kept or time.monotonic() - self._looked >= DEATH_SECONDS:
                self._round()
            if self._stop.wait(SAVE_SECONDS):
                return

    def _round(self) -> None:
        try:
            self._look_after(list(self._kept.values()))
            if self._failing:
                log.info("running answers are saved again")
            self._failing = False
        except DatabaseError as error:
            if not self._failing:
                log.error("running answers cannot be saved: %s", type(error).__name__)
            self._failing = True
            # Whoever else was kept from the database may not have renewed its leases yet.
            self._reaped = time.monotonic()
        except Exception:
            # Without this thread all answers would lose their leases.
            log.exception("running answers cannot be looked after")
        finally:
            connection.close()

    def _look_after(self, kept: Sequence[Kept]) -> None:
        now = time.monotonic()
        if kept and now - self._renewed >= RENEW_SECONDS:
            rows.renew([item.generation for item in kept], self.worker)
            self._renewed = now
        if kept:
            stopped = rows.to_stop([item.generation for item in kept], self.worker)
            for item in kept:
                if item.generation in stopped and item.generation in self._kept:
                    item.lost()
        moved = [found for item in kept if (found := item.progress()).seq > self._saved.get(item.generation, 0)]
        if moved:
            self._save(moved)
        if now - self._looked >= DEATH_SECONDS:
            self._looked = now
            self._bury(late=now - self._reaped >= REAP_SECONDS)

    def _save(self, moved: Sequence[Progress]) -> None:
        try:
            rows.save(moved, self.worker)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            if len(moved) == 1:
                log.exception("a running answer cannot be saved")
                return
            # One that no column takes must not hold up the others.
            for item in moved:
                self._save([item])
            return
        self._saved |= {found.generation: found.seq for found in moved if found.generation in self._kept}

    def _bury(self, *, late: bool) -> None:
        """Marks what was left by the dead of this machine, and, where it is time, by whoever lost its lease."""
        with dead(settings.WORKERS_DIR) as workers:
            reaped = rows.left_by(workers) if workers else []
        if late:
            self._reaped = time.monotonic()
            reaped += rows.reap()
        if reaped:
            log.warning("%d answers were left by a process that died", len(reaped))


def _host() -> str:
    return os.uname().nodename[:40]


keeper = Keeper()
