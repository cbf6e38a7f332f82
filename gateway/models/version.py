"""One number that moves with every change of configuration; workers reload when it does."""

from __future__ import annotations

from django.db import models
from django.db.models import F


class ConfigVersion(models.Model):
    number = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def bump(cls) -> None:
        """Takes part in the caller's transaction, so that readers see the change and the number together."""
        if not cls.objects.filter(pk=1).update(number=F("number") + 1):
            cls.objects.get_or_create(pk=1, defaults={"number": 1})

    @classmethod
    def current(cls) -> int:
        return cls.objects.filter(pk=1).values_list("number", flat=True).first() or 0
