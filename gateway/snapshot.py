"""The configuration as requests see it: immutable, in memory, at most a few seconds old.

The chat path makes no query. A thread asks the database once a second for the configuration's version
and loads everything anew when it moved, or once a minute in case rows were changed behind our back.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from gateway.adapters import usual_headers
from gateway.engines import places
from gateway.limits import REQUESTS, STREAMS, TOKENS, Limit
from gateway.models import (
    CAPABILITIES,
    ApiKey,
    ConfigVersion,
    ModelAlias,
    Price,
    Provider,
    ProviderModel,
    UserLimits,
)
from gateway.secrets import SecretUnreadable
from gateway.targets import Endpoint, PricePolicy, Target, Timeouts

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
FULL_RELOAD_SECONDS = 60.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """What an API key may do. Times are Unix seconds. `limits` has its user's too, and
    the streams that may be open at once; `max_streams` None: MAX_STREAMS_PER_KEY in each process, 0: any number."""

    id: int
    user_id: int
    username: str
    is_staff: bool
    surfaces: frozenset[str]
    models: frozenset[str]
    networks: tuple[Network, ...]
    valid_from: float | None
    expires_at: float | None
    revoked: bool
    limits: tuple[Limit, ...] = ()
    max_streams: int | None = None
    caches: bool = False


@dataclass(slots=True)
class ModelPolicy:
    """A model at a provider. `flags` holds only what is known. `shadowed`: its id reads as another provider's
    `Provider/model`, so that name means the other one."""

    id: int
    provider: ProviderPolicy = field(repr=False, compare=False)
    public_id: str
    upstream_name: str
    flags: dict[str, bool]
    context_length: int | None
    created: int
    # One per credential, in the order in which they are tried.
    targets: tuple[Target, ...] = field(repr=False, compare=False, default=())
    shadowed: bool = False


@dataclass(slots=True)
class ProviderPolicy:
    """A provider with its readable credentials. `models` is filled while loading, then left alone."""

    id: int
    name: str
    label: str
    adapter: str
    docs_url: str
    preset: str
    priority: int
    weight: int
    asks_usage: bool
    completions: bool
    default_model: str
    endpoint: Endpoint
    created: int
    needs_credential: bool
    fetches: bool
    credentials: tuple[tuple[int, str], ...] = field(repr=False, default=())
    unreadable: int = 0
    gguf: str = ""
    gguf_context: int | None = None
    models: dict[str, ModelPolicy] = field(repr=False, default_factory=dict)

    @property
    def is_demo(self) -> bool:
        return self.adapter == "demo"


@dataclass(frozen=True, slots=True)
class AliasEntry:
    model: ModelPolicy
    position: int
    weight: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: int = 0
    active_users: frozenset[int] = frozenset()
    has_users: bool = False
    keys: dict[bytes, KeyPolicy] = field(default_factory=dict, repr=False)
    keys_by_id: dict[int, KeyPolicy] = field(default_factory=dict, repr=False)
    # Filled while it serves: the keys that were used, by a digest that costs less.
    seen: dict[bytes, KeyPolicy] = field(default_factory=dict, repr=False, compare=False)
    # Filled while it serves: by operation and name, what leads to one model for everybody who may use all.
    direct: dict[tuple[str, str], tuple[Target, ...]] = field(default_factory=dict, repr=False, compare=False)
    user_limits: dict[int, tuple[Limit, ...]] = field(default_factory=dict, repr=False)
    providers: tuple[ProviderPolicy, ...] = ()
    by_name: dict[str, ProviderPolicy] = field(default_factory=dict, repr=False)
    by_model: dict[str, tuple[ModelPolicy, ...]] = field(default_factory=dict, repr=False)
    aliases: dict[str, tuple[AliasEntry, ...]] = field(default_factory=dict, repr=False)
    # Whether any model has limits, so that nobody looks for them where none has.
    limits_models: bool = False
    # Whether answers of any key or model are kept.
    keeps_answers: bool = False
    # Whether either is so: the one thing that requests look at which neither concerns.
    attends: bool = False


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _limits(owner: str, owner_id: int, row: ApiKey | UserLimits | ProviderModel) -> tuple[Limit, ...]:
    amounts = ((REQUESTS, row.requests_per_minute), (TOKENS, row.tokens_per_minute), (STREAMS, row.max_streams))
    return tuple(Limit(owner, owner_id, kind, amount) for kind, amount in amounts if amount)


def _load_user_limits() -> dict[int, tuple[Limit, ...]]:
    found = {row.user_id: _limits("user", row.user_id, row) for row in UserLimits.objects.all()}
    return {user_id: limits for user_id, limits in found.items() if limits}


def _load_keys(user_limits: dict[int, tuple[Limit, ...]]) -> dict[bytes, KeyPolicy]:
    rows = ApiKey.objects.select_related("user").filter(user__is_active=True)
    return {
        bytes.fromhex(row.digest): KeyPolicy(
            id=row.pk,
            user_id=row.user_id,
            username=row.user.get_username(),
            is_staff=row.user.is_staff,
            surfaces=frozenset(row.surfaces),
            models=frozenset(row.models),
            networks=tuple(ipaddress.ip_network(item, strict=False) for item in row.networks),
            valid_from=_seconds(row.valid_from),
            expires_at=_seconds(row.expires_at),
            revoked=row.revoked_at is not None,
            limits=_limits("key", row.pk, row) + user_limits.get(row.user_id, ()),
            max_streams=row.max_streams,
            caches=row.cache_answers,
        )
        for row in rows.iterator()
    }


def endpoint_of(row: Provider) -> Endpoint:
    """The network side of a provider's row; also what `provider test` uses."""
    if row.gguf:
        return _engine_endpoint(row)
    return Endpoint(
        name=row.name,
        base_url=row.base_url.rstrip("/"),
        headers=_headers(row),
        query=urlencode(row.query),
        proxy=row.proxy or settings.UPSTREAM_PROXY or None,
        allow_private=row.allow_private,
        auth_style=row.auth_style,
        auth_name=row.auth_name,
        timeouts=_timeouts(row),
    )


