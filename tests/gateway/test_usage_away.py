"""Usage rows while the database is away, read-only, or fought over by two workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import InternalError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from gateway import metrics
from gateway import spool as spool_module
from gateway import usage as module
from gateway.models import ApiKey, UsageEvent
from gateway.spool import Spool, orphans
from gateway.usage import UsageWriter


@pytest.fixture
def carrier(transactional_db: None, tmp_path: Path) -> Iterator[UsageWriter]:
    """A writer with a journal of its own and without its thread."""
    made = UsageWriter()
    made.journal = Spool(tmp_path)
    yield made
    made.stop()


def book(carrier: UsageWriter, name: str, **fields: Any) -> None:
    record = {"request_id": name, "created_at": time.time(), "api_key_id": None, "model": "m", "surface": "x", **fields}
    carrier.spool.begin(record)
    carrier.spool.end({**record, "status": "ok"})


def away(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def insert(records: list[Any]) -> None:
        raise error

    monkeypatch.setattr(module, "insert", insert)


def stored() -> set[str]:
    return set(UsageEvent.objects.values_list("request_id", flat=True))


def test_full_segments_go_once_their_rows_are_written(
    carrier: UsageWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stayed open until the end of the process before, one a minute while the database was away."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 10)
    with monkeypatch.context() as patch:
        away(patch, OperationalError("gone"))
        for name in "abc":
            book(carrier, name)
            carrier.flush()
    assert len(list(tmp_path.iterdir())) > 1
    carrier.flush()
    assert stored() == {"a", "b", "c"}
    assert len(list(tmp_path.iterdir())) == 1


def hangs(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The writer's own thread waits for the database from the first event on, until the second."""
    began, answers = threading.Event(), threading.Event()
    insert = module.insert

    def slowly(records: list[Any]) -> None:
        if threading.current_thread() is not threading.main_thread():
            began.set()
            assert answers.wait(20)
        insert(records)

    monkeypatch.setattr(module, "insert", slowly)
    return began, answers


def test_who_flushes_finds_what_another_thread_had_in_hand(
    carrier: UsageWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, answers = hangs(monkeypatch)
    carrier.start()
    book(carrier, "a")
    assert began.wait(20)
    threading.Timer(0.2, answers.set).start()
    carrier.flush()
    assert stored() == {"a"}


def test_stopping_leaves_what_the_database_has_not_taken_to_the_next_start(
    carrier: UsageWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, answers = hangs(monkeypatch)
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    carrier.start()
    thread = carrier._thread
    assert thread is not None
    book(carrier, "a")
    assert began.wait(20)
    carrier.stop()
    with orphans(tmp_path) as found:
        assert [record["request_id"] for ended, _ in found for record in ended] == ["a"]
    answers.set()
    thread.join(20)


def test_a_database_that_turned_read_only_loses_no_row(carrier: UsageWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        away(patch, InternalError("cannot execute INSERT in a read-only transaction"))
        book(carrier, "a")
        carrier.flush()
    carrier.flush()
    assert stored() == {"a"}


def test_rows_that_memory_cannot_hold_stay_in_the_journal(
    carrier: UsageWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 10)
    with monkeypatch.context() as patch:
        away(patch, OperationalError("gone"))
        for name in "abc":
            book(carrier, name)
        carrier.flush()
    # The database is back: what is written now must not take the others' only copy along.
    for name in "de":
        book(carrier, name)
        carrier.flush()
    assert stored() == {"d", "e"}
    carrier.stop()
    with orphans(tmp_path) as groups:
        assert {record["request_id"] for ended, _ in groups for record in ended} == {"a", "b", "c"}


def test_keys_are_touched_in_one_order_by_every_worker(carrier: UsageWriter, alice: User, bob: User) -> None:
    """In any other, two workers wait for each other's rows, and PostgreSQL ends one of them as a deadlock."""
    keys = [ApiKey.make(user, "k")[0].pk for user in (alice, bob)]
    carrier._last_used_at = -1e9
    for key in reversed(keys):
        book(carrier, f"by{key}", api_key_id=key)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        carrier.flush()
    touched = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert len(touched) == 2
    assert [str(key) in sql.rpartition("WHERE")[2] for key, sql in zip(keys, touched, strict=True)] == [True, True]


def test_hours_that_a_wrong_clock_took_for_closed_are_told_of(
    carrier: UsageWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the clock was a day ahead somebody may have looked, and sums of hours to come were kept."""
    told: list[set[datetime]] = []
    carrier.late_hours = told.append
    book(carrier, "a")
    with monkeypatch.context() as patch:
        patch.setattr(module.timezone, "now", lambda: datetime.now(UTC) + timedelta(days=1))
        carrier.flush()
    book(carrier, "b")
    carrier.flush()
    assert len(told) == 2


def test_the_thread_survives_whatever_happens(carrier: UsageWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    failed = threading.Event()

    def observe(records: list[Any]) -> None:
        if records and not failed.is_set():
            failed.set()
            raise OSError("no space left on device")

    monkeypatch.setattr(metrics, "observe", observe)
    carrier.start()
    book(carrier, "a")
    assert failed.wait(5)
    book(carrier, "b")
    deadline = time.monotonic() + 5
    while stored() != {"a", "b"} and time.monotonic() < deadline:
        time.sleep(0.02)
    assert stored() == {"a", "b"}
