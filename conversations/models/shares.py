"""The table of shared chats: copies of conversations that others read by an address."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from conversations.models.conversations import TITLE_CHARS, Conversation

ID_CHARS = 64


class SharedChat(models.Model):
    """A copy of chosen fields. One that was revoked stays as an empty row, so that nobody else gets its address."""

    class Visibility(models.TextChoices):
        LINK = "link", "whoever has the link"
        PRIVATE = "private", "the owner alone"

    id = models.CharField(primary_key=True, max_length=ID_CHARS, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="shared_chats")
    conversation = models.ForeignKey(Conversation, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    title = models.CharField(max_length=TITLE_CHARS, blank=True, default="")
    # Text and not JSON, because PostgreSQL's would change its order, and nothing is looked for in it.
    body = models.TextField(blank=True, default="", help_text="The copy as JSON.")
    updated = models.BigIntegerField(default=0, help_text="The writer's milliseconds; they only grow.")
    digest = models.CharField(max_length=16, blank=True, default="", help_text="Of the copy, for its ETag.")
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.LINK)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-changed_at",)
        indexes = [models.Index(fields=("owner", "revoked_at", "-changed_at"), name="share_list")]

    def __str__(self) -> str:
        return self.id

    @property
    def is_over(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