def _engine_endpoint(row: Provider) -> Endpoint:
    """llama.cpp on this machine, wherever it listens; port 0 until it was started once."""
    place = places.read(row.pk) or places.Place(0, "")
    return Endpoint(row.name, place.base_url, allow_private=True, timeouts=_timeouts(row))


def _timeouts(row: Provider) -> Timeouts:
    return Timeouts(
        connect=row.connect_timeout,
        total=row.timeout or settings.UPSTREAM_TIMEOUT,
        first_event=row.first_event_timeout or settings.STREAM_FIRST_EVENT_SECONDS,
        gap=row.gap_timeout or settings.STREAM_GAP_SECONDS,
        stream_total=settings.STREAM_TOTAL_SECONDS,
    )


def _headers(row: Provider) -> tuple[tuple[str, str], ...]:
    own = {str(name): str(value) for name, value in row.headers.items()}
    said = {name.lower() for name in own}
    usual = {name: value for name, value in usual_headers(row.adapter).items() if name not in said}
    return (*usual.items(), *own.items())


def _provider(row: Provider) -> ProviderPolicy:
    place = places.read(row.pk) if row.gguf else None
    readable, unreadable = [(0, place.key)] if place else [], 0
    for credential in row.credentials.all():
        if not credential.enabled:
            continue
        try:
            sent = credential.sent()
        except SecretUnreadable:
            unreadable += 1
        else:
            # Cookies may all have expired.
            readable += [(credential.pk, sent)] if sent else []
    return ProviderPolicy(
        id=row.pk,
        name=row.name,
        label=row.title,
        adapter=row.adapter,
        docs_url=row.docs_url,
        preset=row.preset,
        priority=row.priority or 0,
        weight=row.weight,
        asks_usage=row.asks_usage,
        completions=row.completions,
        default_model=row.default_model,
        endpoint=endpoint_of(row),
        created=int(row.created_at.timestamp()),
        needs_credential=row.auth_style != Provider.Auth.NONE and row.adapter not in ("demo", "local"),
        fetches=row.allow_private if row.fetch_media is None else row.fetch_media,
        credentials=tuple(readable),
        unreadable=unreadable,
        gguf=row.gguf,
        gguf_context=row.gguf_context,
    )


def _prices() -> dict[int, list[PricePolicy]]:
    prices: dict[int, list[PricePolicy]] = {}
    for row in Price.objects.all():
        prices.setdefault(row.model_id, []).append(
            PricePolicy(
                row.pk,
                row.input,
                row.cached_input,
                row.output,
                row.reasoning,
                row.valid_from.timestamp(),
                _seconds(row.valid_to),
                row.image,
                row.audio_second,
                row.character,
            )
        )
    return prices


def _model(row: ProviderModel, provider: ProviderPolicy, prices: list[PricePolicy]) -> ModelPolicy:
    flags = {name: getattr(row, name) for name in CAPABILITIES}
    return ModelPolicy(
        id=row.pk,
        provider=provider,
        public_id=row.public_id,
        upstream_name=row.upstream_name or row.public_id,
        flags={name: value for name, value in flags.items() if value is not None},
        context_length=row.context_length,
        created=int(row.created_at.timestamp()),
        targets=tuple(_targets(row, provider, tuple(prices))),
    )


def emulated(row: ProviderModel) -> frozenset[str]:
    """What the gateway does for the model; what it can by itself is never emulated."""
    found = {name for name in ("tools", "json") if getattr(row, name) is False and getattr(row, f"emulate_{name}")}
    if row.emulate_tools and row.tools is not False:
        # What its protocol may lack is making the model call them.
        found.add("choice")
    return frozenset(found | ({"think"} if row.think_tags else set()))


