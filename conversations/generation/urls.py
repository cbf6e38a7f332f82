"""Routes of running answers."""

from __future__ import annotations

from django.urls import path, re_path

from conversations.generation.consumer import ask, stop, stream

streamed_urlpatterns = [
    path("backend-api/v2/conversation", ask),  # type: ignore[arg-type]
    re_path(r"^backend-api/v2/conversation/\Z", ask),  # type: ignore[arg-type]
    re_path(r"^backend-api/v2/conversation/(?P<conversation>[^/]+)/stream/?\Z", stream),  # type: ignore[arg-type]
    re_path(r"^backend-api/v2/conversation/(?P<conversation>[^/]+)/stop/?\Z", stop),  # type: ignore[arg-type]
]
