"""Routes of prompts."""

from __future__ import annotations

from django.urls import re_path

from conversations.prompts import views

BASE = r"^backend-api/v2/prompts"
urlpatterns = [
    re_path(rf"{BASE}/?\Z", views.Prompts.as_view()),
    re_path(rf"{BASE}/(?P<prompt_id>[^/]+)/?\Z", views.OnePrompt.as_view()),
]
