"""The pages for people: the start page and the chat."""

from django.urls import path

from conversations import frames
from conversations.chat_page import chat
from conversations.views import start

urlpatterns = [
    path("", start, name="start"),
    path("chat/", chat, name="chat"),
    path("chat/frame/preview/", frames.preview, name="chat_preview"),
    path("chat/frame/diagram/", frames.diagram, name="chat_diagram"),
    path("chat/<uuid:conversation>/", chat, name="chat_in"),
]
