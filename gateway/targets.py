"""Where one attempt goes: a model at a provider, with one credential."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.limits import Limit


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `total` bounds plain answers; streams have `first_event`, `gap` and `stream_total`."""

    connect: float = 5
    total: float = 600
    first_event: float = 300
    gap: float = 120
    stream_total: float = 3600


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the network needs to know of a provider."""

    name: str
    base_url: str
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    proxy: str | None = None
    allow_private: bool = False
    auth_style: str = "bearer"
    auth_name: str = ""
    timeouts: Timeouts = Timeouts()


@dataclass(frozen=True, slots=True)
class PricePolicy:
    """Nano-dollars per million tokens (pictures, seconds of sound, characters), between two Unix times."""

    id: int
    input: int
    cached_input: int | None
    output: int
    reasoning: int | None
    valid_from: float
    valid_to: float | None
    image: int | None = None
    audio_second: int | None = None
    character: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One attempt. `credential_id` is 0 for providers that need none."""

    adapter: str
    provider_id: int
    provider: str
    model_id: int
    public_id: str
    upstream_model: str
    endpoint: Endpoint
    credential_id: int = 0
    credential: str = field(default="", repr=False)
    asks_usage: bool = True
    prices: tuple[PricePolicy, ...] = ()
    # Tokens; None: unknown.
    context_length: int | None = None
    # False where a flag of the model or its provider asks for more than its adapter alone: see `gateway.adapted`.
    plain: bool = True
    # Its provider has POST /completions.
    completions: bool = False
    # Capabilities that are an explicit no (tools, json, vision, audio), and what is emulated: tools, json, think, and
    # choice where the model has tools that its protocol may be unable to force.
    lacks: frozenset[str] = frozenset()
    emulates: frozenset[str] = frozenset()
    # Of the model at this provider, for all callers together.
    limits: tuple[Limit, ...] = ()
    # Its answers are kept, each for its caller.
    caches: bool = False
    # Pictures behind addresses are fetched here; otherwise the provider gets the address, where it takes one.
    fetches: bool = False
    # What the upstream client has worked out for this target: heads of requests, by path and kind.
    prepared: dict[tuple[str, bool], Any] = field(default_factory=dict, repr=False, compare=False)
