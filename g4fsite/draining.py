"""Whether this process is about to end. Knows no Django, because workers import the server before their settings."""

from __future__ import annotations

from collections.abc import Callable


class Draining:
    """`stopping`: the whole server ends, and probes should send no more here. `closing`: this process ends, so every
    answer also ends its connection; a worker that is being replaced is closing while the server goes on."""

    def __init__(self) -> None:
        self.stopping = False
        self.closing = False
        # Whether there is something under way that belongs to no connection.
        self.others: Callable[[], bool] = lambda: False


draining = Draining()
