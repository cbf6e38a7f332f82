"""`price`: what models cost, from a file or one by one."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path

from gateway import pricing
from gateway.management.output import OperatorCommand, Options, printable, table
from gateway.models import ProviderModel
from gateway.operations import Refused
from gateway.portable import AMOUNTS, BadFile, Node, dump
from gateway.references import models_named

MAX_BYTES = 8 * 1024 * 1024


class Command(OperatorCommand):
    help = "Prices: dollars per million tokens, pictures, seconds of sound or characters, each from a day on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = self.actions(parser)
        put = self.action(actions, "import", self.take, "Show how a file differs from what is stored, and apply it.")
        put.add_argument("file", help="YAML or JSON; - for standard input")
        put.add_argument("--dry-run", action="store_true", help="change nothing, whatever else is said")
        put.add_argument("--yes", action="store_true", help="apply it; without this it is only shown")
        show = self.action(actions, "list", self.list_all, "List models with what they cost now.")
        show.add_argument("--unknown", action="store_true", help="only those without a price")
        one = self.action(actions, "set", self.set, "Set the price of a model from a day on.")
        one.add_argument("model", help="PROVIDER/MODEL, or an id for each provider that has it")
        for name in AMOUNTS:
            one.add_argument(f"--{name.replace('_', '-')}", metavar="DOLLARS", help="per million")
        one.add_argument("--from", dest="begin", metavar="DATE", help="now unless given")
        one.add_argument("--source", default="", help="where the price was read")
        self.action(actions, "export", self.export, "Write all prices as YAML, in the form that import reads.")

    def take(self, options: Options) -> None:
        try:
            found = pricing.plan(pricing.read(self._text(options["file"])))
        except BadFile as error:
            raise Refused(f"{options['file']}: {error}") from None
        self._carry_out(options, found, applied=options["yes"] and not options["dry_run"])

    def _carry_out(self, options: Options, found: pricing.Plan, *, applied: bool) -> None:
        if applied:
            found.apply()
        lines = [printable(text) for _, text in found.rows] or ["Nothing to change."]
        lines += [f"? {printable(name)}: no provider has it, passed over" for name in found.unknown]
        if found.rows:
            lines.append(f"{len(found.rows)} prices {'set' if applied else 'would be set'}.")
        data = {"changes": [text for _, text in found.rows], "unknown": found.unknown, "applied": applied}
        self.say(options, data, "\n".join(lines))
        if found.rows and not applied and not options.get("dry_run"):
            self.note("Nothing was changed: --yes applies it.")

    def list_all(self, options: Options) -> None:
        now = datetime.now(UTC)
        rows = []
        for model in ProviderModel.objects.filter(enabled=True, provider__enabled=True).select_related("provider"):
            price = pricing.price_at(model, now)
            if price is None or not options["unknown"]:
                rows.append((model, price))
        data = [
            {"model": str(model), "known": price is not None}
            | ({name: getattr(price, name) for name in AMOUNTS} if price else {})
            for model, price in rows
        ]
        lines = [
            (model, *(self._cell(getattr(price, name, None), price is None) for name in AMOUNTS))
            for model, price in rows
        ]
        columns = ("model", *(name.replace("_", " ") for name in AMOUNTS))
        self.say(options, data, table(columns, lines) if rows else "No such models.")

    def _cell(self, nano: int | None, unknown: bool) -> str:
        return "unknown" if unknown else "-" if nano is None else pricing.dollars(nano)

    def set(self, options: Options) -> None:
        # Refuses what no provider has, where a file passes it over.
        models_named(options["model"])
        amounts = {}
        for name in AMOUNTS:
            if options[name] is not None:
                nano = pricing.nanos(options[name])
                if nano is None:
                    raise Refused(f"{options[name]!r} is not an amount in dollars with at most nine decimal places.")
                amounts[name] = nano
        if not amounts:
            raise Refused("Name at least one price, such as --input 2.5.")
        try:
            begin = Node(options["begin"], "--from").moment() if options["begin"] else None
        except BadFile as error:
            raise Refused(str(error)) from None
        found = pricing.plan([pricing.Line(options["model"], amounts, begin, options["source"])])
        self._carry_out(options, found, applied=True)

    def export(self, options: Options) -> None:
        data = pricing.exported()
        self.say(options, data, dump(data))

    def _text(self, name: str) -> str:
        try:
            if name == "-":
                return sys.stdin.read(MAX_BYTES)
            path = Path(name)
            if path.stat().st_size > MAX_BYTES:
                raise Refused(f"{name} is larger than 8 MB.")
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise Refused(f"{name} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise Refused(f"{name} is not UTF-8 text.") from None
