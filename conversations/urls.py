"""The pages for people: the start page and the chat."""

from django.urls import path

from conversations.chat_page import chat
from conversations.views import start

urlpatterns = [
    path("", start, name="start"),
    path("chat/", chat, name="chat"),
    path("chat/<uuid:conversation>/", chat, name="chat_in"),
]
