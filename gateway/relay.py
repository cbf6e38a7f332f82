"""Tries targets until one starts. Another one is tried only while the caller has seen nothing of an answer:
after that a failure is `Failed`, never two answers glued together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from gateway.adapted import adapted
from gateway.adapters import ADAPTERS
from gateway.adapters.base import Adapter, CountsTokens
from gateway.breaker import breaker
from gateway.busy import busy
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import Event, Failed, Started
from gateway.failover import Failover, classified
from gateway.targets import Target
from gateway.upstream import Upstream
from gateway.usage import Tally

Targets = tuple[Target, ...]
NO_ROUTE = (404, 405)


async def complete(upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> Sequence[Event]:
    """A whole answer, after `Started`. Raises the first target's error when none of them answers."""
    failover: Failover | None = None
    left = breaker.order(targets)
    counted = len(targets) > 1
    while left:
        target, left = left[0], left[1:]
        breaker.trying(target)
        tally.trying(target)
        if counted:
            busy.enter(target.model_id)
        try:
            events = await _adapter(target, chat).complete(upstream, target, chat)
        except UpstreamError as caught:
            error = _failed(target, caught, tally)
            failover = failover or Failover(error)
            left = failover.left(target, error, left)
        else:
            _answered(target, tally)
            return (Started(target.provider, target.public_id), *events)
        finally:
            if counted:
                busy.leave(target.model_id)
    assert failover is not None, "routing gives at least one target"
    raise failover.error


async def stream(upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> AsyncGenerator[Event, None]:
    """Raises the first target's error when none of them starts."""
    failover: Failover | None = None
    left = breaker.order(targets)
    counted = len(targets) > 1
    while left:
        target, left = left[0], left[1:]
        breaker.trying(target)
        tally.trying(target)
        if counted:
            busy.enter(target.model_id)
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
        except UpstreamError as caught:
            error = _failed(target, caught, tally)
            if started:
                yield Failed(error)
                return
            failover = failover or Failover(error)
            left = failover.left(target, error, left)
        else:
            _answered(target, tally)
            return
        finally:
            if counted:
                busy.leave(target.model_id)
    assert failover is not None, "routing gives at least one target"
    raise failover.error


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


def _failed(target: Target, error: UpstreamError, tally: Tally) -> UpstreamError:
    error = classified(error)
    breaker.failed(target, error)
    tally.tried(error)
    return error


def _answered(target: Target, tally: Tally) -> None:
    breaker.succeeded(target)
    tally.spoke()
    tally.tried(None)
