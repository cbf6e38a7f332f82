"""Routes of Anthropic's protocol. Its clients append `/v1/messages` to a base URL, such as `/api/{provider}`."""

from __future__ import annotations

from django.urls import path, re_path

from gateway.surfaces.anthropic.consumer import count_tokens, messages

streamed_urlpatterns = [
    path("v1/messages", messages),  # type: ignore[arg-type]
    re_path(r"^v1/messages/?\Z", messages),  # type: ignore[arg-type]
    re_path(r"^v1/messages/count_tokens/?\Z", count_tokens),  # type: ignore[arg-type]
    re_path(r"^api/(?P<provider>[^/]+)/(?:v1/)?messages/?\Z", messages),  # type: ignore[arg-type]
    re_path(r"^api/(?P<provider>[^/]+)/(?:v1/)?messages/count_tokens/?\Z", count_tokens),  # type: ignore[arg-type]
]
