"""Makes the configuration what a file says, in one transaction, and tells line by line what changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from gateway.models import CAPABILITIES, EMULATIONS, AliasTarget, Credential, ModelAlias, Price, Provider, ProviderModel
from gateway.operations import save_checked, sentence
from gateway.portable import (
    AMOUNTS,
    DOLLAR,
    FIELDS,
    MAPS,
    MAYBES,
    MODEL_LIMITS,
    NUMBERS,
    OPTIONAL_NUMBERS,
    SWITCHES,
    Node,
    baseline,
    has_password,
    is_secret_name,
)
from gateway.presets import Preset, PresetError, preset_named
from gateway.references import at_provider
from gateway.secrets import SecretUnreadable

MODEL_KEYS = ("id", "upstream", "enabled", "flags", "context_length", *MODEL_LIMITS, "prices")
PRICE_KEYS = (*AMOUNTS, "from", "to", "source")


def _environment(node: Node, name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise node.bad(f"The environment variable {name} is not set or empty.")
    return value


def _shown(name: str, value: Any) -> str:
    """A value in the diff; what may hold a secret is not shown."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key}={'***' if is_secret_name(key) else text}" for key, text in value.items())
        return f"{{{inner}}}"
    if isinstance(value, str) and name == "proxy" and has_password(value):
        return "***"
    if isinstance(value, datetime):
        return value.isoformat()
    if name in AMOUNTS and isinstance(value, int):
        return f"${value / DOLLAR:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if value is not None else "unknown" if name in CAPABILITIES else "none"


