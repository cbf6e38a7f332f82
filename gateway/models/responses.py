"""Answers that were asked to be kept, so that a caller can go on from them by their id."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class StoredResponse(models.Model):
    """One response of `/v1/responses`. Both bodies are JSON text: a database's own JSON takes no NUL."""

    id = models.CharField(primary_key=True, max_length=64)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    # Not a foreign key: the one before may be deleted or purged while this one stays.
    previous_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_index=True)
    input = models.TextField(help_text="The items that were said, a JSON array.")
    response = models.TextField(help_text="The answer, a JSON object.")

    class Meta:
        verbose_name = "stored response"

    def __str__(self) -> str:
        return self.id
