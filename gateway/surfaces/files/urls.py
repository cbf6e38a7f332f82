"""Routes of buckets. g4f's pages leave the beginning away."""

from __future__ import annotations

from django.urls import re_path

from gateway.surfaces.files.consumer import files, files_stream

streamed_urlpatterns = [
    re_path(r"^(?:backend-api/v2/)?files/(?P<bucket>[^/]+)/stream/?\Z", files_stream),  # type: ignore[arg-type]
    re_path(r"^(?:backend-api/v2/)?files/(?P<bucket>[^/]+)/?\Z", files),  # type: ignore[arg-type]
]
