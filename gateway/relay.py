"""Tries targets until one starts. Another one is tried only while the caller has seen nothing of an answer:
after that a failure is `Failed`, never two answers glued together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.adapters import ADAPTERS
from gateway.breaker import breaker
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, UpstreamBroken, UpstreamError
from gateway.events import Event, Failed, Started
from gateway.targets import Target
from gateway.upstream import Upstream
from gateway.usage import Tally


async def relay(
    upstream: Upstream, chat: ChatRequest, targets: tuple[Target, ...], tally: Tally
) -> AsyncGenerator[Event, None]:
    """Raises the first target's error when none of them starts."""
    first_error: GatewayError | None = None
    for target in breaker.order(targets):
        breaker.trying(target)
        tally.trying(target)
        try:
            async with aclosing(_attempt(upstream, chat, target, tally)) as events:
                async for event in events:
                    yield event
            return
        except UpstreamError as error:
            breaker.failed(target, error)
            tally.tried(error)
            first_error = first_error or error
            if not error.fallback:
                break
    assert first_error is not None, "routing gives at least one target"
    raise first_error


async def _attempt(upstream: Upstream, chat: ChatRequest, target: Target, tally: Tally) -> AsyncGenerator[Event, None]:
    adapter = ADAPTERS.get(target.adapter)
    if adapter is None:
        raise UpstreamBroken(f"{target.provider} speaks a protocol that is not installed.")
    started = False
    async with aclosing(adapter.answer(upstream, target, chat)) as events:
        try:
            async for event in events:
                if not started:
                    started = True
                    tally.spoke()
                    yield Started(target.provider, target.public_id)
                yield event
        except UpstreamError as error:
            if not started:
                raise
            breaker.failed(target, error)
            tally.tried(error)
            yield Failed(error)
            return
    if not started:
        raise UpstreamBroken(f"{target.provider} gave no answer.")
    breaker.succeeded(target)
    tally.tried(None)
