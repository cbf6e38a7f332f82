"""The pages for people: the start page and the chat."""

from django.urls import path

from conversations import frames, installable
from conversations.chat_page import chat
from conversations.views import start

urlpatterns = [
    path("", start, name="start"),
    path("chat/", chat, name="chat"),
    path("chat/frame/preview/", frames.preview, name="chat_preview"),
    path("chat/frame/diagram/", frames.diagram, name="chat_diagram"),
    path("chat/offline/", installable.shell, name="chat_offline"),
    path("chat/worker.js", installable.worker, name="chat_worker"),
    path("chat/manifest.webmanifest", installable.manifest, name="chat_manifest"),
    path("chat/<uuid:conversation>/", chat, name="chat_in"),
]
