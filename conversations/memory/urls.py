"""Routes of memory."""

from __future__ import annotations

from django.urls import re_path

from conversations.memory import views

BASE = r"^backend-api/v2/memory/(?P<user_id>[^/]+)"
urlpatterns = [
    re_path(rf"{BASE}/?\Z", views.Items.as_view()),
    re_path(rf"{BASE}/settings/?\Z", views.Settings.as_view()),
    re_path(rf"{BASE}/(?P<item>[^/]+)/?\Z", views.Item.as_view()),
]
