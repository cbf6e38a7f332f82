"""What `manage.py check` says of the gateway's settings and, with `--database default`, of its rows.

gateway.E001  a provider names an adapter that does not exist
gateway.E002  a credential that no configured key decrypts
gateway.E003  a provider's base URL is private, and private addresses are not allowed for it
gateway.W001  G4F_API_KEY is short
gateway.W002  an enabled provider needs a credential and has none
gateway.W003  an enabled alias has no target that can be used
gateway.W004  a provider's default model is not one of its models
gateway.W005  several workers keep limits, and no Redis counts for all of them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connections
from django.db.models import Q

from gateway.models import AliasTarget, ApiKey, Credential, ModelAlias, Provider, ProviderModel, UserLimits
from gateway.network import check_base_url
from gateway.secrets import SecretUnreadable

SHORT = 32
TABLES = {f"gateway_{name}" for name in ("provider", "credential", "providermodel", "modelalias", "aliastarget")}


@checks.register()
def api_key_setting(**_: Any) -> list[checks.CheckMessage]:
    if not settings.G4F_API_KEY or len(settings.G4F_API_KEY) >= SHORT:
        return []
    return [
        checks.Warning(
            f"G4F_API_KEY is shorter than {SHORT} characters.",
            hint="Whoever can reach this server may guess it; use a long random value.",
            id="gateway.W001",
        )
    ]


def _adapters() -> Iterator[checks.CheckMessage]:
    # Adapters bring the HTTP client with them: not every command should wait for that.
    from gateway.adapters import ADAPTERS

    for row in Provider.objects.exclude(adapter__in=ADAPTERS):
        yield checks.Error(
            f"The provider {row.name} names the adapter {row.adapter!r}, which does not exist.",
            hint=f"There are: {', '.join(sorted(ADAPTERS))}.",
            id="gateway.E001",
        )


def _unreadable() -> Iterator[str]:
    """Names of providers, each once."""
    seen = set()
    for row in Credential.objects.select_related("provider").order_by("provider__priority", "pk"):
        try:
            row.secret.reveal()
        except SecretUnreadable:
            if row.provider.name not in seen:
                seen.add(row.provider.name)
                yield row.provider.name


def _secrets() -> Iterator[checks.CheckMessage]:
    for name in _unreadable():
        yield checks.Error(
            f"A credential of the provider {name} cannot be decrypted.",
            hint="Put the key that encrypted it back into ENCRYPTION_KEYS, or remove the credential.",
            id="gateway.E002",
        )


def _private_urls() -> Iterator[checks.CheckMessage]:
    for row in Provider.objects.filter(allow_private=False).exclude(base_url=""):
        try:
            check_base_url(row.base_url, allow_private=False)
        except ValidationError as error:
            yield checks.Error(
                f"The base URL of the provider {row.name} cannot be used: {' '.join(error.messages)}",
                hint=f"provider set {row.name} --allow-private, if that is meant.",
                id="gateway.E003",
            )


def _without_credential() -> Iterator[checks.CheckMessage]:
    remote = Provider.objects.filter(enabled=True).exclude(adapter__in=("demo", "local"))
    rows = remote.exclude(auth_style=Provider.Auth.NONE)
    for row in rows.exclude(pk__in=Credential.objects.filter(enabled=True).values("provider")):
        yield checks.Warning(
            f"The provider {row.name} needs a credential and has none.",
            hint=f"provider credential add {row.name} --api-key-env VAR",
            id="gateway.W002",
        )


def _aliases() -> Iterator[checks.CheckMessage]:
    usable = AliasTarget.objects.filter(model__enabled=True, model__provider__enabled=True).values("alias")
    for row in ModelAlias.objects.filter(enabled=True).exclude(pk__in=usable):
        yield checks.Warning(f"The alias {row.name} has no target that can be used.", id="gateway.W003")


def _default_models() -> Iterator[checks.CheckMessage]:
    for row in Provider.objects.filter(enabled=True).exclude(default_model=""):
        if not ProviderModel.objects.filter(provider=row, public_id=row.default_model).exists():
            yield checks.Warning(
                f"The default model of the provider {row.name}, {row.default_model!r}, is not one of its models.",
                hint=f"provider set {row.name} --default-model ID, or provider sync {row.name}.",
                id="gateway.W004",
            )


def _limits() -> Iterator[checks.CheckMessage]:
    if settings.WORKERS < 2 or settings.REDIS_URL:
        return
    is_set = Q(requests_per_minute__isnull=False) | Q(tokens_per_minute__isnull=False) | Q(max_streams__gt=0)
    if any(limited.objects.filter(is_set).exists() for limited in (ApiKey, UserLimits, ProviderModel)):
        yield checks.Warning(
            f"There are limits, and {settings.WORKERS} workers without Redis: each keeps its share.",
            hint="Set REDIS_URL, so that they count together.",
            id="gateway.W005",
        )


ROW_CHECKS: tuple[Callable[[], Iterator[checks.CheckMessage]], ...] = (
    _adapters,
    _secrets,
    _private_urls,
    _without_credential,
    _aliases,
    _default_models,
    _limits,
)


def _has_tables() -> bool:
    """False before the first `migrate`, which runs these checks itself."""
    with connections["default"].cursor() as cursor:
        names = set(connections["default"].introspection.table_names(cursor))
    return names >= TABLES


@checks.register(checks.Tags.database)
def rows(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    if not databases or "default" not in databases:
        return []
    try:
        return [message for check in ROW_CHECKS for message in check()] if _has_tables() else []
    except DatabaseError:
        # Columns of a version before the migrations that are about to run.
        return []


def readable_secrets() -> list[str]:
    """Names of providers whose credentials no configured key decrypts; a server must not start with any."""
    try:
        return list(_unreadable()) if _has_tables() else []
    except DatabaseError:
        return []
