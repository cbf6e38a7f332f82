"""The table of prompts: texts that a user keeps and calls by a word."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

NAME_CHARS = 40
TITLE_CHARS = 200
TEXT_CHARS = 16_000


class Prompt(models.Model):
    """One user's. What stands in it as `{{name}}` is asked for when it is used."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="prompts")
    name = models.CharField(max_length=NAME_CHARS, help_text="The word that calls it, without its slash.")
    title = models.CharField(max_length=TITLE_CHARS, blank=True, default="")
    text = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=("owner", "name"), name="prompt_name_per_owner")]

    def __str__(self) -> str:
        return str(self.id)
