"""Counters for Prometheus, moved in batches by the usage writer, so that the chat path pays nothing."""

from __future__ import annotations

from collections import Counter as Counter_
from typing import Any

from prometheus_client import Counter, Histogram

LABELS = ("provider", "model")
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

requests = Counter("g4f_requests", "Requests that reached the choice of a provider.", (*LABELS, "status"))
tokens = Counter("g4f_tokens", "Tokens by direction.", (*LABELS, "direction"))
cost = Counter("g4f_cost_dollars", "Cost where a price is known.", LABELS)
first_token = Histogram("g4f_first_token_seconds", "Until the first words.", ("provider",), buckets=SECONDS)
duration = Histogram("g4f_request_seconds", "Until the last byte.", ("provider",), buckets=SECONDS)


class Children(dict[str, Histogram]):
    """A histogram's children by provider, each looked up once."""

    def __init__(self, histogram: Histogram) -> None:
        super().__init__()
        self._histogram = histogram

    def __missing__(self, provider: str) -> Histogram:
        self[provider] = child = self._histogram.labels(provider)
        return child


def observe(records: list[dict[str, Any]]) -> None:
    """Takes finished usage records; sums first, because finding a labelled child costs more than adding."""
    counts: Counter_[tuple[str, str, str]] = Counter_()
    sums: Counter_[tuple[Any, str, str, str]] = Counter_()
    first_tokens = Children(first_token)
    durations = Children(duration)
    for record in records:
        provider, model = record.get("provider_name") or "none", record.get("model") or "none"
        counts[provider, model, record["status"]] += 1
        sums[tokens, provider, model, "in"] += record.get("prompt_tokens") or 0
        sums[tokens, provider, model, "out"] += record.get("completion_tokens") or 0
        sums[cost, provider, model, ""] += record.get("cost") or 0
        if record.get("first_token_ms") is not None:
            first_tokens[provider].observe(record["first_token_ms"] / 1000)
        durations[provider].observe(record.get("duration_ms", 0) / 1000)
    for labels, count in counts.items():
        requests.labels(*labels).inc(count)
    for (metric, provider, model, direction), value in sums.items():
        if metric is tokens:
            tokens.labels(provider, model, direction).inc(value)
        elif value:
            cost.labels(provider, model).inc(value / 1e9)
