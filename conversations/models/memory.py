"""The tables of memory: what is remembered of a user, and whether chats may use it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

NAMESPACE_CHARS = 100
TEXT_CHARS = 4000
ID_CHARS = 100


class Memory(models.Model):
    """One user's. The row is what writers lock; without one nothing is remembered yet, and chats use nothing."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="memory"
    )
    used_in_chats = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "memories"

    def __str__(self) -> str:
        return str(self.owner_id)


class MemoryItem(models.Model):
    """Something that is remembered. `id` is the database's own, for its full-text index; `key` is what is shown."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memory_items")
    namespace = models.CharField(
        max_length=NAMESPACE_CHARS, blank=True, default="", help_text="Empty: the user's own memory."
    )
    text = models.CharField(max_length=TEXT_CHARS)
    role = models.CharField(max_length=20, blank=True, default="", help_text="Who said it; empty for facts.")
    conversation_id = models.CharField(max_length=ID_CHARS, blank=True, default="", help_text="As its sender named it.")
    metadata = models.JSONField(blank=True, default=dict)
    embedding = models.BinaryField(null=True, help_text="32-bit floats of length 1.")
    embedding_model = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=("owner", "namespace", "-id"), name="memory_list")]

    def __str__(self) -> str:
        return str(self.key)
