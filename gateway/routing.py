"""From what a caller asks to the targets to try, in order. Looks at the snapshot and at what is under way; asks nobody.

`candidates` says who may answer; `ordered` puts them in a row, where chance and load decide among equals.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from django.conf import settings

from gateway.authentication import Principal
from gateway.busy import busy
from gateway.chat import ChatRequest, Preferences
from gateway.errors import BadRequest, GatewayError, ModelNotFound, NotAllowed, ProviderNotFound, Unavailable
from gateway.snapshot import AliasEntry, ModelPolicy, ProviderPolicy, Snapshot
from gateway.targets import Target

AUTOMATIC = ("", "default")
# Names whose target is remembered; there are more ways to spell one than models.
MAX_DIRECT = 10_000
# A chat request goes to a model unless the model is known for something else only.
NOT_CHAT = ("image", "audio", "video", "embeddings", "speech", "transcription")


class Candidate(NamedTuple):
    """A model that may answer. Lower ranks come first, strictly; `weight` is its share among those of its rank."""

    rank: int
    weight: int
    model: ModelPolicy


def targets_of(
    snapshot: Snapshot, chat: ChatRequest, principal: Principal, operation: str = "chat"
) -> tuple[Target, ...]:
    """What a request may be sent to: its model, then its fallbacks, each as its preferences want. Raises as below."""
    if chat.preferences is None and not chat.fallbacks:
        key = principal.key
        if chat.provider is None and (key is None or not key.models):
            known = snapshot.direct.get((operation, chat.model))
            if known is not None:
                return known
        return targets_for(snapshot, chat.model, chat.provider, principal, None, operation)
    found: dict[tuple[int, int], Target] = {}
    refusal: GatewayError | None = None
    for model in (chat.model, *chat.fallbacks):
        try:
            targets = targets_for(snapshot, model, chat.provider, principal, chat.preferences, operation)
        except GatewayError as error:
            # One that cannot be had is no reason to refuse what another can answer.
            refusal = refusal or error
        else:
            for target in targets:
                found.setdefault((target.model_id, target.credential_id), target)
    if not found:
        assert refusal is not None, "there is at least one model"
        raise refusal
    return tuple(found.values())


def targets_for(
    snapshot: Snapshot,
    model: str,
    provider: str | None,
    principal: Principal,
    preferences: Preferences | None = None,
    operation: str = "chat",
) -> tuple[Target, ...]:
    """Raises ProviderNotFound, ModelNotFound, BadRequest, NotAllowed or Unavailable; never returns an empty tuple."""
    if operation == "chat":
        found = candidates(snapshot, model, provider, principal)
    else:
        found = _candidates_of_call(snapshot, model, provider, principal, operation)
    if operation in UNFIT:
        found = _fit(found, operation)
    if len(found) == 1 and preferences is None:
        targets = found[0].model.targets
    else:
        chosen: Sequence[ModelPolicy] = ordered(found)
        chosen = chosen if preferences is None else preferred(chosen, preferences)
        targets = tuple(target for item in chosen for target in item.targets)
    if not targets:
        raise Unavailable("No credential is configured for this model.", code="no_credential", should_retry=False)
    alone = len(found) == 1 and not provider and preferences is None and principal.unrestricted
    if alone and len(snapshot.direct) < MAX_DIRECT:
        # One model and no choice: the next request for it need not look.
        snapshot.direct[operation, model] = targets
    return targets


def embeds_only(model: ModelPolicy) -> bool:
    return bool(model.flags.get("embeddings")) and not model.flags.get("chat")


def never_embeds(model: ModelPolicy) -> bool:
    return model.flags.get("embeddings") is False


def never_speaks(model: ModelPolicy) -> bool:
    return _refused(model, "speech")


def never_listens(model: ModelPolicy) -> bool:
    return _refused(model, "transcription")


def _refused(model: ModelPolicy, flag: str) -> bool:
    """The finer flag counts; `audio` is sound of either direction, also in chats."""
    return model.flags.get(flag, model.flags.get("audio")) is False


def never_draws(model: ModelPolicy) -> bool:
    return model.flags.get("image") is False


# What is known of a model may forbid an operation; what is unknown does not.
UNFIT = {
    "chat": embeds_only,
    "embeddings": never_embeds,
    "images": never_draws,
    "speech": never_speaks,
    "transcriptions": never_listens,
    "translations": never_listens,
}
# By which flags a model that nobody named is chosen: those of the first that any model has.
CHOSEN_BY = {
    "images": ("image",),
    "speech": ("speech", "audio"),
    "transcriptions": ("transcription", "audio"),
    "translations": ("transcription", "audio"),
}

OPPOSITE = {"speech": "transcription", "transcriptions": "speech", "translations": "speech"}


def _fit(found: list[Candidate], operation: str) -> list[Candidate]:
    unfit = UNFIT[operation]
    fit = [item for item in found if not unfit(item.model)]
    if not fit:
        raise BadRequest(
            f"The model {found[0].model.public_id!r} is not one for {operation}.",
            code="unsupported_operation",
            param="model",
        )
    return fit


def _candidates_of_call(
    snapshot: Snapshot, model: str, provider: str | None, principal: Principal, operation: str
) -> list[Candidate]:
    """Who may answer what is no chat. A model that nobody named is chosen by its flags."""
    named = owner_of(snapshot, model) if operation in CHOSEN_BY and not provider else None
    if named is not None and model == named.name and not snapshot.aliases.get(model):
        # A provider's name stands for its default model, which is one for chats; here for the one that can.
        flags, models = CHOSEN_BY[operation], named.models.values()
        if any(_is_for(known, operation, flag) for known in models for flag in flags):
            provider, model = named.name, ""
    if model not in AUTOMATIC or snapshot.aliases.get(model):
        return candidates(snapshot, model, provider, principal)
    owner = snapshot.by_name.get(provider.lower()) if provider else None
    if provider and owner is None:
        raise ProviderNotFound(f"Provider {provider!r} not found.", param="provider")
    for flag in CHOSEN_BY.get(operation, ("embeddings",)):
        known = [
            model
            for policy in ((owner,) if owner else snapshot.providers)
            for model in policy.models.values()
            if _is_for(model, operation, flag) and not _is_unfit(model, operation) and allowed(model, principal)
        ]
        if known:
            return _by_position([model for model in known if not model.provider.is_demo] or known)
    if owner is not None and operation in CHOSEN_BY:
        raise BadRequest(
            f"No model of {owner.name} is known for {operation}: name one.", code="unsupported_operation", param="model"
        )
    raise ModelNotFound("Name a model: none can be chosen for this.", param="model")


def _is_for(model: ModelPolicy, operation: str, flag: str) -> bool:
    """Whether the flag says that a model is one for this; `audio` does not of what is known for the other direction."""
    return bool(model.flags.get(flag)) and not (flag == "audio" and model.flags.get(OPPOSITE[operation]))


def _is_unfit(model: ModelPolicy, operation: str) -> bool:
    return operation in UNFIT and UNFIT[operation](model)


def resolve(snapshot: Snapshot, model: str, principal: Principal) -> tuple[ModelPolicy, ...]:
    """The models behind a public name. Raises as `targets_for` does."""
    return tuple(ordered(candidates(snapshot, model, None, principal)))


def preferred(models: Sequence[ModelPolicy], wanted: Preferences) -> Sequence[ModelPolicy]:
    """As the caller's `provider` object wants. Raises ProviderNotFound when it leaves nobody."""
    left = [model for model in models if permits(wanted, model.provider.name)]
    if not left:
        raise ProviderNotFound("No provider that 'provider' permits has this model.", param="provider")
    if wanted.order:
        last = len(wanted.order)
        places = {name: place for place, name in reversed(list(enumerate(wanted.order)))}
        left.sort(key=lambda model: places.get(model.provider.name.lower(), last))
    elif not wanted.allow_fallbacks:
        left = [model for model in left if model.provider is left[0].provider]
    return left


