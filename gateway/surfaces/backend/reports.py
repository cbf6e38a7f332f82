"""What pages say of themselves: their counts of tokens and their errors. Kept apart from usage, and only if wanted.

One file for each UTC day in `DATA_DIR/reports/`, one JSON object a line. Nothing reads them but the operator.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

log = logging.getLogger(__name__)

MAX_BYTES = 8 * 1024
PER_MINUTE = 60
MAX_DAY_BYTES = 16 * 1024 * 1024
KEPT_DAYS = 14


class Reports:
    """Counts in this process: each worker lets PER_MINUTE of a user's through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def keep(self, kind: str, username: str, raw: bytes) -> bool:
        """Whether it was kept: it is wanted, an object, small, and not one of too many. Never raises."""
        if not settings.CLIENT_REPORTS or len(raw) > MAX_BYTES:
            return False
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(body, dict) or not self._has_turn(username):
            return False
        try:
            _append({"kind": kind, "at": datetime.now(UTC).isoformat(), "user": username, "report": body})
        except (OSError, TypeError) as error:
            log.warning("a page's report could not be kept: %s", type(error).__name__)
            return False
        return True

    def _has_turn(self, username: str) -> bool:
        minute = int(time.monotonic() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._counts.clear()
            self._counts[username] += 1
            return self._counts[username] <= PER_MINUTE


def folder() -> Path:
    return Path(settings.DATA_DIR) / "reports"


def _append(line: dict[str, Any]) -> None:
    # Control characters are escaped by JSON, so a report is always one line.
    data = orjson.dumps(line) + b"\n"
    place = folder()
    path = place / f"{datetime.now(UTC).date()}.jsonl"
    if not path.exists():
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(place)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_size + len(data) <= MAX_DAY_BYTES:
            os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _forget_old(place: Path) -> None:
    oldest = f"{datetime.now(UTC).date() - timedelta(days=KEPT_DAYS)}.jsonl"
    for path in place.glob("????-??-??.jsonl"):
        if path.name < oldest:
            path.unlink(missing_ok=True)


reports = Reports()
