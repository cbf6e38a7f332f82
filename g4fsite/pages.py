"""What Django's side answers when something goes wrong: JSON for programs, a page in our look for people."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader

from gateway.errors import BadRequest, GatewayError, NotAllowed
from gateway.surfaces.openai.errors import error_bytes, error_headers, unknown_url

# Everything below these is for programs, as are the paths that monitoring asks.
JSON_PREFIXES = ("/v1", "/api/", "/backend-api", "/schema")
JSON_PATHS = {"/health", "/livez", "/readyz", "/version", "/metrics"}


def wants_json(request: HttpRequest) -> bool:
    return request.path in JSON_PATHS or request.path.startswith(JSON_PREFIXES)


def json_error(error: GatewayError) -> HttpResponse:
    response = HttpResponse(error_bytes(error), status=error.status, content_type="application/json")
    for name, value in error_headers(error):
        response[name.decode()] = value.decode()
    response["Cache-Control"] = "no-store"
    return response


class GatewayErrors:
    """Turns a GatewayError that a plain Django view raised into its own answer."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return json_error(exception) if isinstance(exception, GatewayError) else None


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if wants_json(request):
        return json_error(BadRequest("The request cannot be read."))
    # The Host itself may be what is bad, so nothing here may ask the request for it.
    return HttpResponse(loader.get_template("400.html").render(), status=400)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if wants_json(request):
        return json_error(NotAllowed("You may not do this.", code="permission_denied"))
    return render(request, "403.html", status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if wants_json(request):
        return json_error(NotAllowed("The CSRF check failed.", code="csrf_failed"))
    return render(request, "403_csrf.html", status=403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if wants_json(request):
        return json_error(unknown_url(str(request.method), request.path))
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    if wants_json(request):
        request_id = getattr(request, "scope", {}).get("g4f.request_id", "")
        return json_error(GatewayError(f"The server had an error. Its log has it under {request_id}."))
    # Whatever broke may break again: this page asks for nothing.
    return HttpResponse(loader.get_template("500.html").render(), status=500)
