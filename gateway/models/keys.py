"""API keys: an id that may be seen, and a keyed digest of the whole, never the key itself."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone

SURFACES = ("v1", "api", "backend")
MOST_PER_MINUTE = 2_000_000_000
MOST_STREAMS = 32_767


def digest_of(key: bytes) -> bytes:
    """HMAC-SHA-256 under the server's pepper, so that a key of any form and length is looked up alike."""
    return hmac.digest(settings.KEY_PEPPER.encode(), key, "sha256")


def new_key() -> str:
    """`sk-gw-`, 8 public characters, and 32 random bytes."""
    public = secrets.token_hex(4)
    return f"sk-gw-{public}-{secrets.token_urlsafe(32)}"


def check_cidrs(value: Any) -> None:
    if not isinstance(value, list):
        raise ValidationError("Give a list of addresses or networks.")
    for item in value:
        try:
            ipaddress.ip_network(str(item), strict=False)
        except ValueError:
            raise ValidationError(f"{item!r} is not an address or a network.") from None


def check_names(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValidationError("Give a list of names.")


def check_surfaces(value: Any) -> None:
    check_names(value)
    unknown = set(value) - set(SURFACES)
    if unknown:
        raise ValidationError(f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(SURFACES)}.")


def per_minute() -> models.PositiveIntegerField[int | None, int | None]:
    """Empty: no limit. The bound is what every database can hold."""
    bounds = [MinValueValidator(1), MaxValueValidator(MOST_PER_MINUTE)]
    return models.PositiveIntegerField(null=True, blank=True, validators=bounds, help_text="Empty: no limit.")


def open_streams() -> models.PositiveSmallIntegerField[int | None, int | None]:
    """Empty: no limit."""
    return models.PositiveSmallIntegerField(
        "open streams",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_STREAMS)],
        help_text="At once. Empty: no limit.",
    )


class ApiKey(models.Model):
    """A key of one user. `make` gives the plain key once; the row can never give it again."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=24, editable=False, db_index=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    surfaces = models.JSONField(default=list, blank=True, validators=[check_surfaces], help_text="Empty: all.")
    networks = models.JSONField(
        default=list, blank=True, validators=[check_cidrs], help_text="Addresses it may be used from. Empty: any."
    )
    valid_from = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    requests_per_minute = per_minute()
    tokens_per_minute = per_minute()
    max_streams = models.PositiveSmallIntegerField(
        "open streams",
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_STREAMS)],
        help_text="At once. Empty: MAX_STREAMS_PER_KEY in each worker. 0: no limit.",
    )
    cache_answers = models.BooleanField(
        "same answer again", default=False, help_text="Whoever asks exactly the same again gets the answer kept of it."
    )
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaces = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # Last, because from here on `models` is this field and no longer Django's module.
    models = models.JSONField(default=list, blank=True, validators=[check_names], help_text="Model ids. Empty: all.")

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}...)"

    @classmethod
    def make(cls, user: Any, name: str, *, key: str | None = None, **fields: Any) -> tuple[ApiKey, str]:
        """Returns the row and the plain key; `key` lets an operator bring one of any form."""
        plain = key or new_key()
        # Of a key that others made only as much is shown as cannot help to guess it.
        prefix = plain[:14] if plain.startswith("sk-gw-") else plain[: min(4, len(plain) // 8)]
        row = cls(user=user, name=name, prefix=prefix, digest=digest_of(plain.encode()).hex(), **fields)
        row.full_clean(exclude=["user"])
        row.save()
        return row, plain

    def rotate(self, grace: timedelta) -> tuple[ApiKey, str]:
        """A successor with the same rights; this one goes on for `grace`."""
        with transaction.atomic():
            row, plain = ApiKey.make(
                self.user,
                self.name,
                surfaces=self.surfaces,
                models=self.models,
                networks=self.networks,
                expires_at=self.expires_at,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                max_streams=self.max_streams,
                cache_answers=self.cache_answers,
                replaces=self,
            )
            end = timezone.now() + grace
            self.expires_at = min(self.expires_at, end) if self.expires_at else end
            self.save()
        return row, plain

    def revoke(self) -> None:
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save()

    def state(self, now: datetime | None = None) -> str:
        """`active`, `revoked`, `expired`, `not yet valid` or `user inactive`."""
        now = now or timezone.now()
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= now:
            return "expired"
        if self.valid_from and self.valid_from > now:
            return "not yet valid"
        return "active" if self.user.is_active else "user inactive"


class UserLimits(models.Model):
    """What all keys and sessions of one user may do together in a minute, and at once."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="limits"
    )
    requests_per_minute = per_minute()
    tokens_per_minute = per_minute()
    max_streams = open_streams()

    class Meta:
        verbose_name = verbose_name_plural = "limits"

    def __str__(self) -> str:
        return f"limits of {self.user}"
