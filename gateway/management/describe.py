"""Rows as operators see them: no secret, in the shape that the commands print as JSON."""

from __future__ import annotations

from typing import Any

from gateway.management.output import masked_map, masked_url, table
from gateway.models import CAPABILITIES, EMULATIONS, Credential, Provider, ProviderModel
from gateway.operations import SyncReport
from gateway.presets import Preset
from gateway.secrets import SecretUnreadable


def flags_of(row: ProviderModel) -> dict[str, bool]:
    """What is known of it, and what is emulated for it."""
    known = {name: getattr(row, name) for name in CAPABILITIES if getattr(row, name) is not None}
    return known | {name: True for name in EMULATIONS if getattr(row, name)}


def describe_model(row: ProviderModel) -> dict[str, Any]:
    return {
        "id": row.public_id,
        "upstream": row.upstream_name,
        "enabled": row.enabled,
        "flags": flags_of(row),
        "context_length": row.context_length,
        "requests_per_minute": row.requests_per_minute,
        "tokens_per_minute": row.tokens_per_minute,
        "max_streams": row.max_streams,
    }


def describe_credential(row: Credential) -> dict[str, Any]:
    try:
        row.secret.reveal()
        readable = True
    except SecretUnreadable:
        readable = False
    return {"id": row.pk, "label": row.label, "tail": row.tail, "enabled": row.enabled, "readable": readable}


def describe_provider(row: Provider) -> dict[str, Any]:
    return {
        "name": row.name,
        "label": row.title,
        "preset": row.preset,
        "adapter": row.adapter,
        "base_url": row.base_url,
        "enabled": row.enabled,
        "priority": row.priority,
        "weight": row.weight,
        "default_model": row.default_model,
        "auth": row.auth_style,
        "auth_name": row.auth_name,
        "allow_private": row.allow_private,
        "asks_usage": row.asks_usage,
        "completions": row.completions,
        "fetch_media": row.fetch_media,
        "proxy": masked_url(row.proxy),
        "headers": masked_map(row.headers),
        "query": masked_map(row.query),
        "timeout": row.timeout,
        "connect_timeout": row.connect_timeout,
        "first_event_timeout": row.first_event_timeout,
        "gap_timeout": row.gap_timeout,
        "gguf": row.gguf,
        "gguf_context": row.gguf_context,
        "docs_url": row.docs_url,
        "credentials": [describe_credential(item) for item in row.credentials.all()],
        "models": [describe_model(item) for item in row.models.all()],
    }


def describe_preset(preset: Preset) -> dict[str, Any]:
    return {
        "key": preset.key,
        "name": preset.name,
        "label": preset.title,
        "adapter": preset.adapter,
        "base_url": preset.base_url,
        "auth": preset.auth_style,
        "api_key_env": preset.api_key_env,
        "local": preset.local,
        "docs_url": preset.docs_url,
        "note": preset.note,
        "seen_live": preset.seen_live,
    }


def describe_sync(report: SyncReport) -> dict[str, Any]:
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "gone": report.gone,
        "disabled": report.disabled,
        "skipped": report.skipped,
    }


def credential_table(found: list[dict[str, Any]]) -> str:
    columns = ("credential", "label", "ends in", "enabled", "readable")
    return table(
        columns, [(item["id"], item["label"], item["tail"], item["enabled"], item["readable"]) for item in found]
    )


def model_table(found: list[dict[str, Any]]) -> str:
    columns = ("model", "upstream", "enabled", "context", "flags")
    lines = [
        (item["id"], item["upstream"], item["enabled"], item["context_length"], flag_text(item["flags"]))
        for item in found
    ]
    return table(columns, lines)


def joined(value: Any) -> Any:
    return [f"{name}={text}" for name, text in value.items()] if isinstance(value, dict) else value


def flag_text(flags: dict[str, bool]) -> str:
    return ",".join(name if value else f"!{name}" for name, value in flags.items())
