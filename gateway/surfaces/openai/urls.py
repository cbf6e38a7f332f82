"""Routes of `/v1` and `/api/{provider}`: those that Channels streams, and those that DRF serves."""

from __future__ import annotations

from django.urls import path, re_path

from gateway.surfaces import cookies
from gateway.surfaces.openai import calls, completions, pictures, views
from gateway.surfaces.openai.consumer import chat_by_path, chat_completions

# Hot routes first: Channels' router tries them one after the other.
streamed_urlpatterns = [
    # A plain path is compared, an expression is matched: this is what nearly everybody asks for.
    path("v1/chat/completions", chat_completions),  # type: ignore[arg-type]
    re_path(r"^v1/chat/completions/?\Z", chat_completions),  # type: ignore[arg-type]
    re_path(r"^api/(?P<provider>[^/]+)/chat/completions/?\Z", chat_completions),  # type: ignore[arg-type]
    re_path(r"^api/(?P<provider>[^/]+)/(?P<conversation_id>[^/]+)/chat/completions/?\Z", chat_by_path),  # type: ignore[arg-type]
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/completions/?\Z", completions.completions),  # type: ignore[arg-type]
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/embeddings/?\Z", calls.embeddings),  # type: ignore[arg-type]
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/moderations/?\Z", calls.moderations),  # type: ignore[arg-type]
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/rerank/?\Z", calls.rerank),  # type: ignore[arg-type]
    re_path(r"^v1/media/generate/?\Z", pictures.images),  # type: ignore[arg-type]
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/images/generat(?:ions|e)/?\Z", pictures.images),  # type: ignore[arg-type]
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/images/edits/?\Z", pictures.edits),  # type: ignore[arg-type]
]

urlpatterns = [
    re_path(r"^v1/models/?\Z", views.Models.as_view()),
    path("v1/models/<path:name>", views.Model.as_view()),
    re_path(r"^v1/providers/?\Z", views.Providers.as_view()),
    path("v1/providers/<str:provider>", views.Provider.as_view()),
    re_path(r"^api/(?P<provider>[^/]+)/models/?\Z", views.ProviderModels.as_view()),
    re_path(r"^v1/upload_cookies/?\Z", cookies.UploadCookies.as_view()),
    re_path(r"^backend-api/v2/upload_cookies/?\Z", cookies.UploadCookieFile.as_view()),
    re_path(r"^(?:v1|api|backend-api)(?:/.*)?\Z", views.UnknownUrl.as_view()),
]
