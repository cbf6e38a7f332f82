"""Lets a request in or refuses it by the limits of its key, user and model, and settles what it used when it has ended.
A stream's places are free when it has ended, or within seconds when its process died.

Counted in Redis where REDIS_URL is set, else in this process. While Redis is away each process counts its share.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
from django.conf import settings

from gateway.authentication import Principal
from gateway.calls import CallRequest
from gateway.chat import ChatRequest, Message
from gateway.completions import CompletionRequest
from gateway.errors import RateLimited, TooManyStreams
from gateway.events import Usage
from gateway.limits import (
    OWNERS,
    PLACE_MS,
    TOKENS,
    Claim,
    Counters,
    CountersAway,
    Limit,
    MemoryCounters,
    Minute,
    Outcome,
    Standing,
)
from gateway.snapshot import store
from gateway.targets import Target

if TYPE_CHECKING:
    from gateway.redis_counters import RedisCounters

log = logging.getLogger(__name__)

PAUSE_SECONDS = 10.0
CHARACTERS_PER_TOKEN = 4
Targets = tuple[Target, ...]


def limits_of(principal: Principal) -> tuple[Limit, ...]:
    """Empty for most. Those of a key's user are among the key's."""
    if principal.key is not None:
        return principal.key.limits
    return store.current.user_limits.get(principal.user_id or 0, ())


class ModelFull(RateLimited):
    """A model's limit; another model may have room."""


class ModelBusy(ModelFull, TooManyStreams):
    """A model with as many streams as it may have."""


