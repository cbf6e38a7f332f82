"""The admin: Django's own, signed into at the common door, with the overview as its first page."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import LogoutView, redirect_to_login
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from gateway.overview import PERIODS, overview


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
            # PostgreSQL takes no NUL in text, and any column may be named in a list's query.
            if any("\x00" in text for values in request.GET.lists() for text in (values[0], *values[1])):
                raise BadRequest
            answer: HttpResponseBase = inner(request, *args, **kwargs)
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
