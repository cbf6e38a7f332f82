"""The one table of the site itself: one-time links that set the first or a forgotten administrator's password."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

LIFETIME = timedelta(minutes=15)


def expiry() -> object:
    return timezone.now() + LIFETIME


class SetupToken(models.Model):
    """Only the digest of the token is kept. Without a user the link makes the first superuser."""

    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField(default=expiry)
    used_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"setup link {self.pk}"

    def usable(self) -> bool:
        return self.used_at is None and self.expires_at > timezone.now()

    def take(self) -> bool:
        """Marks it used; False when somebody else was first or it is too late."""
        rows = SetupToken.objects.filter(pk=self.pk, used_at=None, expires_at__gt=timezone.now())
        return bool(rows.update(used_at=timezone.now()))
