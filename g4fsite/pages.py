"""What Django's side answers when something goes wrong: JSON for programs, a page in our look for people."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader

from gateway.errors import BadRequest, GatewayError, NotAllowed, Unavailable
from gateway.surfaces.openai.errors import error_bytes, error_headers, unknown_url

# Everything below these is for programs, as are the paths that monitoring asks.
JSON_PREFIXES = ("/v1", "/api/", "/backend-api", "/schema", "/media", "/images", "/thumbnail", "/files", "/search")
JSON_PATHS = {"/health", "/livez", "/readyz", "/version", "/metrics"}
FORM_CHARSETS = {"utf-8", "ascii", "iso8859-1"}
# SQLite's BUSY, LOCKED, IOERR, FULL and CANTOPEN: its other codes say that the query is wrong.
SQLITE_AWAY = {5, 6, 10, 13, 14}
RETRY_AFTER = 5


def wants_json(request: HttpRequest) -> bool:
    return request.path in JSON_PATHS or request.path.startswith(JSON_PREFIXES)


def json_error(error: GatewayError) -> HttpResponse:
    response = HttpResponse(error_bytes(error), status=error.status, content_type="application/json")
    for name, value in error_headers(error):
        response[name.decode()] = value.decode()
    response["Cache-Control"] = "no-store"
    return response


def database_away(error: BaseException | None) -> bool:
    """True when the database is locked or cannot be reached, so that the same request may work later."""
    if isinstance(error, InterfaceError):
        return "closed" in str(error)
    code = getattr(error.__cause__, "sqlite_errorcode", None) if error else None
    return isinstance(error, OperationalError) and (code is None or code & 0xFF in SQLITE_AWAY)


def readable_form(request: HttpRequest) -> bool:
    """False for a form in a charset that fails while it is decoded, as `hex` and `idna` do."""
    if request.content_type != "multipart/form-data" or not request.encoding:
        return True
    return codecs.lookup(request.encoding).name in FORM_CHARSETS


class GatewayErrors:
    """Turns a GatewayError that a plain Django view raised into its own answer."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # Before the CSRF check, which is the first to read a form.
        return self.get_response(request) if readable_form(request) else bad_request(request)

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


def request_id(request: HttpRequest) -> str:
    """Empty where the request did not come through the edge."""
    return str(getattr(request, "scope", {}).get("g4f.request_id", ""))


def unavailable(request: HttpRequest) -> HttpResponse:
    if wants_json(request):
        away = Unavailable("The database is busy or away. Try again.", retry_after=RETRY_AFTER)
        away.named(request_id(request))
        return json_error(away)
    response = HttpResponse(loader.get_template("503.html").render(), status=503)
    response["Retry-After"] = str(RETRY_AFTER)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls this while it handles the exception, be it of a view or of a middleware, and logs that."""
    if database_away(sys.exception()):
        return unavailable(request)
    if wants_json(request):
        return json_error(GatewayError(f"The server had an error. Its log has it under {request_id(request)}."))
    # Whatever broke may break again: this page asks for nothing.
    return HttpResponse(loader.get_template("500.html").render(), status=500)
