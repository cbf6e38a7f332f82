"""The catalogue in the shapes of g4f's pages (wire contract, section 2.1): models by provider, providers, groups."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from gateway.authentication import Principal
from gateway.routing import allowed, default_of, has_credential
from gateway.snapshot import ModelPolicy, ProviderPolicy, Snapshot
from gateway.surfaces.openai.views import SOUND_FLAGS, visible

Body = dict[str, Any]
# g4f's name for the choice that the gateway makes itself.
AUTOMATIC = "AnyProvider"
AUTOMATIC_LABEL = "Automatic choice"
TAGS = ("tools", "json", "reasoning", "embeddings")


def is_automatic(provider: str | None) -> bool:
    return not provider or provider.lower() == AUTOMATIC.lower()


def model_body(name: str, model: ModelPolicy, *, default: bool = False, count: int | None = None) -> Body:
    """One model: g4f's keys, and what OpenAI's list says beside. `count`: how many providers have it."""
    flags = model.flags
    sound = any(flags.get(flag, False) for flag in SOUND_FLAGS)
    kind = next((flag for flag in ("image", "video") if flags.get(flag)), "audio" if _only_sound(model) else "chat")
    return {
        "id": name,
        "label": name,
        "default": default,
        "vision": flags.get("vision", False),
        "audio": sound,
        "video": flags.get("video", False),
        "image": flags.get("image", False),
        "count": count,
        "tags": [tag for tag in TAGS if flags.get(tag)],
        "type": kind,
        "owned_by": model.provider.label,
        **({"context_length": model.context_length} if model.context_length else {}),
    }


def _only_sound(model: ModelPolicy) -> bool:
    return any(model.flags.get(flag) for flag in SOUND_FLAGS) and not model.flags.get("chat")


def models_of(provider: ProviderPolicy, principal: Principal) -> list[Body]:
    first = default_of(provider)
    return [
        model_body(model.public_id, model, default=model is first)
        for model in provider.models.values()
        if allowed(model, principal)
    ]


def names_for_all(snapshot: Snapshot, principal: Principal) -> dict[str, tuple[ModelPolicy, ...]]:
    """Aliases and plain ids that the caller may use, with what is behind each."""
    found = {
        name: tuple(entry.model for entry in entries)
        for name, entries in snapshot.aliases.items()
        if principal.may_use(name)
    }
    for name, models in snapshot.by_model.items():
        usable = tuple(model for model in models if allowed(model, principal))
        if usable:
            found.setdefault(name, usable)
    return found


def groups(snapshot: Snapshot, principal: Principal, ignored: Container[str] = ()) -> list[Body]:
    """What the automatic choice can be asked for: names that several may answer, then each provider's models.

    A plain id goes to whoever has it, so a provider's group says `Provider/id`. `ignored`: names in lower case.
    """
    shared = [
        model_body(name, models[0], default=name == "default", count=len(models))
        for name, models in names_for_all(snapshot, principal).items()
    ]
    shared.sort(key=lambda body: not body["default"])
    if not any(body["default"] for body in shared):
        shared = [_default_body(), *shared]
    found = [{"group": AUTOMATIC_LABEL, "models": shared}]
    for provider in snapshot.providers:
        if provider.name.lower() not in ignored:
            rows = [{**body, "id": f"{provider.name}/{body['id']}"} for body in models_of(provider, principal)]
            found += [{"group": provider.label, "models": rows}] if rows else []
    return found


def _default_body() -> Body:
    flags = dict.fromkeys(("vision", "audio", "video", "image"), False)
    return {"id": "default", "label": "default", "default": True, **flags, "count": None, "tags": [], "type": "chat"}


def map_of_models(snapshot: Snapshot, principal: Principal) -> dict[str, list[Body]]:
    """Provider -> its models."""
    found = {provider.name: models_of(provider, principal) for provider in snapshot.providers}
    return {name: rows for name, rows in found.items() if rows}


def providers(snapshot: Snapshot, principal: Principal) -> list[Body]:
    """The automatic choice first, then all that the caller may use a model of."""
    seen = [provider for provider in snapshot.providers if visible(provider, principal)]
    models = [model for provider in seen for model in provider.models.values() if allowed(model, principal)]
    automatic = {
        "name": AUTOMATIC,
        "label": AUTOMATIC_LABEL,
        "auth": False,
        **_shared(models),
    }
    return [automatic, *(_provider(provider, principal) for provider in seen)]


def _provider(provider: ProviderPolicy, principal: Principal) -> Body:
    models = [model for model in provider.models.values() if allowed(model, principal)]
    # A provider without credentials cannot answer; its label is what pages sort by, so it is never null.
    body = {"name": provider.name, "label": provider.label or provider.name, "auth": not has_credential(provider)}
    return {**body, **_shared(models), "url": provider.docs_url}


def _shared(models: Iterable[ModelPolicy]) -> Body:
    """Counts and flags, and those keys of g4f's that mean nothing here."""
    found = list(models)
    return {
        "parent": None,
        "image": sum(bool(model.flags.get("image")) for model in found),
        "audio": sum(any(model.flags.get(flag) for flag in SOUND_FLAGS) for model in found),
        "video": sum(bool(model.flags.get("video")) for model in found),
        "vision": any(model.flags.get("vision") for model in found),
        "nodriver": False,
        "hf_space": False,
        "active_by_default": True,
        "login_url": None,
        "live": 0,
        "login": False,
    }
