"""Routes of shared chats: those of the API, and the page."""

from __future__ import annotations

from django.urls import path, re_path

from conversations.shares import pages, views

BASE = r"^backend-api/v2/chat"
urlpatterns = [
    re_path(rf"{BASE}/?\Z", views.Shares.as_view()),
    re_path(rf"{BASE}/(?P<share_id>[^/]+)/?\Z", views.Share.as_view()),
    re_path(rf"{BASE}/(?P<share_id>[^/]+)/continue/?\Z", views.Continue.as_view()),
    path("chat/share/<str:share_id>", pages.shared, name="shared_chat"),
]
