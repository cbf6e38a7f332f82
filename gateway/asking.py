"""What the server itself asks a model in a user's name: embeddings of what is remembered, facts, titles.

The way of every request: the user's limits hold, another target is tried, and one usage row is written.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from gateway import relay
from gateway.authentication import Principal
from gateway.calls import EMBEDDINGS, CallRequest
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, UpstreamBroken, UpstreamTimeout
from gateway.events import Event, Failed, RawReply, TextDelta, Usage
from gateway.limiter import limiter, limits_of
from gateway.live import ends_with_right
from gateway.routing import targets_for
from gateway.snapshot import store
from gateway.upstream import upstream
from gateway.usage import Tally

SECONDS = 30.0


async def vectors(principal: Principal, model: str, texts: Sequence[str], surface: str) -> list[list[float]]:
    """The embedding of each text. Raises GatewayError; `surface` is what the usage row names."""
    body = {"input": list(texts), "encoding_format": "float"}
    request = CallRequest(model, None, False, False, body, plain=False, operation=EMBEDDINGS)
    reply = next((event for event in await _asked(principal, request, EMBEDDINGS, surface) if _is_reply(event)), None)
    data = reply.body.get("data") if isinstance(reply, RawReply) else None
    found = [item.get("embedding") if isinstance(item, dict) else None for item in data or ()]
    if len(found) != len(texts) or not all(isinstance(item, list) and item for item in found):
        raise UpstreamBroken("The provider's embeddings cannot be read.")
    return [[float(number) for number in item] for item in found if item]


async def text(principal: Principal, model: str, messages: Sequence[dict[str, str]], surface: str) -> str:
    """What the model says. Raises GatewayError; `surface` is what the usage row names."""
    request = ChatRequest(model, None, False, False, {"messages": list(messages)}, raw=False)
    events = await _asked(principal, request, "chat", surface)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _is_reply(event: Event) -> bool:
    return isinstance(event, RawReply)


async def _asked(principal: Principal, request: ChatRequest, operation: str, surface: str) -> Sequence[Event]:
    # The operator named the model, so a key's scope is not asked; limits are the user's all the same.
    asking = Principal(principal.user_id, principal.username, principal.is_staff)
    targets = targets_for(store.current, request.model, None, asking, None, operation)
    admission = await limiter.admit(limits_of(principal), request)
    tally = Tally(f"own_{int(time.time() * 1000):012x}{secrets.token_hex(9)}", principal, request, surface)
    tally.begin(targets[0])
    try:
        with ends_with_right(principal):
            async with asyncio.timeout(SECONDS):
                events = await relay.complete(upstream, request, targets, tally)
        tally.usage = next((event for event in events if isinstance(event, Usage)), None) or _estimated(request)
        for event in events:
            if isinstance(event, Failed):
                raise event.error
    except TimeoutError:
        error = UpstreamTimeout("The model did not answer in time.")
        tally.end("error", error.status, error)
        raise error from None
    except GatewayError as error:
        tally.end("error", error.status, error)
        raise
    except BaseException:
        tally.end("cancelled", 499)
        raise
    finally:
        admission.settle(tally.total())
    tally.end("ok", 200)
    return events


def _estimated(request: ChatRequest) -> Usage:
    """For providers that say nothing: four characters to a token."""
    size = sum(len(message.text) for message in request.messages())
    return Usage(max(1, size // 4), 0, estimated=True)
