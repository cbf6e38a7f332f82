"""Where each app is mounted."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path
from django.views.generic import RedirectView
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from conversations.memory.urls import urlpatterns as memory_urlpatterns
from conversations.prompts.urls import urlpatterns as prompts_urlpatterns
from conversations.shares.urls import urlpatterns as shares_urlpatterns
from conversations.surface.urls import urlpatterns as conversations_urlpatterns
from g4fsite import health
from g4fsite.setup import SetupView
from g4fsite.setup_provider import FirstProviderView
from gateway.surfaces.backend.urls import urlpatterns as backend_urlpatterns
from gateway.surfaces.openai.urls import urlpatterns as openai_urlpatterns
from gateway.surfaces.responses.urls import urlpatterns as responses_urlpatterns
from media.urls import urlpatterns as media_urlpatterns

handler400 = "g4fsite.pages.bad_request"
handler403 = "g4fsite.pages.permission_denied"
handler404 = "g4fsite.pages.not_found"
handler500 = "g4fsite.pages.server_error"


def no_gui(request: HttpRequest) -> HttpResponse:
    return redirect("/docs/")


urlpatterns = [
    path("version", health.version),
    path("metrics", health.metrics),
    path("schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    path("docs/", login_required(SpectacularSwaggerSplitView.as_view(url_name="schema")), name="docs"),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.account.urls")),
    path("setup/provider/", FirstProviderView.as_view(), name="setup_provider"),
    path("language/", set_language, name="set_language"),
    path("setup/<str:token>/", SetupView.as_view(), name="setup"),
    *([path("", include("conversations.urls"))] if settings.GUI else [path("", no_gui)]),
    *media_urlpatterns,
    # Before those that end in "unknown URL".
    *conversations_urlpatterns,
    *responses_urlpatterns,
    *backend_urlpatterns,
    *memory_urlpatterns,
    *prompts_urlpatterns,
    *shares_urlpatterns,
    *openai_urlpatterns,
]
