"""What every adapter is: one wire protocol, from a checked request to events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from gateway.chat import ChatRequest
from gateway.events import Event
from gateway.targets import Target
from gateway.upstream import Upstream


class Adapter(Protocol):
    """`answer` raises UpstreamError while nothing was yielded if another target may be tried, and later
    when the answer broke off. `label` is what people read; `local` needs no network and no base URL."""

    label: str
    local: bool

    def answer(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]: ...
