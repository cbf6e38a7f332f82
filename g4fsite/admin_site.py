"""The admin: Django's own, signed into at the common door, with the overview as its first page."""

from __future__ import annotations

import logging
import re
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import TO_FIELD_VAR
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import LogoutView, redirect_to_login
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db import DataError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme

from g4fsite.pages import database_away
from gateway.overview import PERIODS, overview
from gateway.route_page import may_explain, route_context

ROW = re.compile(r"[0-9]{1,18}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = logging.getLogger(__name__)


def is_readable(request: HttpRequest) -> bool:
    """False for what Django's admin would fail over. Every row in this admin is named by a number or a UUID."""
    # PostgreSQL takes no NUL in text, and any column may be named in a list's query.
    if any("\x00" in text for name, values in request.GET.lists() for text in (name, *values)):
        return False
    fields = {*request.GET.getlist(TO_FIELD_VAR), *request.POST.getlist(TO_FIELD_VAR)}
    chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
    return fields <= {"", "id"} and all(ROW.fullmatch(text) for text in chosen)


def is_list(request: HttpRequest) -> bool:
    """True for a list that the query narrows down."""
    match = request.resolver_match
    return bool(request.GET and match and (match.url_name or "").endswith("_changelist"))


class GatewayAdminSite(AdminSite):
    site_header = "g4fsite"
    site_title = "g4fsite admin"
    index_title = "Overview"
    index_template = "admin/gateway/index.html"
    enable_nav_sidebar = False

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        @wraps(inner)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not is_readable(request):
                raise BadRequest
            try:
                answer: HttpResponseBase = inner(request, *args, **kwargs)
            except ValidationError as error:
                # A number where rows have UUIDs.
                raise BadRequest from error
            except (ValueError, OverflowError, DataError, OperationalError) as error:
                # Any lookup may stand in a list's query, and some take a value only to fail in the database.
                if not is_list(request) or database_away(error):
                    raise
                log.warning("a list in the admin could not be read: %s", type(error).__name__, exc_info=error)
                raise BadRequest from error
            return answer

        return checked

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The common sign-in page, where attempts are limited; who is signed in but not staff is refused."""
        target = request.GET.get(REDIRECT_FIELD_NAME, "")
        if not url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure()):
            target = reverse("admin:index")
        if self.has_permission(request):
            return HttpResponseRedirect(target)
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(target, resolve_url(settings.LOGIN_URL))

    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseBase:  # type: ignore[override]
        return LogoutView.as_view(next_page=settings.ACCOUNT_LOGOUT_REDIRECT_URL)(request)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [path("route/", self.admin_view(self.route), name="route"), *super().get_urls()]

    def route(self, request: HttpRequest) -> TemplateResponse:
        """Where a request would go."""
        if not may_explain(request):
            raise PermissionDenied
        context = {**self.each_context(request), "title": "Where a request goes", **route_context(request)}
        request.current_app = self.name
        return TemplateResponse(request, "admin/gateway/route.html", context)

    def index(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        context = {**(extra_context or {})}
        if request.user.has_perm("gateway.view_usageevent"):
            key = request.GET.get("period", "24h")
            context |= {
                "overview": overview(key, request.GET.get("provider", "")[:64]),
                "periods": PERIODS.values(),
                "may_open_providers": request.user.has_perm("gateway.view_provider")
                or request.user.has_perm("gateway.change_provider"),
                "may_add_providers": request.user.has_perm("gateway.add_provider"),
            }
        return super().index(request, context)
