"""Routes of the Responses API: the one that Channels streams, and those that DRF serves."""

from __future__ import annotations

from django.urls import path, re_path

from gateway.surfaces.responses import views
from gateway.surfaces.responses.consumer import responses

streamed_urlpatterns = [
    path("v1/responses", responses),  # type: ignore[arg-type]
    re_path(r"^v1/responses/\Z", responses),  # type: ignore[arg-type]
    re_path(r"^api/(?P<provider>[^/]+)/responses/?\Z", responses),  # type: ignore[arg-type]
]

DOORS = ("v1", r"api/(?P<provider>[^/]+)")
urlpatterns = [
    re_path(rf"^{door}/responses/(?P<response_id>[^/]+){rest}/?\Z", view.as_view())
    for door in DOORS
    for rest, view in (("", views.Stored), ("/cancel", views.Cancel), ("/input_items", views.InputItems))
]