def permits(wanted: Preferences, provider: str) -> bool:
    name = provider.lower()
    if name in wanted.ignore or (wanted.only is not None and name not in wanted.only):
        return False
    return wanted.allow_fallbacks or not wanted.order or name in wanted.order


def candidates(snapshot: Snapshot, model: str, provider: str | None, principal: Principal) -> list[Candidate]:
    """Who may answer, in no order yet. Raises as `targets_for` does; never empty."""
    if provider:
        policy = snapshot.by_name.get(provider.lower())
        if policy is None:
            raise ProviderNotFound(f"Provider {provider!r} not found.", param="provider")
        return _alone(_of_provider(policy, model, principal))
    if model in AUTOMATIC:
        return _automatic(snapshot, principal)
    _check_allowed(model, snapshot, principal)
    entries = snapshot.aliases.get(model)
    if entries:
        return _entries(entries)
    # Before plain ids: no provider's list of models may take over another one's name.
    owner = owner_of(snapshot, model)
    if owner is not None:
        return _alone(_of_provider(owner, model.partition("/")[2], principal))
    found = snapshot.by_model.get(model)
    if found:
        return _by_priority([model for model in found if allowed(model, principal)])
    return _alone(_named_provider(snapshot, model, principal))


def _alone(model: ModelPolicy) -> list[Candidate]:
    return [Candidate(0, 1, model)]


