"""The configuration as a file: providers, models, prices and aliases, with references in place of secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

import yaml

from gateway.models import CAPABILITIES, EMULATIONS, Credential, ModelAlias, Price, Provider, ProviderModel
from gateway.presets import Preset, presets

FORMAT = 1
DOLLAR = 1_000_000_000
TEXTS = ("label", "adapter", "base_url", "auth_style", "auth_name", "proxy", "gguf", "default_model", "docs_url")
SWITCHES = ("allow_private", "asks_usage", "completions", "enabled")
MAYBES = ("fetch_media",)
NUMBERS = ("weight", "connect_timeout")
OPTIONAL_NUMBERS = ("priority", "timeout", "first_event_timeout", "gap_timeout", "gguf_context")
MAPS = ("headers", "query")
FIELDS = (*TEXTS, *SWITCHES, *MAYBES, *NUMBERS, *OPTIONAL_NUMBERS, *MAPS)
AMOUNTS = ("input", "cached_input", "output", "reasoning", "image", "audio_second", "character")
MODEL_LIMITS = ("requests_per_minute", "tokens_per_minute", "max_streams")
SECRET_NAME = re.compile(r"key|token|secret|auth|passw|cookie|credential|signature", re.IGNORECASE)
KEEP = {"keep": True}


class BadFile(Exception):
    """The file cannot be applied; the message names the place in it."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}" if place else message)


def is_secret_name(name: str) -> bool:
    """Whether a header or parameter of that name carries what nobody should read."""
    return bool(SECRET_NAME.search(name))


def has_password(url: str) -> bool:
    return "@" in url.partition("://")[2].partition("/")[0]


def baseline(preset: Preset | None) -> dict[str, Any]:
    """What a provider's columns are when the file does not name them."""
    blank = Provider()
    values = {name: getattr(blank, name) for name in FIELDS}
    if preset:
        values |= {name: value for name, value in preset.provider_fields().items() if name in FIELDS}
        values["base_url"] = "" if preset.placeholders else preset.base_url
    return values


def _referenced(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: dict(KEEP) if is_secret_name(name) else value for name, value in values.items()}


def variable_of(provider: Provider, number: int) -> str:
    """The environment variable that stands for a provider's credential; `number` counts from 1."""
    preset = presets().get(provider.preset)
    own = preset.api_key_env if preset and preset.name == provider.name else ""
    name = own or re.sub(r"[^A-Z0-9]+", "_", provider.name.upper()).strip("_") + "_API_KEY"
    return name if number == 1 else f"{name}_{number}"


def _credential(row: Credential, number: int, by_environment: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"label": row.label} if row.label else {}
    found["api_key"] = {"env": variable_of(row.provider, number)} if by_environment else dict(KEEP)
    return found | ({} if row.enabled else {"enabled": False})


def _price(row: Price) -> dict[str, Any]:
    amounts = {name: float(Decimal(value) / DOLLAR) for name in AMOUNTS if (value := getattr(row, name)) is not None}
    found: dict[str, Any] = {**amounts, "from": row.valid_from.astimezone(UTC).isoformat()}
    if row.valid_to:
        found["to"] = row.valid_to.astimezone(UTC).isoformat()
    return found | ({"source": row.source} if row.source else {})


def _model(row: ProviderModel) -> dict[str, Any]:
    found: dict[str, Any] = {"id": row.public_id}
    if row.upstream_name != row.public_id:
        found["upstream"] = row.upstream_name
    if not row.enabled:
        found["enabled"] = False
    flags = {name: getattr(row, name) for name in CAPABILITIES if getattr(row, name) is not None}
    flags |= {name: True for name in EMULATIONS if getattr(row, name)}
    if flags:
        found["flags"] = flags
    if row.context_length:
        found["context_length"] = row.context_length
    found |= {name: getattr(row, name) for name in MODEL_LIMITS if getattr(row, name)}
    prices = [_price(price) for price in sorted(row.prices.all(), key=lambda price: price.valid_from)]
    return found | ({"prices": prices} if prices else {})


def _provider(row: Provider, by_environment: bool) -> dict[str, Any]:
    usual = baseline(presets().get(row.preset))
    found: dict[str, Any] = {"name": row.name} | ({"preset": row.preset} if row.preset in presets() else {})
    for name in FIELDS:
        value = getattr(row, name)
        if value == usual[name] and name not in ("adapter", "base_url", "priority"):
            continue
        if name in MAPS:
            value = _referenced(value)
        elif name == "proxy" and has_password(value):
            value = dict(KEEP)
        found[name] = value
    credentials = [_credential(item, number, by_environment) for number, item in enumerate(row.credentials.all(), 1)]
    if credentials:
        found["credentials"] = credentials
    return found | {"models": [_model(item) for item in row.models.all()]}


