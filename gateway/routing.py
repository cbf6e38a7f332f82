"""From a model's name to the targets to try, in order. A pure function of the snapshot: nothing is asked."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

from django.conf import settings

from gateway.authentication import Principal
from gateway.errors import BadRequest, ModelNotFound, NotAllowed, ProviderNotFound, Unavailable
from gateway.snapshot import ModelPolicy, ProviderPolicy, Snapshot
from gateway.targets import Target

T = TypeVar("T")
AUTOMATIC = ("", "default")
# A chat request goes to a model unless the model is known for something else only.
NOT_CHAT = ("image", "audio", "video", "embeddings")


def targets_for(
    snapshot: Snapshot, model: str, provider: str | None, principal: Principal, operation: str = "chat"
) -> tuple[Target, ...]:
    """Raises ProviderNotFound, ModelNotFound, BadRequest, NotAllowed or Unavailable; never returns an empty tuple."""
    if operation == "chat":
        found = _models_for(snapshot, model, provider, principal)
    else:
        found = _models_of_call(snapshot, model, provider, principal)
    if operation in UNFIT:
        found = _fit(found, operation)
    targets = found[0].targets if len(found) == 1 else tuple(target for item in found for target in item.targets)
    if not targets:
        raise Unavailable("No credential is configured for this model.", code="no_credential", should_retry=False)
    return targets


def embeds_only(model: ModelPolicy) -> bool:
    return bool(model.flags.get("embeddings")) and not model.flags.get("chat")


def never_embeds(model: ModelPolicy) -> bool:
    return model.flags.get("embeddings") is False


# What is known of a model may forbid an operation; what is unknown does not.
UNFIT = {"chat": embeds_only, "embeddings": never_embeds}


def _fit(models: tuple[ModelPolicy, ...], operation: str) -> tuple[ModelPolicy, ...]:
    unfit = UNFIT[operation]
    if not any(map(unfit, models)):
        return models
    fit = tuple(model for model in models if not unfit(model))
    if not fit:
        raise BadRequest(
            f"The model {models[0].public_id!r} is not one for {operation}.",
            code="unsupported_operation",
            param="model",
        )
    return fit


def _models_of_call(
    snapshot: Snapshot, model: str, provider: str | None, principal: Principal
) -> tuple[ModelPolicy, ...]:
    """The models for a request that is no chat. Only embeddings have a flag by which one could be chosen unnamed."""
    if model not in AUTOMATIC or snapshot.aliases.get(model):
        return _models_for(snapshot, model, provider, principal)
    owner = snapshot.by_name.get(provider.lower()) if provider else None
    providers = (owner,) if owner else () if provider else snapshot.providers
    known = [
        model
        for policy in providers
        for model in policy.models.values()
        if model.flags.get("embeddings") and allowed(model, principal)
    ]
    real = [model for model in known if not model.provider.is_demo]
    if not known:
        raise ModelNotFound("Name a model: none can be chosen for this.", param="model")
    return _by_priority(real or known)


def resolve(snapshot: Snapshot, model: str, principal: Principal) -> tuple[ModelPolicy, ...]:
    """The models behind a public name. Raises as `targets_for` does."""
    return _models_for(snapshot, model, None, principal)


def _models_for(snapshot: Snapshot, model: str, provider: str | None, principal: Principal) -> tuple[ModelPolicy, ...]:
    if provider:
        policy = snapshot.by_name.get(provider.lower())
        if policy is None:
            raise ProviderNotFound(f"Provider {provider!r} not found.", param="provider")
        return (_of_provider(policy, model, principal),)
    if model in AUTOMATIC:
        return _automatic(snapshot, principal)
    _check_allowed(model, snapshot, principal)
    entries = snapshot.aliases.get(model)
    if entries:
        return tuple(entry[2].model for entry in _shuffled((e.position, e.weight, e) for e in entries))
    # Before plain ids: no provider's list of models may take over another one's name.
    owner = _owner(snapshot, model)
    if owner is not None:
        return (_of_provider(owner, model.partition("/")[2], principal),)
    found = snapshot.by_model.get(model)
    if found:
        return _by_priority([model for model in found if allowed(model, principal)])
    return _named_provider(snapshot, model, principal)


def _owner(snapshot: Snapshot, model: str) -> ProviderPolicy | None:
    """The provider that is meant by its exact name, or by `Provider/model` with a model of its own."""
    name, slash, rest = model.partition("/")
    provider = snapshot.by_name.get(name.lower())
    if provider is None or (rest not in provider.models if slash else name != provider.name):
        return None
    return provider


def _named_provider(snapshot: Snapshot, model: str, principal: Principal) -> tuple[ModelPolicy, ...]:
    """`Provider/model`, or a provider's own name for its default model."""
    name, slash, rest = model.partition("/")
    policy = snapshot.by_name.get(name.lower())
    if policy is not None and (rest or not slash):
        return (_of_provider(policy, rest, principal),)
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


def _automatic(snapshot: Snapshot, principal: Principal) -> tuple[ModelPolicy, ...]:
    """`default`: what the operator started the server with, else the alias of that name, else each
    provider's default model in order. Demo only where nothing else is."""
    if settings.DEFAULT_MODEL or settings.DEFAULT_PROVIDER:
        model = settings.DEFAULT_MODEL if settings.DEFAULT_MODEL not in AUTOMATIC else ""
        if model or settings.DEFAULT_PROVIDER:
            return _models_for(snapshot, model, settings.DEFAULT_PROVIDER or None, principal)
    entries = snapshot.aliases.get("default")
    if entries:
        ordered = tuple(entry[2].model for entry in _shuffled((e.position, e.weight, e) for e in entries))
    else:
        ordered = _by_priority([model for model in map(default_of, snapshot.providers) if model is not None])
    usable = [model for model in ordered if has_credential(model.provider)] or list(ordered)
    permitted = [model for model in usable if allowed(model, principal) or _in_scope("default", principal)]
    real = [model for model in permitted if not model.provider.is_demo]
    if not permitted:
        if usable:
            raise _not_allowed("default")
        raise Unavailable("No provider is enabled.", code="no_provider", should_retry=False)
    return tuple(real or permitted)


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


def _by_priority(models: list[ModelPolicy]) -> tuple[ModelPolicy, ...]:
    if len(models) == 1:
        return (models[0],)
    return tuple(item[2] for item in _shuffled((m.provider.priority, m.provider.weight, m) for m in models))


def _shuffled(items: Iterable[tuple[int, int, T]]) -> Iterator[tuple[int, int, T]]:
    """Ascending by the first number, strictly; among equals by chance in proportion to the second."""
    items = list(items)
    if len(items) == 1:
        yield items[0]
        return
    for _, group in groupby(sorted(items, key=itemgetter(0)), key=itemgetter(0)):
        equals = list(group)
        while equals:
            chosen = 0 if len(equals) == 1 else random.choices(range(len(equals)), [item[1] for item in equals])[0]  # noqa: S311 - a share, not a secret
            yield equals.pop(chosen)
