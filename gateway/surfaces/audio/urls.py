"""Routes of sound; all are answered by the pipeline, none by Django."""

from __future__ import annotations

from django.urls import re_path

from gateway.surfaces.audio import speech, synthesize, transcriptions

streamed_urlpatterns = [
    re_path(r"^(?:v1|api/(?P<provider>[^/]+))/audio/speech/?\Z", speech.speech),  # type: ignore[arg-type]
    re_path(
        r"^(?:v1|api/(?P<provider>[^/]+))/audio/transcriptions/?\Z",
        transcriptions.transcriptions,  # type: ignore[arg-type]
    ),
    re_path(
        r"^(?:v1|api/(?P<provider>[^/]+))/audio/translations/?\Z",
        transcriptions.translations,  # type: ignore[arg-type]
    ),
    re_path(
        r"^api/(?P<provider>(?i:markitdown))/?\Z",
        transcriptions.transcriptions,  # type: ignore[arg-type]
    ),
    re_path(r"^backend-api/v2/synthesize/(?P<provider>[^/]+)/?\Z", synthesize.synthesize),  # type: ignore[arg-type]
]
