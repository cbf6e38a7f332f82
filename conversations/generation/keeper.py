"""Two threads of each process beside its running answers: one saves what they say, keeps their leases and hears of
stops; the other marks what dead processes left, and holds up nothing by that."""

from __future__ import annotations

import contextlib
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

from conversations.generation import rows, saving
from conversations.generation.alive import Mark, dead, living
from conversations.generation.rows import Progress
from gateway import metrics

log = logging.getLogger(__name__)

# Text is saved, and stops are heard of, as often; both promise a second.
SAVE_SECONDS = 0.4
RENEW_SECONDS = 5.0
REAP_SECONDS = 10.0
# Between two looks for processes of this machine that died.
DEATH_SECONDS = 2.0
# What is saved later than this is told to operators, at most as often.
LATE_SECONDS = 1.0
TELL_SECONDS = 60.0


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
        self._threads: list[threading.Thread] = []
        self._mark: Mark | None = None
        self._renewed = self._reaped = self._told = 0.0
        self._failing = False

    def start(self) -> None:
        """Does nothing when it runs."""
        if self._threads:
            return
        # Never the same twice: a process that comes back has lost what it made.
        self.worker = f"{_host()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._mark = Mark(settings.WORKERS_DIR, self.worker)
        self._mark.hold()
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._run, name="conversations-keeper", daemon=True),
            threading.Thread(target=self._watch, name="conversations-reaper", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._threads = []
        if self._mark is not None:
            self._mark.release()
            self._mark = None

    def add(self, kept: Kept) -> None:
        self._kept[kept.generation] = kept

    def remove(self, generation: UUID) -> None:
        self._kept.pop(generation, None)
        self._saved.pop(generation, None)

    def _run(self) -> None:
        """Its connection stays open while there is something to save: it waits neither for a place in the pool nor for
        a file to be opened and set up."""
        due = time.monotonic()
        while True:
            if not self._kept or not self._round(due):
                connection.close()
            if self._stop.wait(max(0.05, due + SAVE_SECONDS - time.monotonic())):
                connection.close()
                return
            due = max(due + SAVE_SECONDS, time.monotonic() - SAVE_SECONDS)

    def _round(self, due: float) -> bool:
        """Whether all went well."""
        try:
            if self._look_after(list(self._kept.values())):
                self._measure(time.monotonic() - due)
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
        else:
            return True
        return False

    def _measure(self, late: float) -> None:
        # A full disk has no room for figures.
        with contextlib.suppress(OSError):
            metrics.checkpoint.observe(max(0.0, late))
        now = time.monotonic()
        if late > LATE_SECONDS and now - self._told > TELL_SECONDS:
            self._told = now
            log.warning("running answers were saved %.1f s late", late)

    def _look_after(self, kept: Sequence[Kept]) -> bool:
        """Whether anything was saved."""
        now = time.monotonic()
        ids = [item.generation for item in kept]
        renews = ids if now - self._renewed >= RENEW_SECONDS else []
        moved = [found for item in kept if (found := item.progress()).seq > self._saved.get(item.generation, 0)]
        if moved or renews:
            self._save(moved, renews)
        if renews:
            self._renewed = now
        stopped = rows.to_stop(ids, self.worker)
        for item in kept:
            if item.generation in stopped and item.generation in self._kept:
                item.lost()
        return bool(moved)

    def _save(self, moved: Sequence[Progress], renews: Sequence[UUID] = ()) -> None:
        try:
            saved = saving.save(moved, self.worker, renews)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            if len(moved) + bool(renews) == 1:
                log.exception("a running answer cannot be saved")
                return
            # One that no column takes must not hold up the others.
            if renews:
                self._save([], renews)
            for item in moved:
                self._save([item])
            return
        self._saved |= {found.generation: found.seq for found in moved if found.generation in saved & self._kept.keys()}

    def _watch(self) -> None:
        self._reaped = -REAP_SECONDS
        failing = False
        while True:
            try:
                self._bury(late=time.monotonic() - self._reaped >= REAP_SECONDS)
                failing = False
            except DatabaseError as error:
                if not failing:
                    log.error("what dead processes left cannot be marked: %s", type(error).__name__)
                failing = True
                self._reaped = time.monotonic()
            except Exception:
                log.exception("what dead processes left cannot be marked")
            finally:
                connection.close()
            if self._stop.wait(DEATH_SECONDS):
                return

    def _bury(self, *, late: bool) -> None:
        """Marks what was left by the dead of this machine, and, where it is time, by whoever lost its lease."""
        with dead(settings.WORKERS_DIR) as workers:
            reaped = rows.left_by(workers) if workers else []
        if late:
            self._reaped = time.monotonic()
            # Under load a lease may be renewed late. Who holds its lock lives, and looks after its own.
            others = living(settings.WORKERS_DIR) - {self.worker}
            reaped += rows.reap(others, list(self._kept))
        if reaped:
            log.warning("%d answers were left by a process that died", len(reaped))


def _host() -> str:
    return os.uname().nodename[:40]


keeper = Keeper()
