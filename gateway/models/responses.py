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
    # Of one in the background, while it is being made: by whom, and until when without another word of it.
    worker = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True)
    streamed = models.BooleanField(default=False, help_text="Whether its events are kept.")

    class Meta:
        verbose_name = "stored response"

    def __str__(self) -> str:
        return self.id


class ResponseEvents(models.Model):
    """Some events of a response in the background, as they are sent: from the `first` number, so many."""

    response = models.ForeignKey(StoredResponse, on_delete=models.CASCADE, related_name="+")
    first = models.PositiveIntegerField()
    count = models.PositiveIntegerField()
    frames = models.TextField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["response", "first"], name="response_events_once"),)
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.response_id} from {self.first}"
