"""Counters for Prometheus, moved in batches by the usage writer, so that the chat path pays nothing."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Histogram

LABELS = ("provider", "model")
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

requests = Counter("g4f_requests", "Requests that reached the choice of a provider.", (*LABELS, "status"))
tokens = Counter("g4f_tokens", "Tokens by direction.", (*LABELS, "direction"))
cost = Counter("g4f_cost_dollars", "Cost where a price is known.", LABELS)
first_token = Histogram("g4f_first_token_seconds", "Until the first words.", ("provider",), buckets=SECONDS)
duration = Histogram("g4f_request_seconds", "Until the last byte.", ("provider",), buckets=SECONDS)


def observe(record: dict[str, Any]) -> None:
    """Takes a finished usage record."""
    provider, model = record.get("provider_name") or "none", record.get("model") or "none"
    requests.labels(provider, model, record["status"]).inc()
    if record.get("prompt_tokens"):
        tokens.labels(provider, model, "in").inc(record["prompt_tokens"])
    if record.get("completion_tokens"):
        tokens.labels(provider, model, "out").inc(record["completion_tokens"])
    if record.get("cost"):
        cost.labels(provider, model).inc(record["cost"] / 1e9)
    if record.get("first_token_ms") is not None:
        first_token.labels(provider).observe(record["first_token_ms"] / 1000)
    duration.labels(provider).observe(record.get("duration_ms", 0) / 1000)
