"""Answers under a key that their callers chose, so that a request that is sent again is not done again."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class IdempotentAnswer(models.Model):
    """One request of one user with an `Idempotency-Key`. `gateway.idempotency` has the rules."""

    class State(models.TextChoices):
        RUNNING = "running", "running"
        DONE = "done", "done"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    route = models.CharField(max_length=32)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="HMAC-SHA-256 of what was asked.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    holder = models.CharField(max_length=32, help_text="Who works on it: only they may write the answer.")
    lease_until = models.DateTimeField(null=True, help_text="Of a running one: free again after this.")
    created_at = models.DateTimeField(db_index=True)
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the answer.")
    kind = models.CharField(max_length=16, blank=True, help_text="What the surface made of it, in its own words.")
    body = models.BinaryField(null=True, help_text="None where it was too large to be kept.")
    size = models.PositiveIntegerField(default=0, help_text="Bytes of the body that is kept.")

    class Meta:
        verbose_name = "idempotent answer"
        constraints = [models.UniqueConstraint(fields=["owner", "route", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"{self.route} {self.key}"
