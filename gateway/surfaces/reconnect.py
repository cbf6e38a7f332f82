"""The last event of a stream whose client knows how to come back: when, and after which event."""

from __future__ import annotations

import random

from gateway.errors import RECONNECT_SECONDS


def reconnect_event(event_id: str) -> bytes:
    """Never for `/v1`: the official OpenAI clients ignore the names of events and take any data for a chunk, so that
    there the last event is an error object. Its `retry` differs by client, so that not all come back at once."""
    milliseconds = round(random.uniform(*RECONNECT_SECONDS) * 1000)  # noqa: S311 # nosec B311 - guards nothing
    return b"event: reconnect\nid: %b\nretry: %d\ndata: {}\n\n" % (event_id.encode(), milliseconds)