def _entries(entries: Iterable[AliasEntry]) -> list[Candidate]:
    return [Candidate(entry.position, entry.weight, entry.model) for entry in entries]


def _by_priority(models: Iterable[ModelPolicy]) -> list[Candidate]:
    return [Candidate(model.provider.priority, model.provider.weight, model) for model in models]


def _by_position(models: Sequence[ModelPolicy]) -> list[Candidate]:
    """By the providers' priority, and of each provider the first that is known before its others."""
    places: Counter[int] = Counter()
    found = []
    for model in models:
        found.append(((model.provider.priority, places[model.provider.id]), model))
        places[model.provider.id] += 1
    ranks = {place: rank for rank, place in enumerate(sorted({place for place, _ in found}))}
    return [Candidate(ranks[place], model.provider.weight, model) for place, model in found]


def owner_of(snapshot: Snapshot, model: str) -> ProviderPolicy | None:
    """The provider that is meant by its exact name, or by `Provider/model` with a model of its own."""
    name, slash, rest = model.partition("/")
    provider = snapshot.by_name.get(name.lower())
    if provider is None or (rest not in provider.models if slash else name != provider.name):
        return None
    return provider


def _named_provider(snapshot: Snapshot, model: str, principal: Principal) -> ModelPolicy:
    """`Provider/model`, or a provider's own name for its default model."""
    name, slash, rest = model.partition("/")
    policy = snapshot.by_name.get(name.lower())
    if policy is not None and (rest or not slash):
        return _of_provider(policy, rest, principal)
    raise ModelNotFound(f"Model {model!r} not found.", param="model")


def _of_provider(provider: ProviderPolicy, model: str, principal: Principal) -> ModelPolicy:
    policy = default_of(provider) if model in AUTOMATIC else provider.models.get(model)
    if policy is None and model in AUTOMATIC:
        raise ModelNotFound(f"Provider {provider.name} has no model.", param="model")
    if policy is None and model.lower().startswith(provider.name.lower() + "/"):
        policy = provider.models.get(model[len(provider.name) + 1 :])
    if policy is None:
        raise ModelNotFound(f"Model {model!r} not found at provider {provider.name}.", param="model")
    if not allowed(policy, principal):
        raise _not_allowed(policy.public_id)
    return policy


