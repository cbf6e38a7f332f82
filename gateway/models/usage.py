"""What was used: one narrow row per request, and hourly sums that can be rebuilt from them."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class UsageEvent(models.Model):
    """One request that reached the choice of a provider. Append-only; bodies are never stored.

    References carry no database constraint: a row is written in batches after the fact, and must
    outlive the user, key or model that it speaks of.
    """

    class Status(models.TextChoices):
        OK = "ok"
        ERROR = "error"
        CANCELLED = "cancelled", "client left"
        INTERRUPTED = "interrupted", "server stopped"

    request_id = models.CharField(max_length=40, unique=True)
    created_at = models.DateTimeField(db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    api_key = models.ForeignKey(
        "gateway.ApiKey", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False, related_name="+"
    )
    provider = models.ForeignKey(
        "gateway.Provider", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False, related_name="+"
    )
    provider_name = models.CharField(max_length=64, blank=True)
    model = models.CharField(max_length=200, help_text="As the provider's row names it.")
    requested_model = models.CharField(max_length=200, blank=True)
    surface = models.CharField(max_length=24)
    stream = models.BooleanField(default=False)
    status = models.CharField(max_length=12, choices=Status.choices)
    http_status = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=64, blank=True)
    prompt_tokens = models.BigIntegerField(null=True)
    completion_tokens = models.BigIntegerField(null=True)
    cached_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    characters = models.BigIntegerField(null=True, help_text="Of text that was spoken.")
    audio_seconds = models.FloatField("seconds of sound", null=True, help_text="Of recordings that were transcribed.")
    images = models.BigIntegerField(null=True, help_text="Pictures that were made.")
    estimated = models.BooleanField(default=False, help_text="Tokens were counted by the gateway, not by the provider.")
    price = models.ForeignKey(
        "gateway.Price", null=True, on_delete=models.SET_NULL, db_constraint=False, db_index=False, related_name="+"
    )
    cost = models.BigIntegerField(null=True, help_text="Nano-dollars; empty while no price is known.")
    first_token_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField(default=0)
    attempts = models.JSONField(default=list, help_text="What was tried: provider, model, status, code, milliseconds.")

    class Meta:
        verbose_name = "usage"
        verbose_name_plural = "usage"
        ordering = ("-id",)
        # Upwards, though the newest rows are read first: SQLite adds for less at the end of an index than at its front.
        indexes = [
            models.Index(fields=("user", "id")),
            models.Index(fields=("api_key", "id")),
            models.Index(fields=("provider", "id")),
            # Most rows went well, and nobody looks for those by this. Queries must say so: see `not_ok`.
            models.Index(fields=("status", "id"), condition=~models.Q(status="ok"), name="gateway_usage_not_ok"),
        ]

    def __str__(self) -> str:
        return self.request_id


def not_ok(status: str) -> models.Q:
    """Rows of a status that is not `ok`, in the words by which a database knows that its index of those will do."""
    return models.Q(status=status) & ~models.Q(status=UsageEvent.Status.OK)


class UsageHour(models.Model):
    """Sums of one closed hour by provider; made when first read, dropped when a late row arrives."""

    hour = models.DateTimeField()
    provider_name = models.CharField(max_length=64, blank=True)
    requests = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cost = models.BigIntegerField(default=0)
    latency_ms = models.BigIntegerField(default=0, help_text="Sum over requests that produced a first token.")
    latency_count = models.BigIntegerField(default=0)
    # Counts of first tokens by time: gateway.dashboard names the upper bounds.
    latency_buckets = models.JSONField(default=list)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("hour", "provider_name"), name="usage_hour_once")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.provider_name}"
