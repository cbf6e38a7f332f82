"""What /metrics shows of usage records that are taken many at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway import metrics
from gateway.metric_files import ReservedDict

MILLISECONDS = [0, 1, 99, 100, 101, 250, 251, 1000, 1000, 1000, 59_999, 60_000, 60_001, 300_000, 300_001]


def test_many_values_at_once_count_as_each_alone() -> None:
    shown = []
    for kind in (metrics.Histogram, prometheus_client.Histogram):
        registry = CollectorRegistry()
        histogram = kind("g4f_test", "Seconds.", ("provider",), buckets=metrics.SECONDS, registry=registry)
        if isinstance(histogram, metrics.Histogram):
            histogram.labels("a").observe_all(MILLISECONDS)
        else:
            for value in MILLISECONDS:
                histogram.labels("a").observe(value / 1000)
        shown.append([line for line in generate_latest(registry).decode().splitlines() if "_created" not in line])
    assert shown[0] == shown[1]
    assert 'g4f_test_bucket{le="0.1",provider="a"} 4.0' in shown[0]


def value(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0


def test_records_are_summed_by_provider_model_and_status() -> None:
    """Nothing of a failure's is missing because it has no first word, no tokens or no provider."""
    good: dict[str, Any] = {
        "provider_name": "Summed",
        "model": "m",
        "status": "ok",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "cost": 500_000_000,
        "first_token_ms": 90,
        "duration_ms": 400,
    }
    failed = {"provider_name": "Summed", "model": "m", "status": "error", "first_token_ms": None, "duration_ms": 20}
    metrics.observe([good, failed, good, {"status": "interrupted"}])
    where = {"provider": "Summed", "model": "m"}
    assert value("g4f_requests_total", **where, status="ok") == 2
    assert value("g4f_requests_total", **where, status="error") == 1
    assert value("g4f_requests_total", provider="none", model="none", status="interrupted") >= 1
    assert value("g4f_tokens_total", **where, direction="in") == 14
    assert value("g4f_tokens_total", **where, direction="out") == 6
    assert value("g4f_cost_dollars_total", **where) == 1
    assert value("g4f_first_token_seconds_count", provider="Summed") == 2
    assert value("g4f_request_seconds_count", provider="Summed") == 3
    assert value("g4f_request_seconds_sum", provider="Summed") == pytest.approx(0.82)


def test_files_of_several_workers_have_no_holes(tmp_path: Path) -> None:
    """A worker that writes into a hole while the disk is full is killed."""
    path = tmp_path / "counter_1.db"
    values = ReservedDict(str(path))
    for number in range(2000):
        values.write_value(f"a name that takes its room {number}", number, 0.0)
    told = path.stat()
    assert told.st_size > 65536
    assert told.st_blocks * 512 >= told.st_size
    assert [value for _, value, _ in values.read_all_values()] == list(range(2000))
    values.close()
