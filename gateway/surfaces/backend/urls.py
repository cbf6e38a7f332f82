"""Routes of `/backend-api/v2` that need no conversation."""

from __future__ import annotations

from django.urls import re_path

from gateway.surfaces.backend import views
from gateway.surfaces.backend.create import create

streamed_urlpatterns = [re_path(r"^backend-api/v2/create/?\Z", create)]  # type: ignore[arg-type]

urlpatterns = [
    re_path(r"^backend-api/v2/models/?\Z", views.Models.as_view()),
    # A model's name, which may stand in the place of a provider's, may hold slashes.
    re_path(r"^backend-api/v2/models/(?P<provider>.+?)/?\Z", views.ProviderModels.as_view()),
    re_path(r"^backend-api/v2/providers/?\Z", views.Providers.as_view()),
    re_path(r"^backend-api/v2/quota/(?P<provider>[^/]+)/?\Z", views.Quota.as_view()),
    re_path(r"^backend-api/v2/version/?\Z", views.Version.as_view()),
    re_path(r"^backend-api/v2/usage/?\Z", views.Usage.as_view()),
    re_path(r"^backend-api/v2/usage/(?P<date>[^/]+)/?\Z", views.UsageOfDay.as_view()),
    re_path(r"^backend-api/v2/stats/?\Z", views.Stats.as_view()),
    re_path(r"^backend-api/v2/log/?\Z", views.Log.as_view()),
]