class Applying:
    """One run over a file; `changes` grows as rows are written."""

    def __init__(self, *, prune: bool) -> None:
        self.prune = prune
        self.changes: list[str] = []

    def run(self, root: Node) -> None:
        """Raises BadFile; the caller's transaction then undoes what was written."""
        providers, aliases = root.get("providers"), root.get("aliases")
        if providers:
            self._providers(providers)
        if aliases:
            self._aliases(aliases)

    def _save(self, node: Node, row: Any, what: str, values: Mapping[str, Any]) -> None:
        """Writes the row if it is new or if `values` differ from it, and notes which do."""
        new = row.pk is None
        different = [name for name, value in values.items() if getattr(row, name) != value]
        if not new and not different:
            return
        texts = [f"{name} {_shown(name, getattr(row, name))} -> {_shown(name, values[name])}" for name in different]
        for name in different:
            setattr(row, name, values[name])
        try:
            save_checked(row)
        except ValidationError as error:
            raise node.bad(sentence(error)) from None
        self.changes.append(f"+ {what}" if new else f"~ {what}: {', '.join(texts)}")

    def _delete(self, row: Any, what: str) -> None:
        row.delete()
        self.changes.append(f"- {what}")

    def _providers(self, node: Node) -> None:
        kept = set()
        for name, item in node.named("name"):
            row = Provider.objects.filter(name__iexact=name).first() or Provider()
            self._provider(item, row, name)
            kept.add(row.pk)
        if self.prune:
            for row in Provider.objects.exclude(pk__in=kept):
                self._delete(row, f"provider {row.name}")

    def _provider(self, node: Node, row: Provider, name: str) -> None:
        found = node.keys(("name", "preset", "credentials", "models", *FIELDS))
        preset = self._preset(found.get("preset"))
        values = baseline(preset) | {"name": name, "preset": preset.key if preset else ""}
        values["priority"] = row.priority
        for field in FIELDS:
            if field in found:
                values[field] = self._value(found[field], field, row)
        self._save(node, row, f"provider {name}", values)
        if "credentials" in found:
            self._credentials(found["credentials"], row)
        if "models" in found:
            self._models(found["models"], row)

    def _preset(self, node: Node | None) -> Preset | None:
        if node is None:
            return None
        try:
            return preset_named(node.text())
        except PresetError as error:
            raise node.bad(str(error)) from None

    def _value(self, node: Node, field: str, row: Provider) -> Any:
        if field in SWITCHES:
            return node.switch()
        if field in MAYBES:
            return None if node.value is None else node.switch()
        if field in NUMBERS:
            return node.number()
        if field in OPTIONAL_NUMBERS:
            return None if node.value is None else node.number()
        if field in MAPS:
            old = getattr(row, field)
            return {name: self._text(item, old.get(name)) for name, item in node.keys().items()}
        return self._text(node, row.proxy or None) if field == "proxy" else node.text()

    def _text(self, node: Node, old: str | None) -> str:
        """Plain text, or a reference for what may hold a secret."""
        if not isinstance(node.value, dict):
            return node.text()
        variable, keep = node.reference()
        if not keep:
            return _environment(node, variable)
        if old is None:
            raise node.bad("There is nothing to keep.")
        return old

    def _credentials(self, node: Node, provider: Provider) -> None:
        """Credentials are known by their label, and by their order among equal labels."""
        rows = list(provider.credentials.all())
        kept = set()
        for item in node.items():
            found = item.keys(("label", "api_key", "enabled"))
            label = found["label"].text() if "label" in found else ""
            row = next((row for row in rows if row.label == label and row.pk not in kept), None)
            row = row or Credential(provider=provider, label=label)
            self._credential(item, row, found["enabled"].switch() if "enabled" in found else True)
            kept.add(row.pk)
        if self.prune:
            for row in rows:
                if row.pk not in kept:
                    self._delete(row, f"credential of {provider.name}{f' “{row.label}”' if row.label else ''}")

    def _credential(self, node: Node, row: Credential, enabled: bool) -> None:
        reference = node.require("api_key")
        variable, keep = reference.reference()
        what = f"credential of {row.provider.name}{f' “{row.label}”' if row.label else ''}"
        if keep and row.pk is None:
            raise reference.bad("There is nothing to keep; write {env: NAME}.")
        secret = "" if keep else _environment(reference, variable)
        replaced = bool(secret) and (row.pk is None or not self._is(row, secret))
        try:
            if replaced:
                row.set_secret(secret)
            if replaced and row.pk is not None:
                save_checked(row)
                self.changes.append(f"~ {what}: replaced")
        except ValidationError as error:
            raise reference.bad(sentence(error)) from None
        self._save(node, row, what, {"enabled": enabled})

    def _is(self, row: Credential, secret: str) -> bool:
        try:
            return bool(row.secret.reveal() == secret)
        except SecretUnreadable:
            return False

    def _models(self, node: Node, provider: Provider) -> None:
        rows = {row.public_id: row for row in provider.models.all()}
        names = set()
        for item in node.items():
            name = item.require("id").text()
            place = Node(item.value, node.at(name))
            if name in names:
                raise place.bad("This is named twice.")
            names.add(name)
            self._model(place, rows.get(name) or ProviderModel(provider=provider, public_id=name))
        for name, row in rows.items():
            if self.prune and name not in names:
                self._delete(row, f"model {provider.name}/{name}")

    def _model(self, node: Node, row: ProviderModel) -> None:
        found = node.keys(MODEL_KEYS)
        flags = found["flags"].keys((*CAPABILITIES, *EMULATIONS)) if "flags" in found else {}
        values: dict[str, Any] = {name: flags[name].switch() if name in flags else None for name in CAPABILITIES}
        values |= {name: name in flags and flags[name].switch() for name in EMULATIONS}
        values["upstream_name"] = found["upstream"].text() if "upstream" in found else row.public_id
        values["enabled"] = found["enabled"].switch() if "enabled" in found else True
        values["context_length"] = found["context_length"].number() if "context_length" in found else None
        values |= {name: found[name].number() if name in found else None for name in MODEL_LIMITS}
        self._save(node, row, f"model {row.provider.name}/{row.public_id}", values)
        if "prices" in found:
            self._prices(found["prices"], row)

    def _prices(self, node: Node, model: ProviderModel) -> None:
        """The list is the whole truth: prices are known by when they begin."""
        rows = {row.valid_from: row for row in model.prices.all()}
        begins = set()
        for item in node.items():
            found = item.keys(PRICE_KEYS)
            begin = item.require("from").moment()
            if begin in begins:
                raise item.bad("Two prices begin at that time.")
            begins.add(begin)
            values: dict[str, Any] = {name: found[name].dollars() if name in found else None for name in AMOUNTS}
            values["input"], values["output"] = item.require("input").dollars(), item.require("output").dollars()
            values["valid_to"] = found["to"].moment() if found.get("to") and found["to"].value else None
            values["source"] = found["source"].text() if "source" in found else ""
            row = rows.get(begin) or Price(model=model, valid_from=begin)
            self._save(item, row, f"price of {model} from {begin:%Y-%m-%d}", values)
        for begin, row in rows.items():
            if begin not in begins:
                self._delete(row, f"price of {model} from {begin:%Y-%m-%d}")

    def _aliases(self, node: Node) -> None:
        kept = set()
        for name, item in node.named("name"):
            found = item.keys(("name", "enabled", "targets"))
            row = ModelAlias.objects.filter(name=name).first() or ModelAlias(name=name)
            enabled = found["enabled"].switch() if "enabled" in found else True
            self._save(item, row, f"alias {name}", {"enabled": enabled})
            self._targets(item.require("targets"), row)
            kept.add(row.pk)
        if self.prune:
            for row in ModelAlias.objects.exclude(pk__in=kept):
                self._delete(row, f"alias {row.name}")

    def _targets(self, node: Node, alias: ModelAlias) -> None:
        """A list of steps; a step is a target or a list of targets that share it by weight."""
        steps: list[list[tuple[int, int]]] = []
        for item in node.items():
            members = list(item.items()) if isinstance(item.value, list) else [item]
            steps.append([self._target(member) for member in members])
        flat = [(position, *target) for position, step in enumerate(steps) for target in step]
        if len({model for _, model, _ in flat}) != len(flat):
            raise node.bad("A model is named twice.")
        if self._order(alias) == [sorted(_weighed(step)) for step in steps if step]:
            return
        new = not alias.targets.exists()
        alias.targets.all().delete()
        for position, model, weight in flat:
            AliasTarget.objects.create(alias=alias, model_id=model, position=position, weight=weight)
        self.changes.append(f"{'+' if new else '~'} targets of alias {alias.name}")

    def _order(self, alias: ModelAlias) -> list[list[tuple[int, int]]]:
        """What stands there by step, whatever numbers its positions have."""
        steps: dict[int, list[tuple[int, int]]] = {}
        for row in alias.targets.all():
            steps.setdefault(row.position, []).append((row.model_id, row.weight))
        return [sorted(_weighed(step)) for step in steps.values()]

    def _target(self, node: Node) -> tuple[int, int]:
        name, weight = node, 1
        if isinstance(node.value, dict):
            found = node.keys(("model", "weight"))
            name = node.require("model")
            weight = found["weight"].number() if "weight" in found else 1
        row = at_provider(name.text())
        if row is None:
            raise name.bad(f"There is no model {name.value!r}; write PROVIDER/MODEL.")
        if not weight:
            raise node.bad("A weight is 1 or more.")
        return row.pk, weight


def _weighed(step: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A target alone in its step has no use for a weight."""
    return [(step[0][0], 1)] if len(step) == 1 else step


def apply(root: Node, *, prune: bool = False, dry_run: bool = False) -> list[str]:
    """What changed, or would; all of it or nothing. Raises BadFile."""
    run = Applying(prune=prune)
    with transaction.atomic():
        run.run(root)
        if dry_run:
            transaction.set_rollback(True)
    return run.changes
