"""How DRF speaks here: strict JSON in and out, one content type, one error envelope."""

from __future__ import annotations

from typing import Any

import orjson
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.errors import BadRequest, GatewayError, NotAllowed, NotAuthenticated
from gateway.surfaces.openai.errors import error_headers, error_object, method_not_allowed, unknown_url
from media.errors import MediaError


class OrjsonParser(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not valid JSON: {error.msg}.", code="invalid_json") from None


class OrjsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=str)


class JsonAlways(BaseContentNegotiation):
    """JSON, whatever `Accept` says: SDKs send all kinds of it."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        kind = (request.content_type or "application/json").split(";", 1)[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == kind), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


def of_media(error: MediaError) -> GatewayError:
    """An error of the media app, which knows nothing of ours, as one of ours."""
    return GatewayError(
        error.message,
        status=error.status,
        type=error.type,
        code=error.code,
        param=error.param,
        should_retry=False if error.status == 507 else None,
    )


def as_gateway_error(error: Exception, request: Any) -> GatewayError | None:
    """Any exception that a view may raise, as one of ours; None for bugs."""
    match error:
        case GatewayError() | MediaError():
            return of_media(error) if isinstance(error, MediaError) else error
        case exceptions.NotAuthenticated():
            return NotAuthenticated("Send an API key as `Authorization: Bearer KEY`.")
        case exceptions.AuthenticationFailed():
            return NotAuthenticated("Invalid API key.")
        case exceptions.PermissionDenied() | DjangoPermissionDenied():
            csrf = "csrf" in str(getattr(error, "detail", "")).lower()
            message = str(getattr(error, "detail", "")) or "You may not do this."
            return NotAllowed(message, code="csrf_failed" if csrf else "permission_denied")
        case exceptions.MethodNotAllowed():
            return method_not_allowed(request.method, "another method")
        case exceptions.NotFound() | Http404():
            return unknown_url(request.method, request.path)
        case exceptions.UnsupportedMediaType():
            return BadRequest(
                "Unsupported content type; send application/json.", status=415, code="unsupported_media_type"
            )
        case exceptions.Throttled():
            return GatewayError(
                "Too many requests.",
                status=429,
                type="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after=getattr(error, "wait", None),
            )
        case exceptions.APIException():
            return BadRequest(str(error.detail), status=error.status_code)
    return None


def envelope(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. A bug is re-raised by DRF and becomes the edge's 500."""
    found = as_gateway_error(error, context["request"])
    if found is None:
        return None
    response = Response(error_object(found), status=found.status)
    for name, value in error_headers(found):
        response[name.decode()] = value.decode()
    return response
