"""`alias`: public names over models, the fallback chains."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import transaction

from gateway.management.output import OperatorCommand, Options, table
from gateway.models import AliasTarget, ModelAlias
from gateway.operations import Refused, save_checked
from gateway.references import Step, steps


def alias_named(name: str) -> ModelAlias:
    found = ModelAlias.objects.filter(name=name).first()
    if found is None:
        names = ", ".join(ModelAlias.objects.values_list("name", flat=True)) or "none yet"
        raise Refused(f"There is no alias {name!r}. There are: {names}.")
    return found


def put_targets(row: ModelAlias, chain: list[Step]) -> None:
    row.targets.all().delete()
    for step in chain:
        save_checked(AliasTarget(alias=row, model=step.model, position=step.position, weight=step.weight))


def describe(row: ModelAlias) -> dict[str, Any]:
    targets = row.targets.select_related("model__provider")
    return {
        "name": row.name,
        "enabled": row.enabled,
        "targets": [
            {
                "model": str(item.model),
                "position": item.position,
                "weight": item.weight,
                "usable": item.model.enabled and item.model.provider.enabled,
            }
            for item in targets
        ],
    }


class Command(OperatorCommand):
    help = "Aliases: a public name for an ordered list of models. `default` answers requests that name no model."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = self.actions(parser)
        put = self.action(actions, "set", self.set, "Make an alias, or give it other targets.")
        put.add_argument("name")
        put.add_argument(
            "targets",
            nargs="+",
            metavar="TARGET",
            help="PROVIDER/MODEL, or a model's id for every provider that has it; neighbours with @WEIGHT share a step",
        )
        self.action(actions, "list", self.list_all, "List the aliases.")
        for name, run, text in (
            ("show", self.show, "Show an alias with its targets, in the order in which they are tried."),
            ("remove", self.remove, "Delete an alias; the models stay."),
        ):
            self.action(actions, name, run, text).add_argument("name")

    def set(self, options: Options) -> None:
        chain = steps(options["targets"])
        with transaction.atomic():
            row = ModelAlias.objects.filter(name=options["name"]).first() or ModelAlias(name=options["name"])
            save_checked(row)
            put_targets(row, chain)
        data = describe(row)
        self.say(options, data, f"{row.name}: {self._chain(data)}")

    def list_all(self, options: Options) -> None:
        found = [describe(row) for row in ModelAlias.objects.all()]
        lines = [(item["name"], item["enabled"], self._chain(item)) for item in found]
        self.say(options, found, table(("alias", "enabled", "targets"), lines) if found else "No aliases yet.")

    def _chain(self, data: dict[str, Any]) -> str:
        parts: dict[int, list[str]] = {}
        for item in data["targets"]:
            weight = f"@{item['weight']}" if item["weight"] != 1 else ""
            parts.setdefault(item["position"], []).append(f"{item['model']}{weight}")
        return " then ".join(" or ".join(names) for names in parts.values())

    def show(self, options: Options) -> None:
        data = describe(alias_named(options["name"]))
        lines = [(item["position"], item["model"], item["weight"], item["usable"]) for item in data["targets"]]
        self.say(options, data, table(("step", "model", "weight", "usable"), lines))

    def remove(self, options: Options) -> None:
        row = alias_named(options["name"])
        row.delete()
        self.say(options, {"removed": row.name}, f"Removed the alias {row.name}.")
