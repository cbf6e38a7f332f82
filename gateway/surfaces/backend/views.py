"""The catalogue, usage and reports of `/backend-api/v2`: from the snapshot, and from the caller's own rows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.http.request import RawPostDataException
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.authentication import (
    AnonymousAuthentication,
    ApiKeyAuthentication,
    BesideProvidersKey,
    BrowserSessionAuthentication,
)
from gateway.errors import ProviderNotFound
from gateway.snapshot import store
from gateway.surfaces.backend import encoder, parser, usage
from gateway.surfaces.backend.errors import no_usage, quota_unknown
from gateway.surfaces.backend.reports import reports
from gateway.surfaces.openai.parser import ill_typed
from gateway.surfaces.openai.views import caller, provider_named, visible
from gateway.surfaces.views import JsonView

ANY = OpenApiTypes.OBJECT
USER = OpenApiParameter("user", str, description="For staff: a user name, or `all`.")


class CatalogueView(JsonView):
    """Base of the routes to which g4f's pages send a provider's key beside their own credential."""

    authentication_classes = (
        BesideProvidersKey,
        BrowserSessionAuthentication,
        ApiKeyAuthentication,
        AnonymousAuthentication,
    )


class Models(JsonView):
    """All models that the caller may use, by provider."""

    @extend_schema(operation_id="backendModels", tags=["backend"], responses={200: ANY})
    def get(self, request: Request) -> Response:
        return Response(encoder.map_of_models(store.current, caller(request)))


class ProviderModels(CatalogueView):
    """The models of one provider; groups for `AnyProvider`; an empty list for one that is not there."""

    @extend_schema(
        operation_id="backendProviderModels",
        tags=["backend"],
        parameters=[OpenApiParameter("ignored", str, description="Names of providers to leave out, for AnyProvider.")],
        responses={200: ANY},
    )
    def get(self, request: Request, provider: str) -> Response:
        snapshot, principal = store.current, caller(request)
        if encoder.is_automatic(provider):
            ignored = request.query_params.get("ignored") or request.headers.get("x-ignored") or ""
            return Response(encoder.groups(snapshot, principal, frozenset(ignored.lower().split())))
        found = snapshot.by_name.get(provider.lower())
        if found is not None and visible(found, principal):
            return Response(encoder.models_of(found, principal))
        models = encoder.names_for_all(snapshot, principal).get(provider)
        return Response([encoder.model_body(provider, models[0], count=len(models))] if models else [])


class Providers(JsonView):
    """The automatic choice, and all providers that the caller may use."""

    @extend_schema(operation_id="backendProviders", tags=["backend"], responses={200: ANY})
    def get(self, request: Request) -> Response:
        return Response(encoder.providers(store.current, caller(request)))


class Quota(CatalogueView):
    """What is left at a provider. No protocol of ours tells that; g4f's pages live with any refusal."""

    @extend_schema(operation_id="backendQuota", tags=["backend"], responses={404: ANY})
    def get(self, request: Request, provider: str) -> Response:
        if encoder.is_automatic(provider):
            raise ProviderNotFound(f"Provider {provider!r} not found.", param="provider")
        raise quota_unknown(provider_named(provider, caller(request)).name)


class Version(JsonView):
    """This server's version. Nobody is asked whether there is a newer one, so that is null."""

    @extend_schema(operation_id="backendVersion", tags=["backend"], responses={200: ANY})
    def get(self, request: Request) -> Response:
        return Response({"version": settings.VERSION, "latest_version": None})


class Usage(JsonView):
    """What a page counted itself; never what is billed."""

    @extend_schema(operation_id="backendReportUsage", tags=["backend"], request=ANY, responses={200: ANY})
    def post(self, request: Request) -> Response:
        raw = _raw(request)
        if not isinstance(request.data, dict):
            raise ill_typed("body", "an object")
        reports.keep("usage", caller(request).username, raw)
        return Response({})


class UsageOfDay(JsonView):
    """The caller's requests of a UTC day as JSON lines, 10,000 at most; `x-next-after` is the next page's `after`."""

    @extend_schema(
        operation_id="backendUsageOfDay",
        tags=["backend"],
        parameters=[USER, OpenApiParameter("after", int)],
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request, date: str) -> HttpResponse:
        begin, end = parser.day_of(date)
        after = parser.number_of(request, "after", 0, 0, parser.MAX_NUMBER)
        events = usage.events_of(parser.whose(request, caller(request)))
        body, following = usage.lines(events, begin, end, after)
        if not body and not after:
            raise no_usage(date)
        headers = {} if following is None else {"x-next-after": str(following)}
        return HttpResponse(body, content_type="text/plain; charset=utf-8", headers=headers)


class Stats(JsonView):
    """Sums of the caller's usage by day, model and provider."""

    @extend_schema(
        operation_id="backendStats",
        tags=["backend"],
        parameters=[USER, OpenApiParameter("days", int, description="1 to 365; 30 if not said.")],
        responses={200: ANY},
    )
    def get(self, request: Request) -> Response:
        days = parser.number_of(request, "days", 30, 1, parser.MAX_DAYS)
        return Response(usage.stats(usage.events_of(parser.whose(request, caller(request))), days))


class Log(JsonView):
    """What a page has to say of itself: always `{}`, whatever comes."""

    @extend_schema(operation_id="backendLog", tags=["backend"], request=ANY, responses={200: ANY})
    def post(self, request: Request) -> Response:
        reports.keep("log", caller(request).username, _raw(request))
        return Response({})


def _raw(request: Any) -> bytes:
    try:
        return bytes(request.body)
    except RawPostDataException:
        # A form, which was read while the credentials were looked at.
        return b""
