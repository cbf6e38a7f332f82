"""Routes of conversations under `/backend-api/v2`. Words come before ids."""

from __future__ import annotations

from django.urls import re_path

from conversations.surface import messages, transfer, views

HERE = r"^backend-api/v2/conversations"
ONE = HERE + r"/(?P<conversation_id>[^/]+)"

urlpatterns = [
    re_path(r"^backend-api/v2/me/?\Z", views.Me.as_view()),
    re_path(HERE + r"/?\Z", views.Conversations.as_view()),
    re_path(HERE + r"/bulk/?\Z", views.Bulk.as_view()),
    re_path(HERE + r"/export/?\Z", transfer.ExportAll.as_view()),
    re_path(HERE + r"/import/?\Z", transfer.Import.as_view()),
    re_path(HERE + r"/bin/?\Z", views.Bin.as_view()),
    re_path(HERE + r"/folders/?\Z", views.Folders.as_view()),
    re_path(HERE + r"/tags/?\Z", views.Tags.as_view()),
    re_path(ONE + r"/?\Z", views.One.as_view()),
    re_path(ONE + r"/find/?\Z", views.Find.as_view()),
    re_path(ONE + r"/restore/?\Z", views.Restore.as_view()),
    re_path(ONE + r"/purge/?\Z", views.Purge.as_view()),
    re_path(ONE + r"/export/?\Z", transfer.ExportOne.as_view()),
    re_path(ONE + r"/tree/?\Z", messages.Tree.as_view()),
    re_path(ONE + r"/messages/?\Z", messages.Messages.as_view()),
    re_path(ONE + r"/messages/(?P<message_id>[^/]+)/?\Z", messages.One.as_view()),
]
