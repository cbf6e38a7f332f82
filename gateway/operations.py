"""What operators do to providers, from the command line or the admin: add, change, test, synchronise."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from gateway import discovery
from gateway.adapters import ADAPTERS
from gateway.catalogue import UpstreamModel
from gateway.discovery import Connection, DiscoveryFailed
from gateway.engines import places
from gateway.models import CAPABILITIES, ConfigVersion, Credential, Provider, ProviderModel
from gateway.modelspec import ModelSpec
from gateway.presets import Preset, models_url_of
from gateway.secrets import SecretUnreadable
from gateway.snapshot import endpoint_of

PRIVATE = "{} is a private address: private addresses are allowed for {}."


class Refused(Exception):
    """What was asked cannot be done; the message is a sentence for the operator."""


def sentence(error: ValidationError) -> str:
    """Field and reason in one line."""
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    parts = []
    for name, messages in error.message_dict.items():
        text = " ".join(messages)
        parts.append(text if name == "__all__" else f"{name}: {text}")
    return " ".join(parts)


def secret_from_environment(name: str) -> str:
    """Raises Refused when the variable is empty; its value is never part of a message."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise Refused(f"The environment variable {name} is not set or empty.")
    return value


def provider_named(name: str) -> Provider:
    """Names are unique whatever their case. Raises Refused."""
    found = Provider.objects.filter(name__iexact=name).first()
    if found is None:
        names = ", ".join(Provider.objects.values_list("name", flat=True)) or "none yet"
        raise Refused(f"There is no provider {name!r}. There are: {names}.")
    return found


def save_checked(row: Any) -> None:
    """Validates and saves a row; raises ValidationError."""
    row.full_clean()
    row.save()


def is_local(provider: Provider) -> bool:
    """Whether its adapter answers from this process, without a network."""
    adapter = ADAPTERS.get(provider.adapter)
    return bool(adapter and adapter.local)


def allow_if_private(provider: Provider) -> bool:
    """Ticks `allow_private` where the base URL calls for it; returns whether it did."""
    if provider.allow_private or is_local(provider) or not discovery.host_is_private(provider.base_url):
        return False
    provider.allow_private = True
    return True


def add_credential(provider: Provider, secret: str, label: str = "") -> Credential:
    """Raises ValidationError. A provider that sent no credential so far sends this one as a bearer token."""
    row = Credential(provider=provider, label=label)
    row.set_secret(secret)
    save_checked(row)
    if provider.auth_style == Provider.Auth.NONE:
        provider.auth_style = Provider.Auth.BEARER
        save_checked(provider)
    return row


def put_model(provider: Provider, spec: ModelSpec) -> ProviderModel:
    """Makes or changes a model by its public id; flags that the spec leaves out stay as they are."""
    row = ProviderModel.objects.filter(provider=provider, public_id=spec.public_id).first()
    row = row or ProviderModel(provider=provider, public_id=spec.public_id)
    row.upstream_name = spec.upstream_name
    for name, value in spec.flags.items():
        setattr(row, name, value)
    save_checked(row)
    return row


@dataclass(frozen=True, slots=True)
class NewProvider:
    """What `add_provider` makes. `fields` override what the preset says."""

    name: str
    fields: Mapping[str, Any]
    preset: Preset | None = None
    secret: str = field(default="", repr=False)
    models: tuple[ModelSpec, ...] = ()


def add_provider(new: NewProvider) -> tuple[Provider, list[str]]:
    """The row and what the operator should know of it. Raises ValidationError."""
    row = Provider(name=new.name, **{**(new.preset.provider_fields() if new.preset else {}), **new.fields})
    if not new.preset and not new.secret and "auth_style" not in new.fields:
        row.auth_style = Provider.Auth.NONE
    # What a preset says of its own URL is known; only another one needs a look.
    elsewhere = not new.preset or row.base_url != new.preset.base_url
    if elsewhere and "allow_private" not in new.fields:
        row.allow_private = False
        allow_if_private(row)
    notes = [PRIVATE.format(row.base_url, row.name)] if row.allow_private else []
    with transaction.atomic():
        save_checked(row)
        if new.secret:
            add_credential(row, new.secret)
        for spec in new.models:
            put_model(row, spec)
    return row, notes


def _engine_key(provider: Provider) -> list[tuple[str, str]]:
    """Raises Refused when the engine is not there to be asked."""
    place = places.read(provider.pk)
    if place is None or not place.pid:
        why = f" {place.problem}" if place else " It runs while the server does."
        raise Refused(f"The engine of {provider.name} is not running.{why}")
    if place.state != places.READY:
        raise Refused(f"{provider.name} is still loading its model.")
    return [("llama.cpp", place.key)]


def secrets_of(provider: Provider) -> list[tuple[str, str]]:
    """What it can be asked with, each under a name that shows nothing. Raises Refused."""
    if provider.gguf:
        return _engine_key(provider)
    return [(str(row), secret) for row, secret in credentials_of(provider)]


def credentials_of(provider: Provider) -> list[tuple[Credential, str]]:
    """The enabled credentials that can be read. Raises Refused when the provider needs one and has none."""
    readable, unreadable = [], 0
    for row in provider.credentials.filter(enabled=True):
        try:
            sent = row.sent()
        except SecretUnreadable:
            unreadable += 1
        else:
            readable += [(row, sent)] if sent else []
    if not readable and unreadable:
        raise Refused(f"No credential of {provider.name} can be decrypted with the configured ENCRYPTION_KEYS.")
    if not readable and provider.auth_style == Provider.Auth.COOKIES:
        raise Refused(f"{provider.name} has no cookies for its base URL that are still good. Upload some.")
    if not readable and provider.auth_style != Provider.Auth.NONE:
        raise Refused(f"{provider.name} has no credential. Add one: provider credential add {provider.name}")
    return readable


