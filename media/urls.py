"""Routes of stored files."""

from __future__ import annotations

from django.urls import path

from media import views

urlpatterns = [
    path("media/<path:name>", views.Media.as_view()),
    path("images/<path:name>", views.Images.as_view()),
    path("thumbnail/<path:name>", views.Thumbnail.as_view()),
]
