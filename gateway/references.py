"""From the text of a target (`PROVIDER/MODEL`, or a bare id) to the rows that it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from gateway.models import ProviderModel
from gateway.operations import Refused


@dataclass(frozen=True, slots=True)
class Step:
    """One target of an alias. Equal positions are chosen from by weight, lower ones are tried first."""

    model: ProviderModel
    position: int
    weight: int


def at_provider(text: str) -> ProviderModel | None:
    """The row that `PROVIDER/MODEL` names; ids may hold slashes of their own."""
    provider, slash, model = text.partition("/")
    if not slash:
        return None
    rows = ProviderModel.objects.select_related("provider")
    return rows.filter(provider__name__iexact=provider, public_id=model).first()


def models_named(text: str) -> list[ProviderModel]:
    """What a target means: one row, or for a bare id every provider's, in order of priority. Raises Refused."""
    found = at_provider(text)
    if found:
        return [found]
    rows = ProviderModel.objects.select_related("provider").filter(public_id=text)
    named = list(rows.order_by("provider__priority", "provider_id"))
    if not named:
        raise Refused(f"There is no model {text!r}. Name it as PROVIDER/MODEL or by an id that a provider has.")
    return named


def _weighted(text: str) -> tuple[str, int | None]:
    """`TARGET@3`; an id that itself ends so keeps its end."""
    name, at, weight = text.rpartition("@")
    if not at or not weight.isascii() or not weight.isdigit() or at_provider(text):
        return text, None
    if ProviderModel.objects.filter(public_id=text).exists():
        return text, None
    if not 0 < int(weight) <= 1_000_000:
        raise Refused(f"The weight of {name!r} must be between 1 and 1000000.")
    return name, int(weight)


def _groups(targets: Sequence[str]) -> list[list[tuple[ProviderModel, int]]]:
    groups: list[list[tuple[ProviderModel, int]]] = []
    sharing = False
    for text in targets:
        name, weight = _weighted(text)
        rows = models_named(name)
        if weight is None:
            for _, same in groupby(rows, key=lambda row: row.provider.priority):
                equal = list(same)
                groups.append([(row, row.provider.weight if len(equal) > 1 else 1) for row in equal])
        else:
            if not sharing:
                groups.append([])
            groups[-1] += [(row, weight) for row in rows]
        sharing = weight is not None
    return groups


def steps(targets: Sequence[str]) -> list[Step]:
    """Targets in the order to try them; neighbours that carry a weight share a step.

    What a bare id means is ordered as it is without an alias: providers of one priority share a step.
    """
    found = [Step(row, position, weight) for position, group in enumerate(_groups(targets)) for row, weight in group]
    for step in found:
        if sum(other.model.pk == step.model.pk for other in found) > 1:
            raise Refused(f"{step.model} is named twice.")
    return found
