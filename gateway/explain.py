"""Where a request would go and why, without asking anyone: for `manage.py route explain` and the admin's page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.conf import settings
from django.db.models import Q

from gateway.authentication import Principal
from gateway.breaker import breaker
from gateway.busy import busy
from gateway.errors import GatewayError
from gateway.events import Usage
from gateway.models import AliasTarget, ApiKey, Credential, ProviderModel
from gateway.routing import AUTOMATIC, Candidate, allowed, candidates, owner_of
from gateway.snapshot import ModelPolicy, Snapshot
from gateway.targets import Target
from gateway.usage import cost_of

SAMPLE = Usage(1000, 1000)
UNITS = {"image": "a picture", "character": "a character", "audio_second": "a second of sound"}


@dataclass(frozen=True, slots=True)
class Question:
    """`key` and `principal` belong together. `live`: asked in a process that serves, which knows how targets fare."""

    model: str
    principal: Principal
    provider: str | None = None
    key: ApiKey | None = None
    stream: bool = False
    live: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One target. `share` is how often it is the first of its equals, in percent; `paused` seconds that it is tried
    last because it failed lately, None where that is not known; `cost` nano-dollars for SAMPLE, None: no price."""

    number: int
    provider: str
    model: str
    upstream_model: str
    adapter: str
    credential: str
    priority: int
    weight: int
    share: int
    paused: int | None
    under_way: int | None
    context_length: int | None
    flags: dict[str, bool]
    seconds: float
    cost: int | None
    # What a million pictures, characters and seconds of sound cost, those that have a price.
    units: dict[str, int]
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`status`, `code` and `message` are of the error that a caller would get, None and empty where there is none."""

    model: str
    meaning: str
    allowed: bool
    right: str
    status: int | None
    code: str
    message: str
    steps: tuple[Step, ...]
    left_out: tuple[LeftOut, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(snapshot: Snapshot, question: Question) -> Explanation:
    right = _key_fault(question.key, snapshot)
    meaning = meaning_of(snapshot, question.model, question.provider)
    found: list[Candidate] = []
    refusal: GatewayError | None = None
    try:
        found = candidates(snapshot, question.model, question.provider, question.principal)
    except GatewayError as error:
        refusal = error
    forbidden = bool(right) or (refusal is not None and refusal.status == 403)
    steps = () if right else tuple(_steps(found, question))
    if not right and refusal is None and not steps:
        refusal = GatewayError("No credential is configured for this model.", status=503, code="no_credential")
    if right:
        refusal = GatewayError(right, status=401, code="invalid_api_key")
    return Explanation(
        model=question.model,
        meaning=meaning,
        allowed=not forbidden,
        right=right or _right(question, forbidden),
        status=refusal.status if refusal else None,
        code=(refusal.code or "") if refusal else "",
        message=refusal.message if refusal else "",
        steps=steps,
        left_out=tuple(_left_out(snapshot, question, found)),
    )


def meaning_of(snapshot: Snapshot, model: str, provider: str | None) -> str:
    """How the name is read, in the order in which routing reads it."""
    if provider:
        return f"The model at the provider {provider} alone."
    if model in AUTOMATIC:
        return _automatic(snapshot)
    if model in snapshot.aliases:
        return f"The alias {model}, its targets by position."
    owner = owner_of(snapshot, model)
    if owner is not None:
        return f"A model of the provider {owner.name}, which the name begins with."
    if model in snapshot.by_model:
        return "The model at every provider that has it, by the providers' priority."
    if model.partition("/")[0].lower() in snapshot.by_name:
        return "A provider's name."
    return "No alias, model or provider has this name."


def _automatic(snapshot: Snapshot) -> str:
    if settings.DEFAULT_MODEL or settings.DEFAULT_PROVIDER:
        return "What the server was started with (G4F_MODEL, G4F_PROVIDER)."
    if "default" in snapshot.aliases:
        return "The alias default, its targets by position."
    return "The default model of each provider, by priority."


def _key_fault(key: ApiKey | None, snapshot: Snapshot) -> str:
    """Why a key opens nothing at all; empty when it does."""
    if key is None:
        return ""
    state = key.state()
    if state != "active":
        return f"The key is not usable: {state}."
    return "" if key.pk in snapshot.keys_by_id else "The key is not known to the server."


def _right(question: Question, forbidden: bool) -> str:
    if question.key is None:
        who = question.principal.username
        return f"The user {who} may use every model in a browser session." if who else "No key is named."
    if not question.key.models:
        return f"The key may use every model.{_doors(question.key)}"
    names = ", ".join(question.key.models)
    return f"The key may use {'only ' if forbidden else ''}{names}.{_doors(question.key)}"


def _doors(key: ApiKey) -> str:
    return f" It opens only these routes: {', '.join(key.surfaces)}." if key.surfaces else ""


def _steps(found: Sequence[Candidate], question: Question) -> Iterator[Step]:
    labels = _labels(found)
    rows = []
    for _, equals in groupby(sorted(found, key=attrgetter("rank")), key=attrgetter("rank")):
        group = [item for item in equals if item.model.targets]
        total = sum(item.weight for item in group)
        for item in sorted(group, key=lambda item: -item.weight):
            share = round(100 * item.weight / total)
            rows += [(item, target, share, len(group)) for target in item.model.targets]
    if question.live:
        rows.sort(key=lambda row: breaker.is_open(row[1]))
    now = time.time()
    for number, (item, target, share, equal) in enumerate(rows, 1):
        paused = round(breaker.pause(target)) if question.live else None
        yield Step(
            number=number,
            provider=target.provider,
            model=target.public_id,
            upstream_model=target.upstream_model,
            adapter=target.adapter,
            credential=labels.get(target.credential_id, "none needed"),
            priority=item.rank,
            weight=item.weight,
            share=share,
            paused=paused,
            under_way=busy.at(target.model_id) if question.live else None,
            context_length=target.context_length,
            flags=dict(item.model.flags),
            seconds=_seconds(target, question.stream),
            cost=cost_of(target.prices, SAMPLE, now)[1],
            units=_units(target, now),
            why=_why(item, target, share, equal, paused, alone=len(found) == 1),
        )


def _units(target: Target, at: float) -> dict[str, int]:
    held = (
        price for price in target.prices if price.valid_from <= at and (price.valid_to is None or at < price.valid_to)
    )
    price = next(held, None)
    found = {name: getattr(price, name, None) for name in UNITS}
    return {name: amount for name, amount in found.items() if amount is not None}


def _labels(found: Sequence[Candidate]) -> dict[int, str]:
    ids = [target.credential_id for item in found for target in item.model.targets]
    return {row.pk: str(row) for row in Credential.objects.filter(pk__in=ids).defer("secret")}


def _seconds(target: Target, stream: bool) -> float:
    """How long the provider may be silent before the next one is asked."""
    timeouts = target.endpoint.timeouts
    return timeouts.first_event if stream else timeouts.total


def _why(item: Candidate, target: Target, share: int, equal: int, paused: int | None, *, alone: bool) -> str:
    parts = ["the only one that is meant" if alone else f"priority {item.rank}"]
    if equal > 1:
        parts.append(f"first of {equal} equals in {share} % of requests, less when it is busier than they")
    if target is not item.model.targets[0]:
        parts.append("after this provider's other credential")
    if paused:
        parts.append(f"tried last for {paused} s more, because it failed lately")
    return "; ".join(parts)


def _left_out(snapshot: Snapshot, question: Question, found: Sequence[Candidate]) -> Iterator[LeftOut]:
    for item in found:
        if not item.model.targets:
            yield LeftOut(_name(item.model), _no_credential(item.model))
    if not question.provider:
        for model in snapshot.by_model.get(question.model, ()):
            if not allowed(model, question.principal) and question.model not in snapshot.aliases:
                yield LeftOut(_name(model), "not among the key's models")
    yield from _switched_off(question)


def _name(model: ModelPolicy) -> str:
    return f"{model.provider.name}/{model.public_id}"


def _no_credential(model: ModelPolicy) -> str:
    lost = model.provider.unreadable
    return f"{lost} of its credentials cannot be decrypted" if lost else "the provider has no credential"


def _switched_off(question: Question) -> Iterator[LeftOut]:
    name = question.model.partition("/")[2] or question.model
    plain = Q(public_id__in={question.model, name})
    if question.provider:
        plain &= Q(provider__name__iexact=question.provider)
    behind = AliasTarget.objects.filter(alias__name=question.model or "default").values("model")
    rows: Iterable[ProviderModel] = ProviderModel.objects.filter(plain | Q(pk__in=behind)).select_related("provider")
    for row in rows:
        if not row.provider.enabled:
            yield LeftOut(str(row), "the provider is switched off")
        elif row.provider.name.lower() in settings.IGNORED_PROVIDERS:
            yield LeftOut(str(row), "the provider is in G4F_IGNORED_PROVIDERS")
        elif not row.enabled:
            yield LeftOut(str(row), "the model is switched off")


def told_cost(step: Step) -> str:
    """`$0.0125, $0.04 a picture`: of SAMPLE, then of one of each unit that has a price."""
    units = [f"{dollars(amount / 1_000_000)} {UNITS[name]}" for name, amount in step.units.items()]
    return ", ".join([dollars(step.cost), *units])


def dollars(nano: float | None) -> str:
    """`$0.0125`, or that nobody said what it costs."""
    if nano is None:
        return "no price"
    text = f"{nano / 1e9:.9f}".rstrip("0")
    whole, _, rest = text.partition(".")
    return f"${whole}.{rest.ljust(2, '0')}"