def _needs_network(provider: Provider) -> None:
    if is_local(provider) and not provider.gguf:
        raise Refused(f"{provider.name} answers from this server itself; there is nothing to ask over the network.")


@dataclass(frozen=True, slots=True)
class TestResult:
    """`connection` is None when it failed; `problem` then says why."""

    __test__ = False

    credential: str
    connection: Connection | None
    problem: str = ""


def test_provider(provider: Provider) -> list[TestResult]:
    """One result per credential. Raises Refused when there is nothing to test."""
    _needs_network(provider)
    return [_tested(provider, label, secret) for label, secret in secrets_of(provider) or [("none", "")]]


def _tested(provider: Provider, label: str, secret: str) -> TestResult:
    first = provider.models.filter(enabled=True).exclude(chat=False).values_list("upstream_name", flat=True).first()
    default = provider.models.filter(public_id=provider.default_model).first() if provider.default_model else None
    try:
        connection = discovery.test_connection(
            endpoint_of(provider),
            secret,
            default_model=default.upstream_name if default else provider.default_model or first or "",
            models_url=models_url_of(provider.preset, provider.base_url),
            adapter=provider.adapter,
        )
    except DiscoveryFailed as failure:
        return TestResult(label, None, failure.message)
    return TestResult(label, connection)


def first_answer(provider: Provider, most: int = 3) -> tuple[ProviderModel, int]:
    """The first of its models that chats, and its milliseconds. Really asks: up to `most` models for one token each.

    Raises Refused or DiscoveryFailed, which then is that of the first model.
    """
    found = secrets_of(provider)
    models = list(provider.models.filter(enabled=True).exclude(chat=False).order_by("id"))
    models.sort(key=lambda row: row.public_id != provider.default_model)
    if not models:
        raise Refused(f"{provider.name} lists no model that chats.")
    first: DiscoveryFailed | None = None
    for row in models[:most]:
        try:
            secret = found[0][1] if found else ""
            said = discovery.first_answer(endpoint_of(provider), secret, row.upstream_name, provider.adapter)
        except DiscoveryFailed as failure:
            first = first or failure
            if failure.unreachable:
                break
        else:
            return row, said.milliseconds
    assert first
    raise first


@dataclass(slots=True)
class SyncReport:
    """Public ids, by what happened to them."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unchanged: int = 0


def sync_models(provider: Provider, *, prune: bool = False) -> SyncReport:
    """Adds what the provider lists and fills in what is unknown; deletes nothing.

    Raises Refused or DiscoveryFailed, and has changed nothing then.
    """
    _needs_network(provider)
    found = secrets_of(provider)
    secret = found[0][1] if found else ""
    models_url = models_url_of(provider.preset, provider.base_url)
    listed = discovery.list_models(endpoint_of(provider), secret, models_url=models_url, adapter=provider.adapter)
    return _merge(provider, listed, prune)


def _merge(provider: Provider, listed: Iterable[UpstreamModel], prune: bool) -> SyncReport:
    report = SyncReport()
    rows = {row.public_id: row for row in provider.models.all()}
    new: list[ProviderModel] = []
    changed: list[ProviderModel] = []
    names = set()
    for model in listed:
        names.add(model.upstream_name)
        row = rows.get(model.public_id)
        if row is None:
            _take_new(provider, model, new, report)
        elif row.upstream_name == model.upstream_name and _fill(row, model):
            changed.append(row)
            report.updated.append(row.public_id)
        else:
            report.unchanged += 1
    for row in rows.values():
        if row.upstream_name in names or not row.enabled:
            continue
        report.gone.append(row.public_id)
        if prune:
            row.enabled = False
            changed.append(row)
            report.disabled.append(row.public_id)
    _write(new, changed)
    return report


def _take_new(provider: Provider, model: UpstreamModel, new: list[ProviderModel], report: SyncReport) -> None:
    row = ProviderModel(provider=provider, public_id=model.public_id, upstream_name=model.upstream_name)
    _fill(row, model)
    try:
        row.clean_fields(exclude=["provider"])
    except ValidationError:
        report.skipped.append(model.public_id[:200])
        return
    new.append(row)
    report.added.append(row.public_id)


def _fill(row: ProviderModel, model: UpstreamModel) -> bool:
    """Sets what was unknown; what an operator said stays."""
    before = [getattr(row, name) for name in (*CAPABILITIES, "context_length")]
    for name, value in model.flags.items():
        if getattr(row, name) is None:
            setattr(row, name, value)
    if row.context_length is None:
        row.context_length = model.context_length
    return before != [getattr(row, name) for name in (*CAPABILITIES, "context_length")]


def _write(new: list[ProviderModel], changed: list[ProviderModel]) -> None:
    if not new and not changed:
        return
    with transaction.atomic():
        ProviderModel.objects.bulk_create(new, batch_size=500)
        ProviderModel.objects.bulk_update(changed, [*CAPABILITIES, "context_length", "enabled"], batch_size=100)
        # Bulk writes send no signals.
        ConfigVersion.bump()