def estimate(chat: ChatRequest) -> int:
    """Tokens that a request may use: four characters of its text to one, and the most that it lets be answered.

    What pictures and other parts cost is known only afterwards.
    """
    if isinstance(chat, CallRequest):
        return chat.estimated_tokens()
    characters = sum(map(_characters, chat.messages()))
    tools = chat.body.get("tools")
    characters += len(orjson.dumps(tools)) if tools else 0
    answers = chat.body.get("n") or 1
    if isinstance(chat, CompletionRequest):
        answers *= len(chat.prompts)
    return max(1, characters // CHARACTERS_PER_TOKEN) + (chat.max_tokens() or 0) * answers


def _characters(message: Message) -> int:
    return len(message.text) + sum(len(call.arguments) for call in message.tool_calls)


class Admission:
    """A request that was let in. `standings` has the tightest limit of each kind. `places` are the counters among
    which its stream has places as `holder`."""

    __slots__ = ("_claims", "_counters", "_holder", "_outcome", "_places", "_settled")

    def __init__(
        self,
        claims: Sequence[Claim],
        outcome: Outcome,
        counters: Counters,
        holder: str = "",
        places: Sequence[Counters] = (),
    ) -> None:
        self._claims = claims
        self._outcome = outcome
        self._counters = counters
        self._holder = holder
        self._places = places
        self._settled = False
        for each in places:
            each.hold(self._names, holder)

    @property
    def _names(self) -> list[str]:
        return [claim.limit.name for claim in self._claims if claim.limit.is_place]

    def leave(self) -> None:
        """The stream has ended: its places are free. Later calls do nothing."""
        places, self._places = self._places, ()
        for counters in places:
            counters.leave(self._names, self._holder)

    @property
    def standings(self) -> tuple[Standing, ...]:
        return _standings(self._claims, self._outcome)

    def settle(self, usage: Usage | None) -> None:
        """Books what was used instead of what was estimated; nothing for None. Later calls do nothing."""
        if self._settled:
            return
        self._settled = True
        used = usage.total_tokens if usage else 0
        for claim, minute in zip(self._claims, self._outcome.minutes, strict=True):
            if claim.limit.kind == TOKENS and used != claim.amount:
                self._counters.settle(claim.limit.name, used - claim.amount, minute.end)


class Limiter:
    """One per process."""

    def __init__(self) -> None:
        self._memory = MemoryCounters()
        self._shared: dict[asyncio.AbstractEventLoop, RedisCounters] = {}
        self._away_until = 0.0

    def prepare(self) -> None:
        """Loads the client of Redis, so that no request waits for that."""
        if settings.REDIS_URL:
            import gateway.redis_counters  # noqa: F401

    async def admit(self, limits: Sequence[Limit], chat: ChatRequest) -> Admission:
        """Raises RateLimited; then nothing was counted. Without Redis it never gives up the loop.

        A stream has places, where there are limits of them, until `leave`.
        """
        tokens = estimate(chat) if any(limit.kind == TOKENS for limit in limits) else 0
        claims = [
            Claim(limit, tokens if limit.kind == TOKENS else 1) for limit in limits if chat.stream or not limit.is_place
        ]
        for claim in claims:
            if claim.amount > claim.limit.amount:
                raise _too_large(claim)
        holder = secrets.token_hex(8) if any(claim.limit.is_place for claim in claims) else ""
        claims, outcome, counters = await self._take(claims, holder)
        if outcome.refused is not None:
            raise _refusal(claims, outcome)
        return Admission(claims, outcome, counters, holder, self._all_counters() if holder else ())

    async def admit_somewhere(
        self, limits: Sequence[Limit], targets: Targets, chat: ChatRequest
    ) -> tuple[Admission, Targets]:
        """Counts the request at the first model that has room, and gives the targets from there on. What a failure
        sends to a later model is not counted there. Raises RateLimited when no model has room."""
        refusal: RateLimited | None = None
        while targets:
            try:
                return await self.admit((*limits, *targets[0].limits), chat), targets
            except ModelFull as error:
                refusal = refusal or error
                targets = tuple(target for target in targets if target.model_id != targets[0].model_id)
        assert refusal is not None, "routing gives at least one target"
        raise refusal

    def _all_counters(self) -> tuple[Counters, ...]:
        """Whoever counted a stream, all hear of it: so the places are right when Redis goes away or comes back."""
        return (self._memory, self._counters()) if settings.REDIS_URL else (self._memory,)

    async def _take(self, claims: list[Claim], holder: str) -> tuple[list[Claim], Outcome, Counters]:
        if claims and settings.REDIS_URL and time.monotonic() >= self._away_until:
            counters = self._counters()
            try:
                outcome = await counters.take(claims, holder)
            except CountersAway as error:
                self._lost(error)
            else:
                self._found()
                return claims, outcome, counters
        claims = [Claim(claim.limit.share(settings.WORKERS), claim.amount) for claim in claims]
        return claims, self._memory.take(claims, holder), self._memory

    def _counters(self) -> RedisCounters:
        from gateway.redis_counters import RedisCounters

        loop = asyncio.get_running_loop()
        if loop not in self._shared:
            self._shared[loop] = RedisCounters(settings.REDIS_URL)
        return self._shared[loop]

    def _lost(self, error: CountersAway) -> None:
        if not self._away_until:
            log.warning("Redis does not answer, limits are kept per process: %s", error)
        self._away_until = time.monotonic() + PAUSE_SECONDS

    def _found(self) -> None:
        if self._away_until:
            log.info("Redis answers again, limits are shared")
        self._away_until = 0.0

    async def close(self) -> None:
        counters = self._shared.pop(asyncio.get_running_loop(), None)
        if counters is not None:
            await counters.close()


def _standings(claims: Sequence[Claim], outcome: Outcome) -> tuple[Standing, ...]:
    tightest: dict[str, Standing] = {}
    for claim, minute in zip(claims, outcome.minutes, strict=True):
        standing = Standing(claim.limit, minute.used, (minute.end - outcome.now) / 1000)
        found = tightest.get(claim.limit.kind)
        if found is None or standing.remaining < found.remaining:
            tightest[claim.limit.kind] = standing
    return tuple(tightest.values())


def _refusal(claims: Sequence[Claim], outcome: Outcome) -> RateLimited:
    assert outcome.refused is not None
    claim, minute = claims[outcome.refused], outcome.minutes[outcome.refused]
    if claim.limit.is_place:
        return _no_place(claim, minute, _standings(claims, outcome))
    wait = max(1, minute.end - outcome.now) / 1000
    return _kind(claim)(
        f"The limit of {claim.limit.kind} per minute of {OWNERS[claim.limit.owner]} is reached: "
        f"Limit {claim.limit.amount}, Used {minute.used}, Requested {claim.amount}. Please try again in {wait:g}s.",
        retry_after=wait,
        standings=_standings(claims, outcome),
    )


def _no_place(claim: Claim, minute: Minute, standings: tuple[Standing, ...]) -> RateLimited:
    of_model = claim.limit.owner == "model"
    return (ModelBusy if of_model else TooManyStreams)(
        f"The limit of open streams of {OWNERS[claim.limit.owner]} is reached: "
        f"Limit {claim.limit.amount}, Open {minute.used}. Please try again when one of them has ended.",
        retry_after=PLACE_MS / 1000,
        standings=standings,
    )


def _too_large(claim: Claim) -> RateLimited:
    return _kind(claim)(
        f"The request is larger than the limit of {claim.limit.kind} per minute of {OWNERS[claim.limit.owner]}: "
        f"Limit {claim.limit.amount}, Requested {claim.amount}. Shorten the messages or lower max_tokens.",
        should_retry=False,
    )


def _kind(claim: Claim) -> type[RateLimited]:
    return ModelFull if claim.limit.owner == "model" else RateLimited


limiter = Limiter()
