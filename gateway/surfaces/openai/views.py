"""The catalogue of `/v1` and `/api/{provider}`: models and providers, as the caller may use them.

Nothing of a provider's configuration but its public page is shown: no base URL, no header, no key.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.authentication import Principal
from gateway.errors import GatewayError, ModelNotFound, ProviderNotFound
from gateway.routing import allowed, default_of, has_credential, resolve
from gateway.snapshot import ModelPolicy, ProviderPolicy, Snapshot, store
from gateway.surfaces.openai import schemas
from gateway.surfaces.openai.errors import unknown_url
from gateway.surfaces.views import JsonView

SHOWN_FLAGS = ("image", "vision", "audio", "video", "tools")
SOUND_FLAGS = ("audio", "speech", "transcription")


def caller(request: Request) -> Principal:
    assert isinstance(request.auth, Principal)
    return request.auth


def model_body(name: str, model: ModelPolicy, **more: Any) -> dict[str, Any]:
    """OpenAI's four keys, then the reference's flags."""
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider.label,
        **{flag: model.flags.get(flag, False) for flag in SHOWN_FLAGS},
        # Sound of either direction; the finer flags are for the choice of a model.
        "audio": any(model.flags.get(flag, False) for flag in SOUND_FLAGS),
        "provider": False,
        **({"context_length": model.context_length} if model.context_length else {}),
        **more,
    }


def visible_models(snapshot: Snapshot, principal: Principal) -> list[dict[str, Any]]:
    """Aliases, models under their plain ids (the first provider that has one stands for it), then providers."""
    found = {}
    for name, entries in snapshot.aliases.items():
        if principal.may_use(name):
            found[name] = model_body(name, entries[0].model, owned_by="alias")
    for name, models in snapshot.by_model.items():
        usable = [model for model in models if allowed(model, principal)]
        if usable and name not in found:
            found[name] = model_body(name, usable[0])
    return [*found.values(), *_providers_as_models(snapshot, principal)]


def _providers_as_models(snapshot: Snapshot, principal: Principal) -> list[dict[str, Any]]:
    rows = []
    for provider in snapshot.providers:
        model = default_of(provider)
        if model is not None and allowed(model, principal):
            row = model_body(provider.name, model, provider=True)
            row.pop("context_length", None)
            rows.append(row)
    return rows


def provider_body(provider: ProviderPolicy, principal: Principal) -> dict[str, Any]:
    """The reference's keys, and those that the reference implementation sends beside them."""
    models = [model for model in provider.models.values() if allowed(model, principal)]
    return {
        "id": provider.name,
        "object": "provider",
        "created": provider.created,
        "provider": provider.name,
        "label": provider.label,
        "url": provider.docs_url,
        "models": [model.public_id for model in models],
        "image_models": [model.public_id for model in models if model.flags.get("image")],
        "vision_models": [model.public_id for model in models if model.flags.get("vision")],
        "working": has_credential(provider),
        "auth": provider.needs_credential,
    }


def described(provider: ProviderPolicy) -> str:
    if provider.is_demo:
        return "Demo: no model is behind it; for trying out clients."
    return f"{provider.label}, over the {provider.adapter} protocol."


def visible(provider: ProviderPolicy, principal: Principal) -> bool:
    """A key that may use none of a provider's models does not learn that it is there."""
    return principal.unrestricted or any(allowed(model, principal) for model in provider.models.values())


def provider_named(name: str, principal: Principal) -> ProviderPolicy:
    found = store.current.by_name.get(name.lower())
    if found is None or not visible(found, principal):
        raise ProviderNotFound(f"Provider {name!r} not found.", param="provider")
    return found


class Models(JsonView):
    """The models that the caller may use."""

    @extend_schema(operation_id="listModels", tags=["models"], responses={200: schemas.ModelList})
    def get(self, request: Request) -> Response:
        return Response({"object": "list", "data": visible_models(store.current, caller(request))})


class Model(JsonView):
    """One model, alias or provider by its id, which may hold slashes."""

    @extend_schema(operation_id="retrieveModel", tags=["models"], responses={200: schemas.Model})
    def get(self, request: Request, name: str) -> Response:
        snapshot, principal = store.current, caller(request)
        for row in visible_models(snapshot, principal):
            if row["id"] == name:
                return Response(row)
        try:
            model = resolve(snapshot, name, principal)[0]
        except GatewayError as error:
            if error.status == 403:
                raise
            raise ModelNotFound(f"The model {name!r} does not exist.", param="model") from None
        return Response(model_body(name, model))


class Providers(JsonView):
    @extend_schema(operation_id="listProviders", tags=["providers"], responses={200: schemas.ProviderList})
    def get(self, request: Request) -> Response:
        principal = caller(request)
        found = [item for item in store.current.providers if visible(item, principal)]
        return Response({"object": "list", "data": [provider_body(item, principal) for item in found]})


class Provider(JsonView):
    @extend_schema(operation_id="retrieveProvider", tags=["providers"], responses={200: schemas.Provider})
    def get(self, request: Request, provider: str) -> Response:
        found = provider_named(provider, caller(request))
        body = provider_body(found, caller(request))
        return Response({**body, "stream": True, "description": described(found), "params": list(PARAMETERS)})


PARAMETERS = ("model", "messages", "stream", "temperature", "top_p", "max_tokens", "stop", "tools", "response_format")


class ProviderModels(JsonView):
    """The models of one provider."""

    @extend_schema(operation_id="listProviderModels", tags=["providers"], responses={200: schemas.ModelList})
    def get(self, request: Request, provider: str) -> Response:
        principal = caller(request)
        models = [model for model in provider_named(provider, principal).models.values() if allowed(model, principal)]
        rows = [
            model_body(model.public_id, model, type="image" if model.flags.get("image") else "chat", count=0)
            for model in models
        ]
        return Response({"object": "list", "data": rows})


class UnknownUrl(JsonView):
    """Everything else under these doors: JSON that names what there is. Strangers are asked who they are first."""

    http_method_names = ["get", "post", "put", "patch", "delete", "head", "options", "trace"]

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        raise unknown_url(str(request.method), request.path)

    post = put = patch = delete = head = trace = get