def _alias(row: ModelAlias) -> dict[str, Any]:
    found: dict[str, Any] = {"name": row.name} | ({} if row.enabled else {"enabled": False})
    steps: list[Any] = []
    for _, items in groupby(row.targets.select_related("model__provider"), key=lambda item: item.position):
        step = [{"model": str(item.model), "weight": item.weight} for item in items]
        steps.append(step[0]["model"] if len(step) == 1 else step)
    return found | {"targets": steps}


def export(*, by_environment: bool = False) -> dict[str, Any]:
    """Everything that `apply` reads, without a secret in it."""
    rows = Provider.objects.prefetch_related("credentials__provider", "models__prices")
    return {
        "version": FORMAT,
        "providers": [_provider(row, by_environment) for row in rows],
        "aliases": [_alias(row) for row in ModelAlias.objects.all()],
    }


def dump(data: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=110))


class PlainLoader(yaml.SafeLoader):
    """YAML without its guess at dates, which fails without a place; `Node.moment` reads them."""

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read(text: str) -> Node:
    """The file as a tree that knows its places. Raises BadFile."""
    try:
        value = yaml.load(text, Loader=PlainLoader)  # noqa: S506 # nosec B506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadFile(place, f"This is not YAML: {getattr(error, 'problem', None) or 'it cannot be read'}.") from None
    except (ValueError, RecursionError):
        raise BadFile("", "This is not YAML that can be read.") from None
    root = Node(value, "")
    version = root.keys(("version", "providers", "aliases")).get("version")
    if version is None or version.value != FORMAT:
        raise BadFile("version", f"This server reads version {FORMAT}.")
    return root


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file and where it stands. Each method raises BadFile when the value is of another kind."""

    value: Any
    place: str

    def bad(self, message: str) -> BadFile:
        return BadFile(self.place, message)

    def at(self, name: Any) -> str:
        return f"{self.place}.{name}" if self.place else str(name)

    def keys(self, allowed: tuple[str, ...] | None = None) -> dict[str, Node]:
        if not isinstance(self.value, dict):
            raise self.bad("A map of names and values belongs here.")
        for name in self.value:
            if not isinstance(name, str) or (allowed and name not in allowed):
                raise BadFile(self.at(name), f"This is not known here. There are: {', '.join(allowed or ())}.")
        return {name: Node(value, self.at(name)) for name, value in self.value.items()}

    def items(self) -> Iterator[Node]:
        if not isinstance(self.value, list):
            raise self.bad("A list belongs here.")
        return (Node(value, f"{self.place}[{number}]") for number, value in enumerate(self.value))

    def named(self, key: str) -> Iterator[tuple[str, Node]]:
        """The maps of a list with the text that each holds under `key`; each text once."""
        seen: set[str] = set()
        for item in self.items():
            name = item.require(key).text()
            node = Node(item.value, self.at(name))
            if name.lower() in seen:
                raise node.bad("This is named twice.")
            seen.add(name.lower())
            yield name, node

    def get(self, name: str) -> Node | None:
        return self.keys().get(name)

    def require(self, name: str) -> Node:
        found = self.get(name)
        if found is None:
            raise self.bad(f"{name} is missing.")
        return found

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.bad("Text belongs here; put it in quotes.")
        return self.value

    def switch(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.bad("true or false belongs here.")
        return self.value

    def number(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 0 <= self.value < 2**31:
            raise self.bad("A whole number belongs here.")
        return self.value

    def dollars(self) -> int:
        """Dollars per million tokens as nano-dollars."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.bad("Dollars per million tokens belong here, such as 2.5.")
        amount = Decimal(str(self.value)) * DOLLAR
        if not amount.is_finite() or not 0 <= amount < 2**62 or amount != amount.to_integral_value():
            raise self.bad("This is not an amount from 0 with at most nine decimal places.")
        return int(amount)

    def moment(self) -> datetime:
        """A date is its beginning; a time without a zone is UTC."""
        try:
            found = datetime.fromisoformat(self.text())
        except ValueError:
            raise self.bad("A date or an ISO time belongs here.") from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def reference(self) -> tuple[str, bool]:
        """`{env: NAME}` as (NAME, False), `{keep: true}` as ("", True)."""
        if not isinstance(self.value, dict) or len(self.value) != 1:
            raise self.bad("Write {env: NAME} or {keep: true}; secrets do not belong into this file.")
        found = self.keys(("env", "keep"))
        if "env" in found:
            return found["env"].text(), False
        if not found["keep"].switch():
            raise self.bad("Write {env: NAME} or {keep: true}.")
        return "", True
