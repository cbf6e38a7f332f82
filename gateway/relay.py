"""Tries targets until one starts. Another one is tried only while the caller has seen nothing of an answer:
after that a failure is `Failed`, never two answers glued together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from gateway.adapted import adapted
from gateway.adapters import ADAPTERS
from gateway.adapters.base import Adapter, CountsTokens
from gateway.breaker import breaker
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Event, Failed, Started
from gateway.targets import Target
from gateway.upstream import Upstream
from gateway.usage import Tally

Targets = tuple[Target, ...]
NO_ROUTE = (404, 405)


async def complete(upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> Sequence[Event]:
    """A whole answer, after `Started`. Raises the first target's error when none of them answers."""
    first_error: GatewayError | None = None
    for target in breaker.order(targets):
        breaker.trying(target)
        tally.trying(target)
        try:
            events = await _adapter(target, chat).complete(upstream, target, chat)
        except UpstreamError as error:
            _failed(target, error, tally)
            first_error = first_error or error
            if not error.fallback:
                break
        else:
            _answered(target, tally)
            return (Started(target.provider, target.public_id), *events)
    assert first_error is not None, "routing gives at least one target"
    raise first_error


async def stream(upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> AsyncGenerator[Event, None]:
    """Raises the first target's error when none of them starts."""
    first_error: GatewayError | None = None
    for target in breaker.order(targets):
        breaker.trying(target)
        tally.trying(target)
        started = False
        try:
            events = _adapter(target, chat).stream(upstream, target, chat)
            try:
                async for event in events:
                    if not started:
                        started = True
                        tally.spoke()
                        yield Started(target.provider, target.public_id)
                    yield event
            finally:
                await events.aclose()
            if not started:
                raise UpstreamBroken(f"{target.provider} gave no answer.")
        except UpstreamError as error:
            _failed(target, error, tally)
            if started:
                yield Failed(error)
                return
            first_error = first_error or error
            if not error.fallback:
                break
        else:
            _answered(target, tally)
            return
    assert first_error is not None, "routing gives at least one target"
    raise first_error


async def count_tokens(upstream: Upstream, chat: ChatRequest, targets: Targets) -> int | None:
    """What the provider that would answer counts; None where it cannot or does not.

    Raises UpstreamRejected when it says that the request is at fault.
    """
    target = breaker.order(targets)[0]
    adapter = _adapter(target, chat)
    if not isinstance(adapter, CountsTokens):
        return None
    try:
        return await adapter.count_tokens(upstream, target, chat)
    except UpstreamRejected as error:
        # Many servers of a protocol have only the route that answers.
        if error.status in NO_ROUTE:
            return None
        raise
    except UpstreamError:
        return None


def _adapter(target: Target, chat: ChatRequest) -> Adapter:
    adapter = ADAPTERS.get(target.adapter)
    if adapter is None:
        raise UpstreamBroken(f"{target.provider} speaks a protocol that is not installed.")
    return adapter if target.plain and chat.plain else adapted(adapter, target, chat)


def _failed(target: Target, error: UpstreamError, tally: Tally) -> None:
    breaker.failed(target, error)
    tally.tried(error)


def _answered(target: Target, tally: Tally) -> None:
    breaker.succeeded(target)
    tally.spoke()
    tally.tried(None)