def default_of(provider: ProviderPolicy) -> ModelPolicy | None:
    """The model that a provider's name alone means: the chosen one, else the first that may chat."""
    chosen = provider.models.get(provider.default_model)
    return chosen or next((model for model in provider.models.values() if may_chat(model)), None)


def may_chat(model: ModelPolicy) -> bool:
    chat = model.flags.get("chat")
    return chat if chat is not None else not any(model.flags.get(name) for name in NOT_CHAT)


def _automatic(snapshot: Snapshot, principal: Principal) -> list[Candidate]:
    """`default`: what the operator started the server with, else the alias of that name, else each
    provider's default model in order. Demo only where nothing else is."""
    if settings.DEFAULT_MODEL or settings.DEFAULT_PROVIDER:
        model = settings.DEFAULT_MODEL if settings.DEFAULT_MODEL not in AUTOMATIC else ""
        if model or settings.DEFAULT_PROVIDER:
            # A key that may use `default` may use what that stands for.
            asking = replace(principal, key=None) if _in_scope("default", principal) else principal
            return candidates(snapshot, model, settings.DEFAULT_PROVIDER or None, asking)
    entries = snapshot.aliases.get("default")
    if entries:
        found = _entries(entries)
    else:
        found = _by_priority(model for model in map(default_of, snapshot.providers) if model is not None)
    usable = [item for item in found if has_credential(item.model.provider)] or found
    permitted = [item for item in usable if allowed(item.model, principal) or _in_scope("default", principal)]
    real = [item for item in permitted if not item.model.provider.is_demo]
    if not permitted:
        if usable:
            raise _not_allowed("default")
        raise Unavailable("No provider is enabled.", code="no_provider", should_retry=False)
    return real or permitted


def has_credential(provider: ProviderPolicy) -> bool:
    return bool(provider.credentials) or not provider.needs_credential


def _in_scope(name: str, principal: Principal) -> bool:
    return principal.key is not None and name in principal.key.models


def allowed(model: ModelPolicy, principal: Principal) -> bool:
    """A key's scope may name a model by its id or as `Provider/id`."""
    plainly = not model.shadowed and principal.may_use(model.public_id)
    return plainly or principal.may_use(f"{model.provider.name}/{model.public_id}")


def _check_allowed(name: str, snapshot: Snapshot, principal: Principal) -> None:
    if principal.may_use(name):
        return
    behind = snapshot.by_model.get(name) or ()
    if name in snapshot.aliases or (behind and not any(allowed(model, principal) for model in behind)):
        raise _not_allowed(name)


def _not_allowed(name: str) -> NotAllowed:
    return NotAllowed(f"This API key may not use the model {name!r}.", param="model")


def ordered(found: Sequence[Candidate]) -> list[ModelPolicy]:
    """Ascending by rank, strictly; among equals the one with the least under way for its weight, then by chance."""
    if len(found) == 1:
        return [found[0].model]
    in_ranks = groupby(sorted(found, key=attrgetter("rank")), key=attrgetter("rank"))
    return [item.model for _, equals in in_ranks for item in _among_equals(list(equals))]


def _among_equals(equals: list[Candidate]) -> Iterator[Candidate]:
    while len(equals) > 1:
        first = _least_busy(equals) if busy else equals
        chosen = first[0] if len(first) == 1 else random.choices(first, [item.weight for item in first])[0]  # noqa: S311 - a share, not a secret
        equals.remove(chosen)
        yield chosen
    yield from equals


def _least_busy(equals: list[Candidate]) -> list[Candidate]:
    """What one request more would mean for each. While none of them has anything to do, chance gives the shares."""
    counts = [busy.at(item.model.id) for item in equals]
    if not any(counts):
        return equals
    loads = [(count + 1) / item.weight for count, item in zip(counts, equals, strict=True)]
    least = min(loads)
    return [item for item, load in zip(equals, loads, strict=True) if load == least]
