"""What every adapter is: one wire protocol, from a checked request to events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, runtime_checkable

from gateway.chat import ChatRequest
from gateway.events import Event
from gateway.targets import Target
from gateway.upstream import Upstream


class Adapter(Protocol):
    """One protocol. `label` is what people read; `local` needs no network and no base URL."""

    label: str
    local: bool

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        """A whole plain answer, never empty. Raises UpstreamError."""

    def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        """Raises UpstreamError: while nothing was yielded another target may be tried, later the answer broke off."""


@runtime_checkable
class CountsTokens(Protocol):
    """What an adapter may be able to do beside: ask how many tokens a request's prompt has."""

    async def count_tokens(self, upstream: Upstream, target: Target, chat: ChatRequest) -> int:
        """Raises UpstreamError."""
