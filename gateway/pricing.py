"""Prices from a file: read, compared with what is stored, applied in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from typing import Any

import yaml
from django.db import transaction

from gateway.models import Price, ProviderModel
from gateway.operations import Refused, save_checked
from gateway.portable import AMOUNTS, DOLLAR, BadFile, Node, PlainLoader
from gateway.references import models_named

KEYS = ("model", *AMOUNTS, "from", "source")


class _Loader(PlainLoader):
    """Numbers stay what was written: a float would lose a nano-dollar."""


def _exact(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    found = _decimal(loader.construct_scalar(node))
    return Decimal("nan") if found is None else found


_Loader.add_constructor("tag:yaml.org,2002:float", _exact)


def _decimal(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value).replace("_", ""))
    except DecimalException:
        return None


def nanos(value: Any) -> int | None:
    """Dollars as nano-dollars, exactly; None for what is no such amount."""
    amount = None if isinstance(value, bool) else _decimal(value)
    if amount is None or not amount.is_finite() or not 0 <= amount < 2**32:
        return None
    nano = amount * DOLLAR
    return int(nano) if nano == nano.to_integral_value() else None


def dollars(nano: int | None) -> str:
    return "unknown" if nano is None else f"${(Decimal(nano) / DOLLAR).normalize():f}"


@dataclass(frozen=True, slots=True)
class Line:
    """What the file says of a model: nano-dollars by column. `begin` None: from now on."""

    model: str
    amounts: Mapping[str, int]
    begin: datetime | None = None
    source: str = ""


@dataclass(slots=True)
class Plan:
    """Rows to save, each with how it differs, and names that no provider has."""

    rows: list[tuple[Price, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def apply(self) -> None:
        """All of it or nothing. Raises ValidationError."""
        with transaction.atomic():
            for row, _ in self.rows:
                save_checked(row)


def read(text: str) -> list[Line]:
    """A list of prices, bare or under `prices`, as YAML or JSON. Raises BadFile."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 # nosec B506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadFile(place, "This is neither YAML nor JSON.") from None
    except (ValueError, RecursionError):
        raise BadFile("", "This is neither YAML nor JSON that can be read.") from None
    root = Node(value, "")
    node = root.require("prices") if isinstance(value, dict) else Node(value, "prices")
    return [_line(item) for item in node.items()]


def _line(item: Node) -> Line:
    found = item.keys(KEYS)
    amounts = {}
    for name in AMOUNTS:
        if name in found and found[name].value is not None:
            nano = nanos(found[name].value)
            if nano is None:
                raise found[name].bad("Dollars per million with at most nine decimal places belong here, such as 2.5.")
            amounts[name] = nano
    if not amounts:
        raise item.bad(f"No price is named. There are: {', '.join(AMOUNTS)}.")
    return Line(
        item.require("model").text(),
        amounts,
        found["from"].moment() if "from" in found else None,
        found["source"].text() if "source" in found else "",
    )


def plan(lines: Iterable[Line]) -> Plan:
    """What applying the lines would change. A bare id stands for the model of each provider that has it."""
    found, now = Plan(), datetime.now(UTC)
    seen: set[tuple[int, datetime]] = set()
    for line in lines:
        begin = line.begin or now
        try:
            models = models_named(line.model)
        except Refused:
            found.unknown.append(line.model)
            continue
        for model in models:
            if (model.pk, begin) in seen:
                raise Refused(f"{model} has two prices from {begin:%Y-%m-%d}.")
            seen.add((model.pk, begin))
            _add(found, model, line, begin)
    return found


def _add(found: Plan, model: ProviderModel, line: Line, begin: datetime) -> None:
    values = {name: line.amounts.get(name) for name in AMOUNTS}
    held = price_at(model, begin)
    for name in ("input", "output"):
        # What is not said stays as it is.
        if values[name] is None:
            values[name] = getattr(held, name) if held is not None else 0
    row = held if held is not None and held.valid_from == begin else None
    if held is not None and all(getattr(held, name) == value for name, value in values.items()):
        # Said again, or the same from a later day on: nothing new.
        return
    before = {name: getattr(held, name) if held else None for name in AMOUNTS}
    text = ", ".join(
        f"{name.replace('_', ' ')} {f'{dollars(before[name])} -> ' if held else ''}{dollars(value)}"
        for name, value in values.items()
        if value != before[name]
    )
    row = row or Price(model=model, valid_from=begin)
    for name, value in values.items():
        setattr(row, name, value)
    row.source = line.source or row.source
    found.rows.append((row, f"{'~' if held else '+'} {model} from {begin:%Y-%m-%d}: {text}"))


def price_at(model: ProviderModel, at: datetime) -> Price | None:
    """The price that holds then: of those that do, the one that began last."""
    rows = model.prices.filter(valid_from__lte=at).order_by("-valid_from")
    return next((row for row in rows if row.valid_to is None or at < row.valid_to), None)


def exported() -> dict[str, Any]:
    """All prices, in the form that `read` takes."""
    rows = Price.objects.select_related("model__provider").order_by("model", "valid_from")
    return {"prices": [_described(row) for row in rows]}


def _described(row: Price) -> dict[str, Any]:
    amounts = {name: dollars(value).removeprefix("$") for name in AMOUNTS if (value := getattr(row, name)) is not None}
    found: dict[str, Any] = {"model": str(row.model), **amounts, "from": row.valid_from.astimezone(UTC).isoformat()}
    return found | ({"source": row.source} if row.source else {})
