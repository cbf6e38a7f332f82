"""Companies and servers that a provider can be made from: data, read from `data/presets.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateway.modelspec import ModelSpec, parse_model

FILE = Path(__file__).parent / "data" / "presets.yaml"
PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
# What fills a placeholder becomes part of a host name, or a whole step of a path.
FILLING = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
STEP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")


class PresetError(ValueError):
    """A preset cannot be used as asked; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Preset:
    key: str
    name: str
    base_url: str
    docs_url: str
    symbol: str
    adapter: str
    label: str = ""
    auth_style: str = "bearer"
    auth_name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    local: bool = False
    asks_usage: bool = True
    api_key_env: str = ""
    default_model: str = ""
    models: tuple[ModelSpec, ...] = ()
    models_url: str = ""
    note: str = ""
    seen_live: bool = False

    @property
    def title(self) -> str:
        return self.label or self.name

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(PLACEHOLDER.findall(self.base_url))

    @property
    def port(self) -> int | None:
        return urlsplit(self.base_url).port if self.local else None

    def filled_base_url(self, params: Mapping[str, str]) -> str:
        """Raises PresetError for a missing, unknown or unsuitable parameter."""
        unknown = set(params) - set(self.placeholders)
        if unknown:
            raise PresetError(f"The preset {self.key} has no parameter {', '.join(sorted(unknown))}.")
        for name in self.placeholders:
            if name not in params:
                raise PresetError(f"The preset {self.key} needs --param {name}=VALUE (or a whole --base-url).")
            if f"{{{name}}}" in urlsplit(self.base_url).netloc:
                if not FILLING.match(params[name]):
                    raise PresetError(f"The parameter {name} is part of a host name: letters, digits and dashes.")
            elif not STEP.match(params[name]):
                raise PresetError(
                    f"The parameter {name} is part of a path: letters, digits, dashes, dots, underscores."
                )
        return PLACEHOLDER.sub(lambda match: params[match[1]], self.base_url)

    def provider_fields(self) -> dict[str, Any]:
        """What the preset says of a `Provider` row, except the base URL."""
        return {
            "label": self.label,
            "preset": self.key,
            "adapter": self.adapter,
            "auth_style": self.auth_style,
            "auth_name": self.auth_name,
            "headers": dict(self.headers),
            "query": dict(self.query),
            "allow_private": self.local,
            "asks_usage": self.asks_usage,
            "default_model": self.default_model,
            "docs_url": self.docs_url,
        }


def _preset(entry: Mapping[str, Any]) -> Preset:
    known = {item.name for item in fields(Preset)}
    if unknown := set(entry) - known:
        raise PresetError(f"The preset {entry.get('key')!r} has unknown fields: {', '.join(sorted(unknown))}.")
    values = dict(entry)
    values["models"] = tuple(parse_model(text) for text in entry.get("models", ()))
    if entry.get("local") and "auth_style" not in entry:
        values["auth_style"] = "none"
    return Preset(**values)


@lru_cache(maxsize=1)
def presets() -> dict[str, Preset]:
    """All presets by key, in the order of the file."""
    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {entry["key"]: _preset(entry) for entry in entries}


def preset_named(key: str) -> Preset:
    """Raises PresetError for an unknown key."""
    found = presets().get(key.lower())
    if found is None:
        raise PresetError(f"There is no preset {key!r}. There are: {', '.join(presets())}.")
    return found


def symbol_of(key: str, name: str) -> str:
    """Two letters that stand for a provider where there is no room for its name."""
    found = presets().get(key)
    return found.symbol if found else re.sub(r"[^A-Za-z0-9]", "", name)[:2].upper()


def models_url_of(key: str, base_url: str) -> str:
    """Where the preset's server lists its models if that is elsewhere; only while the base URL is the preset's own."""
    found = presets().get(key)
    return found.models_url if found and base_url.rstrip("/") == found.base_url else ""
