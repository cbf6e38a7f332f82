"""The pages for people: now the start page, later the chat."""

from django.urls import path

from conversations.views import start

urlpatterns = [path("", start, name="start")]