def _targets(row: ProviderModel, provider: ProviderPolicy, prices: tuple[PricePolicy, ...]) -> Iterator[Target]:
    lacks = frozenset(name for name in ("tools", "json", "vision", "audio") if getattr(row, name) is False)
    emulates = emulated(row)
    credentials = provider.credentials or (() if provider.needs_credential else ((0, ""),))
    for credential_id, credential in credentials:
        yield Target(
            adapter=provider.adapter,
            provider_id=provider.id,
            provider=provider.name,
            model_id=row.pk,
            public_id=row.public_id,
            upstream_model=row.upstream_name or row.public_id,
            endpoint=provider.endpoint,
            credential_id=credential_id,
            credential=credential,
            asks_usage=provider.asks_usage,
            prices=prices,
            context_length=row.context_length,
            # Requests with pictures and sounds say themselves that they are not plain.
            plain=lacks <= {"vision", "audio"} and not emulates,
            completions=provider.completions,
            lacks=lacks,
            emulates=emulates,
            limits=_limits("model", row.pk, row),
            caches=row.cache_answers,
            fetches=provider.fetches,
        )


def load() -> Snapshot:
    """Reads everything from the database; about a millisecond per hundred rows."""
    version = ConfigVersion.current()
    user_limits = _load_user_limits()
    keys = _load_keys(user_limits)
    rows = Provider.objects.filter(enabled=True).prefetch_related("credentials").order_by("priority", "id")
    providers = tuple(_provider(row) for row in rows if row.name.lower() not in settings.IGNORED_PROVIDERS)
    by_id = {provider.id: provider for provider in providers}
    by_name = {provider.name.lower(): provider for provider in providers}
    by_model: dict[str, list[ModelPolicy]] = {}
    models: dict[int, ModelPolicy] = {}
    prices = _prices()
    for row in ProviderModel.objects.filter(enabled=True, provider_id__in=by_id).order_by("provider__priority", "id"):
        model = _model(row, by_id[row.provider_id], prices.get(row.pk, []))
        models[model.id] = model
        model.provider.models[model.public_id] = model
        by_model.setdefault(model.public_id, []).append(model)
    for model in models.values():
        name, _, rest = model.public_id.partition("/")
        owner = by_name.get(name.lower())
        model.shadowed = owner is not None and owner is not model.provider and rest in owner.models
    aliases = {
        alias.name: tuple(
            AliasEntry(models[target.model_id], target.position, target.weight)
            for target in alias.targets.all()
            if target.model_id in models
        )
        for alias in ModelAlias.objects.filter(enabled=True).prefetch_related("targets")
    }
    limits_models = any(target.limits for model in models.values() for target in model.targets)
    keeps_answers = settings.ANSWER_CACHE_SECONDS > 0 and (
        any(key.caches for key in keys.values())
        or any(target.caches for model in models.values() for target in model.targets)
    )
    return Snapshot(
        version=version,
        active_users=frozenset(get_user_model().objects.filter(is_active=True).values_list("pk", flat=True)),
        has_users=get_user_model().objects.exists(),
        keys=keys,
        keys_by_id={policy.id: policy for policy in keys.values()},
        user_limits=user_limits,
        providers=providers,
        by_name=by_name,
        by_model={name: tuple(found) for name, found in by_model.items()},
        aliases={name: entries for name, entries in aliases.items() if entries},
        limits_models=limits_models,
        keeps_answers=keeps_answers,
        attends=limits_models or keeps_answers,
    )


class SnapshotStore:
    """Holds the current snapshot and keeps it fresh from a thread of its own."""

    def __init__(self) -> None:
        self.current = Snapshot()
        self.loaded_at = 0.0
        self.listeners: list[Callable[[Snapshot], None]] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def reload(self) -> Snapshot:
        with self._lock:
            self.current = load()
            self.loaded_at = time.monotonic()
        self._tell()
        return self.current

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener(self.current)

    def refresh(self) -> None:
        """Reloads when the version moved or the snapshot is old."""
        stale = time.monotonic() - self.loaded_at > FULL_RELOAD_SECONDS
        if stale or ConfigVersion.current() != self.current.version:
            self.reload()

    def start(self) -> None:
        """Loads once, then watches; calling it again does nothing."""
        if self._thread and self._thread.is_alive():
            return
        self.reload()
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="snapshot", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5)
        self._thread = None

    def _watch(self) -> None:
        failing = False
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.refresh()
                # Also when nothing changed: keys expire by themselves.
                self._tell()
                failing = False
            except DatabaseError as error:
                # The last snapshot goes on serving; say so once, not every second.
                if not failing:
                    log.error("configuration cannot be read, serving the last known one: %s", type(error).__name__)
                failing = True
                close_old_connections()
                connection.close()
            except Exception:
                log.exception("configuration cannot be read, serving the last known one")
        connection.close()


store = SnapshotStore()
