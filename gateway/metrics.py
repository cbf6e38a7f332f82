"""Counters for Prometheus, moved in batches by the usage writer, so that the chat path pays nothing."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter as Counted
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import prometheus_client
from prometheus_client import Counter

from gateway.metric_files import install

log = logging.getLogger(__name__)

# Before the first value is made.
install()

LABELS = ("provider", "model")
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CHECKPOINT_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Histogram(prometheus_client.Histogram):
    """One that takes many values at once: each call of `observe` costs as much as a third of a usage row."""

    def observe_all(self, milliseconds: Iterable[int]) -> None:
        total = 0
        for value, count in Counted(milliseconds).items():
            seconds = value / 1000
            total += value * count
            self._buckets[bisect_left(self._upper_bounds, seconds)].inc(count)
        self._sum.inc(total / 1000)


requests = Counter("g4f_requests", "Requests that reached the choice of a provider.", (*LABELS, "status"))
tokens = Counter("g4f_tokens", "Tokens by direction.", (*LABELS, "direction"))
cost = Counter("g4f_cost_dollars", "Cost where a price is known.", LABELS)
first_token = Histogram("g4f_first_token_seconds", "Until the first words.", ("provider",), buckets=SECONDS)
duration = Histogram("g4f_request_seconds", "Until the last byte.", ("provider",), buckets=SECONDS)
checkpoint = Histogram(
    "g4f_checkpoint_seconds", "Until running answers of conversations were saved, since that was due.",
    buckets=CHECKPOINT_SECONDS,
)  # fmt: skip


class Sums:
    """What records of one provider, model and status have together."""

    __slots__ = ("completion", "cost", "durations", "firsts", "prompt")

    def __init__(self) -> None:
        self.prompt = self.completion = self.cost = 0
        self.durations: list[int] = []
        self.firsts: list[int] = []


def observe(records: list[dict[str, Any]]) -> None:
    """Takes finished usage records; sums first, because finding a labelled child costs more than adding."""
    found: defaultdict[tuple[str, str, str], Sums] = defaultdict(Sums)
    for record in records:
        sums = found[record.get("provider_name") or "none", record.get("model") or "none", record["status"]]
        sums.prompt += record.get("prompt_tokens") or 0
        sums.completion += record.get("completion_tokens") or 0
        sums.cost += record.get("cost") or 0
        first = record.get("first_token_ms")
        if first is not None:
            sums.firsts.append(first)
        sums.durations.append(record.get("duration_ms", 0))
    try:
        for names, sums in found.items():
            _add(*names, sums)
    except OSError as error:
        # Rows count; these figures may be short of what came while there was no room for them.
        log.error("metrics cannot be written: %s", error.strerror)


def _add(provider: str, model: str, status: str, sums: Sums) -> None:
    requests.labels(provider, model, status).inc(len(sums.durations))
    tokens.labels(provider, model, "in").inc(sums.prompt)
    tokens.labels(provider, model, "out").inc(sums.completion)
    if sums.cost:
        cost.labels(provider, model).inc(sums.cost / 1e9)
    if sums.firsts:
        first_token.labels(provider).observe_all(sums.firsts)
    duration.labels(provider).observe_all(sums.durations)
