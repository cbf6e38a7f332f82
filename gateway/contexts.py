"""Chats that go on from what was said before (`conversation_id`): what the gateway asks of whoever keeps conversations.

An app above this one registers its `open_turn` when it is ready. Without one, and for callers without a user, the field
has no effect, and the answer's `warning` says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import GatewayError
from gateway.events import Event, Usage


class Turn(Protocol):
    """One request in its conversation: what is asked there, and what becomes of the answer.

    `given` are the events of an answer that was made for the same request before; then nobody is asked.
    """

    messages: list[dict[str, Any]]
    given: Sequence[Event] | None

    def told(self) -> dict[str, Any]:
        """The answer's `conversation`: `conversation_id` and `message_id`."""

    def begun(self, stop: Callable[[GatewayError], None], cost: Callable[[Usage], float | None]) -> None:
        """`stop` is to be called on the request's loop, where somebody ends the answer from elsewhere."""

    def take(self, event: Event) -> None: ...

    async def done(self, usage: Usage | None) -> None:
        """The answer is whole; what it says is kept now."""

    async def ended(self, error: BaseException | None) -> None:
        """The request is over. Does nothing after `done`. Where nothing was said, nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Around:
    """What came around the body: the `Idempotency-Key`, and where our addresses begin."""

    key: str | None
    base: str


# For a request that has a `conversation`. Raises GatewayError.
OpenTurn = Callable[[ChatRequest, Principal, Around], Awaitable[Turn]]


class Contexts:
    """Who keeps conversations."""

    open_turn: OpenTurn | None = None


contexts = Contexts()
